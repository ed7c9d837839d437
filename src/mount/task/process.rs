//! The process.

use std::io::{BufRead as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsPickFlags, OpenTreeFlags, UnmountFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick, open_tree, unmount,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Context as _, Error, Result};
use crate::fuse::{self, Connection};
use crate::mount::live::{self, open_dir};
use crate::mount::ourselves::begin;
use crate::mount::task::{Action, Order, Outcome, write_out};
use crate::sys::call;

/// How often it is looked at once whether all requests are answered, and then how long is waited before the next look.
const LOOKS: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(1);
/// How long a mount that stays is waited for to have no request unanswered.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);
/// For how long it is tried to unmount what a process uses, and how long is waited between two tries.
const BUSY_PATIENCE: Duration = Duration::from_millis(500);
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Does what standard input says, and says on standard output how that went.
///
/// # Errors
/// When it cannot read or say it.
pub fn mount_task() -> Result<()> {
    let begun = begin();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).doing("read an order on", "standard input")?;
    let order: Order = serde_json::from_str(&line).map_err(|error| {
        Error::Usage(format!("{} is for layerctl's own use: {error}", crate::mount::task::MOUNT_TASK))
    })?;
    // error: it is what is said of the outcome
    let outcome = begun
        .and_then(|()| perform(&order))
        .unwrap_or_else(|error| Outcome::Failed { message: error.to_string(), code: error.exit_code() });
    let mut line = serde_json::to_vec(&outcome).doing("write an answer to", "standard output")?;
    line.push(b'\n');
    std::io::stdout().lock().write_all(&line).doing("write an answer to", "standard output")
}

fn perform(order: &Order) -> Result<Outcome> {
    let mountpoint = PathBuf::from(order.mountpoint.clone());
    let mounts = || order.namespace_of.map_or_else(fuse::mounts, fuse::mounts_of);
    let is_it =
        |mount: &&fuse::Mount| mount.is_ours() && order.device.as_deref().is_none_or(|device| mount.device() == device);
    let here: Vec<_> = mounts()?.into_iter().filter(|mount| mount.mountpoint == mountpoint).collect();
    let Some(mount) = here.last().filter(is_it) else {
        return Ok(if here.iter().any(|mount| is_it(&mount)) { Outcome::Covered } else { Outcome::Gone });
    };
    let connection = Connection::of(mount.device())?;
    // Another mount namespace may not have the store.
    let server = match order.live.clone().map(PathBuf::from) {
        Some(dir) => match open_dir(&dir) {
            // It has just ended.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            dir => Some(dir?),
        },
        None => None,
    };
    if let Some(process) = order.namespace_of {
        enter_namespace(process)?;
    }
    let target = Target { mountpoint: &mountpoint, connection, server };
    match target.carry_out(order.action) {
        // Another process has just unmounted it, and its server has removed the directory.
        Err(Error::Io { path, source, .. })
            if source.kind() == std::io::ErrorKind::NotFound
                && path == mountpoint
                // In another mount namespace `/proc` may be anything.
                && order.namespace_of.is_none()
                && !mounts()?.iter().any(|mount| mount.mountpoint == mountpoint && is_it(&mount)) =>
        {
            Ok(Outcome::Gone)
        }
        outcome => outcome,
    }
}

fn enter_namespace(process: u32) -> Result<()> {
    let path = format!("/proc/{process}/ns/mnt");
    let namespace = call::open(&*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).doing("open", &path)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).doing("enter", &path)
}

/// What the server says that is registered at `dir`.
fn lost(dir: &OwnedFd) -> Result<Option<String>> {
    // There may be no `/proc` by which a socket of a long path could be found.
    rustix::process::fchdir(dir).doing("enter", "the registration of a mount")?;
    Ok(live::ask(Path::new("."))?.and_then(|live| live.lost))
}

/// Opens the root of the mount; none when the mount's server is gone.
fn open(mountpoint: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match call::open(mountpoint, flags, Mode::empty()) {
        Err(Errno::NOTCONN | Errno::CONNABORTED) => Ok(None),
        opened => opened.map(Some).doing("open", mountpoint),
    }
}

struct Target<'a> {
    mountpoint: &'a Path,
    connection: Option<Connection>,
    server: Option<OwnedFd>,
}

impl Target<'_> {
    fn carry_out(self, action: Action) -> Result<Outcome> {
        match action {
            Action::End => self.end(UnmountFlags::empty()),
            Action::EndInUse => self.end(UnmountFlags::DETACH),
            Action::Abort => {
                // `MNT_FORCE` ends the connection (fs/fuse/inode.c, `fuse_umount_begin`), also for other mount namespaces.
                let outcome = self.unmount(UnmountFlags::DETACH | UnmountFlags::FORCE)?;
                self.abort()?;
                Ok(outcome)
            }
            Action::Detach => self.unmount(UnmountFlags::DETACH),
            Action::Flush => {
                let root = open(self.mountpoint)?;
                let is_written = self.flush(root.as_ref(), Some(FLUSH_PATIENCE))?;
                Ok(if is_written { Outcome::Done { lost: None } } else { Outcome::Busy })
            }
            Action::WriteOut => self.write_out(),
            Action::Synchronous(is_synchronous) => self.set_synchronous(is_synchronous),
        }
    }

    /// All that was written goes to the server; then the mount ends.
    fn end(self, flags: UnmountFlags) -> Result<Outcome> {
        // A second mount of the same file system, at no path: it does not keep the mountpoint busy, and what programs write
        // until the visible mount has gone can still be flushed through it.
        let kept = self.hidden_root()?;
        match &kept {
            Some(root) => self.flush(Some(root), None)?,
            None => {
                let root = open(self.mountpoint)?;
                self.flush(root.as_ref(), None)?
            }
        };
        match self.unmount(flags)? {
            Outcome::Done { .. } => {}
            other => return Ok(other),
        }
        self.flush(kept.as_ref(), None)?;
        let lost = self.server.as_ref().map_or(Ok(None), lost);
        // If nothing else has it, it ends here, after the kernel has written all to the server once more.
        drop(kept);
        self.abort()?;
        Ok(Outcome::Done { lost: lost? })
    }

    /// `None` where the kernel or a sandbox does not allow that, or the server is gone.
    fn hidden_root(&self) -> Result<Option<OwnedFd>> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = match open_tree(CWD, self.mountpoint, flags) {
            // Before Linux 5.2, a sandbox that does not know the call, a mount that may not be copied.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => return Ok(None),
            Err(Errno::NOTCONN | Errno::CONNABORTED) => return Ok(None),
            tree => tree.doing("open", self.mountpoint)?,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match call::openat(&tree, ".", flags, Mode::empty()) {
            Err(Errno::NOTCONN | Errno::CONNABORTED) => Ok(None),
            opened => opened.map(Some).doing("open", self.mountpoint),
        }
    }

    /// Waits until the server has answered all that was written. Since Linux 6.18 `syncfs` of a FUSE mount only begins
    /// that (`AS_NO_DATA_INTEGRITY`, fs/fs-writeback.c).
    ///
    /// It is known when no request is unanswered; a mount in which programs work may not come to that in time. Then it gives
    /// false.
    fn flush(&self, root: Option<&OwnedFd>, patience: Option<Duration>) -> Result<bool> {
        let Some(root) = root else { return Ok(true) };
        match call::syncfs(root) {
            Ok(()) => {}
            Err(Errno::NOTCONN | Errno::CONNABORTED) => return Ok(true),
            // The server could not write data, now or earlier: it counts such losses, and reports them to each client that asks.
            Err(Errno::IO | Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::NOMEM | Errno::ROFS) => {}
            Err(error) => return Err(error).doing("flush", self.mountpoint),
        }
        let Some(connection) = &self.connection else { return Ok(false) };
        let began = Instant::now();
        let mut looks = 0u32;
        while connection.waiting()? > 0 {
            if patience.is_some_and(|patience| began.elapsed() >= patience) {
                return Ok(false);
            }
            looks = looks.saturating_add(1);
            if looks > LOOKS {
                std::thread::sleep(PAUSE);
            } else {
                std::thread::yield_now();
            }
        }
        Ok(true)
    }

    fn unmount(&self, flags: UnmountFlags) -> Result<Outcome> {
        let began = Instant::now();
        loop {
            match unmount(self.mountpoint, flags | UnmountFlags::NOFOLLOW) {
                Ok(()) => return Ok(Outcome::Done { lost: None }),
                // One that looks at all mounts, or remounts this one, has it for a moment only.
                Err(Errno::BUSY) if began.elapsed() < BUSY_PATIENCE => std::thread::sleep(BUSY_PAUSE),
                Err(Errno::BUSY) => return Ok(Outcome::Busy),
                // Another process has just unmounted it.
                Err(Errno::INVAL | Errno::NOENT) => return Ok(Outcome::Gone),
                Err(error) => return Err(error).doing("unmount", self.mountpoint),
            }
        }
    }

    /// Where the connection cannot be ended, the mount ends with the last mount namespace that has it.
    fn abort(&self) -> Result<()> {
        self.connection.as_ref().map_or(Ok(()), Connection::abort)
    }

    fn write_out(&self) -> Result<Outcome> {
        write_out::answer_all(|| match self.hidden_root()? {
            Some(root) => Ok(Some(root)),
            None => open(self.mountpoint),
        })?;
        Ok(Outcome::Done { lost: None })
    }

    fn set_synchronous(&self, is_synchronous: bool) -> Result<Outcome> {
        let flag = if is_synchronous { "sync" } else { "async" };
        let picked = fspick(CWD, self.mountpoint, FsPickFlags::FSPICK_CLOEXEC).doing("remount", self.mountpoint)?;
        fsconfig_set_flag(picked.as_fd(), flag).doing("remount", self.mountpoint)?;
        fsconfig_reconfigure(picked.as_fd()).doing("remount", self.mountpoint)?;
        if is_synchronous {
            // What was gathered before is not told to its program any more: until the server has it, a failure is a loss.
            let root = open(self.mountpoint)?;
            if !self.flush(root.as_ref(), Some(FLUSH_PATIENCE))? {
                return Ok(Outcome::Busy);
            }
        }
        Ok(Outcome::Done { lost: None })
    }
}
