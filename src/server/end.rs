//! The ways in which a server's own mount ends: by a signal, or by the end of the process that wanted it.
//!
//! A server never waits for its own mount, so that each of these is the work of [another process](crate::mount::task).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use super::log::log;
use crate::error::{Context as _, Error, Result};
use crate::fuse::{self, Mount};
use crate::mount::live;
use crate::mount::task::{Action, Order, Outcome, Task};

/// How long is waited before it is tried again to unmount.
const RETRY: Duration = Duration::from_millis(500);
const TRIES: u32 = 120;
/// The same after that many tries, while something else is mounted over it.
const COVERED_RETRY: Duration = Duration::from_secs(5);

/// A signal to end is an order to unmount: what still uses the mount is served to the end.
pub(super) fn end_on_signals(mount: &Mount) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let listening = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = listening.doing("listen for signals to", &mount.mountpoint)?;
    let mount = mount.clone();
    thread("signals", move || {
        for _ in signals.forever() {
            carry_out(&mount, Action::Detach);
        }
    })
}

/// The caller of the command sees the end of our standard output, kills the command, and then lets go of the mount.
pub(super) fn give_up_on_signal(mountpoint: &Path) -> Result<()> {
    let listening = signal_hook::iterator::Signals::new([live::END_COMMAND.as_raw()]);
    let mut signals = listening.doing("listen for signals to", mountpoint)?;
    // Opened now, so that nothing is wanted for it later.
    let nowhere = File::options().write(true).open("/dev/null").doing("open", "/dev/null")?;
    thread("command", move || {
        if signals.forever().next().is_some()
            && let Err(error) = rustix::io::retry_on_intr(|| rustix::stdio::dup2_stdout(&nowhere))
        {
            log(&Error::Io { doing: "close", path: "standard output".into(), source: error.into() });
        }
    })
}

/// When the caller that wanted the mount is gone, however that came, the mount goes too. With a container that is `removed`
/// then, nothing of what was written is wanted.
pub(super) fn end_with_stdin(mount: &Mount, removed: bool) -> Result<()> {
    let mount = mount.clone();
    thread("owner", move || {
        // The caller lives until the end is read.
        while let Err(error) = std::io::stdin().lock().read_to_end(&mut Vec::new()) {
            log(&Error::Io { doing: "read", path: "-".into(), source: error });
            std::thread::sleep(RETRY);
        }
        if removed && is_aborted(&mount) {
            return;
        }
        carry_out(&mount, Action::EndInUse);
    })
}

/// Ends the mount without its data, unless something else is mounted over it. The connection ends first (`MNT_FORCE`), so that
/// this process does not wait for itself.
fn is_aborted(mount: &Mount) -> bool {
    let aborted = fuse::mount_at(&mount.mountpoint).and_then(|there| match there {
        Some(there) if there == *mount => fuse::abort(&mount.mountpoint).map(|()| true),
        _ => Ok(false),
    });
    // error: it is logged, and the mount ended in the other way
    aborted.unwrap_or_else(|error| {
        log(&error);
        false
    })
}

/// Makes the mount synchronous, or not any more.
pub(super) fn remount(mount: &Mount) -> fuse::Remount {
    let mount = mount.clone();
    Box::new(move |is_synchronous| {
        let order = order(&mount, Action::Synchronous(is_synchronous));
        match Task::start(&order).and_then(Task::end) {
            Ok(Outcome::Done { .. }) => true,
            // It is unmounted and about to end, or covered: what it gathers is lost if there is no room, and said.
            Ok(_) => false,
            Err(error) => {
                log(&error);
                false
            }
        }
    })
}

/// What is to be done to the mount of this process, which must not wait for it itself.
pub(super) fn order(mount: &Mount, action: Action) -> Order {
    Order {
        mountpoint: mount.mountpoint.as_path().into(),
        device: Some(mount.device().to_owned()),
        namespace_of: None,
        live: None,
        action,
    }
}

/// Has it done. It is tried again, since without it the mount would never end.
fn carry_out(mount: &Mount, action: Action) {
    let order = order(mount, action);
    let mut tries = 0u32;
    loop {
        let outcome = Task::start(&order).and_then(Task::end);
        tries = tries.saturating_add(1);
        match outcome {
            Ok(Outcome::Done { .. } | Outcome::Gone) => return,
            // Something else is mounted over it, which the mount may outlive.
            Ok(Outcome::Covered) if tries >= TRIES => {
                std::thread::sleep(COVERED_RETRY);
                continue;
            }
            Ok(Outcome::Busy | Outcome::Covered | Outcome::Failed { .. }) => {}
            Err(error) => log(&error),
        }
        if tries >= TRIES {
            break;
        }
        std::thread::sleep(RETRY);
    }
    // No other process can do it. This one waits for itself then, which has an end as long as it is not killed. What is
    // mounted over it is another's and stays.
    if let Err(error) = fuse::detach_only(mount) {
        log(&error);
    }
}

pub(super) fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).doing("start a thread for", name)
}
