//! A command whose tree is an overlay that is in the command's mount namespace only, and goes with it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::fs::Mode;

use crate::container::{self, Ended, Spec, Streams};
use crate::error::{Context as _, Error, Result};
use crate::mount::kernel::freezer::recover;
use crate::mount::kernel::image_mount::tidy;
use crate::mount::kernel::overlay::Prepared;
use crate::mount::kernel::requests::{self, Breaker, Requests};
use crate::mount::live::{open_dir, socket_path};
use crate::store::{Container, ContainerState, MountRecord, Store};
use crate::sys::{call, fs};

/// The socket in the container's directory: a process that connects to it has the command killed.
const SOCKET: &str = "end";
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// Runs a command in a container, whose lock the caller holds, with an overlay at `mountpoint`.
///
/// # Errors
/// As [`container::run`].
pub(crate) fn run(
    store: &Store,
    container: &Container,
    prepared: Prepared,
    mountpoint: &Path,
    (spec, streams): (Spec, &Streams),
    has_run: &AtomicBool,
) -> Result<Ended> {
    prepared.wait_for_upper(container)?;
    let record = prepared.record(mountpoint, true, false);
    let (host, held) = std::io::pipe().doing("make", "a pipe")?;
    remove_socket(container, requests::SOCKET)?;
    let requests = Requests::listen(container)?;
    listen(container, held.into(), requests.breaker())?;
    store.set_mount(container, &record)?;
    let spec = Spec { rootfs: mountpoint.to_owned(), overlay: Some(prepared.overlay.clone()), ..spec };
    let ended = container::run(&spec, streams, host.as_fd(), has_run);
    drop(requests);
    let removed = remove_socket(container, SOCKET).and(remove_socket(container, requests::SOCKET));
    // From here on the kernel has only to let it go.
    drop(prepared);
    store.set_mount(container, &MountRecord { ended: true, ..record })?;
    removed.and(tidy(store, container.record.image)).and(ended)
}

fn listen(container: &Container, held: OwnedFd, breaker: Breaker) -> Result<()> {
    remove_socket(container, SOCKET)?;
    let dir = container.dir();
    let handle = open_dir(&dir)?;
    let path = socket_path(&handle, SOCKET);
    let listener = UnixListener::bind(&path).doing("listen at", &dir)?;
    call::chmod(&path, Mode::RWXU).doing("listen at", &dir)?;
    let run = move || {
        while let Err(error) = listener.accept() {
            // error: the process that asks waits until there is a descriptor to answer with
            drop(error);
            std::thread::sleep(PAUSE);
        }
        // In cgroup v1 a kill ends nothing that is frozen.
        breaker.break_off();
        drop(held);
    };
    std::thread::Builder::new().name("end".to_owned()).spawn(run).map(drop).doing("start a thread for", dir)
}

fn remove_socket(container: &Container, name: &str) -> Result<()> {
    let path = container.dir().join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("remove", path),
    }
}

/// Has the command of a container killed, and waits until its caller has put all in order.
///
/// # Errors
/// [`Error::Unsupported`] when that takes too long.
pub(crate) fn stop(container: &Container, mount: &MountRecord) -> Result<()> {
    let handle = open_dir(&container.dir())?;
    match UnixStream::connect(socket_path(&handle, SOCKET)) {
        // Its caller is ending, or was killed.
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {}
        connected => drop(connected.doing("end the command of", container.dir())?),
    }
    let began = Instant::now();
    loop {
        // With `--rm` its caller removes it.
        let record = container.dir().join("record.json");
        if !fs::is_there(&record).doing("read", &record)? {
            return Ok(());
        }
        if !matches!(container.state()?, ContainerState::Running | ContainerState::Dead) {
            // Its caller writes that down before it lets go.
            match container.lock_record() {
                Err(Error::InUse { .. }) => {}
                Err(Error::NotFound { .. }) => return Ok(()),
                lock => return lock.map(drop),
            }
        }
        if !container.has_command(mount)? {
            recover(container)?;
        }
        if began.elapsed() > PATIENCE {
            let name = &container.record.name;
            return Err(Error::Unsupported(format!("container {name}: its command was killed and does not end")));
        }
        std::thread::sleep(PAUSE);
    }
}
