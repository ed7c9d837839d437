//! An overlay that is read-only for a while: its file system is made so, and each mount of it keeps its own flags. So the overlay that
//! a killed process has left read-only is told from one that the user has made so, whose mount is read-only, too.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::fuse;
use crate::mount::wait::{STEP, Wait};
use crate::store::{Container, MountRecord};
use crate::sys::{self, call};

/// Takes the lock of a container without a command: what makes its overlay read-only and writable again has that lock meanwhile.
///
/// # Errors
/// [`Error::NotFound`] when the container is gone.
pub(crate) fn wait_for_lock(container: &Container) -> Result<File> {
    let what = format!("container {}: another command has read or ended it", container.record.name);
    let mut wait = Wait::new(what, None, Duration::MAX);
    loop {
        match container.lock_record() {
            Err(Error::InUse { .. }) => {
                wait.goes_on()?;
                std::thread::sleep(STEP);
            }
            lock => return lock,
        }
    }
}

/// The root of the overlay, by which nothing else is changed than it; none when it is not in this mount namespace.
///
/// # Errors
/// [`Error::InUse`] when something else is mounted over it.
pub(super) fn root_of(container: &Container, mount: &MountRecord) -> Result<Option<OwnedFd>> {
    let at = &mount.mountpoint;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match call::open(at, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        root => root.doing("open", at)?,
    };
    // Without the attributes of the root, which a dead server of the image does not give.
    let id = sys::mount_id(root.as_fd()).doing("look at", at)?;
    match container.overlay_here(mount)? {
        None => Ok(None),
        Some(line) if line.id == id => Ok(Some(root)),
        Some(_) => fuse::mount_at(at)?.map_or(Ok(None), |over| Err(over.in_the_way())),
    }
}

/// The root of the overlay of a container without a command.
///
/// # Errors
/// [`Error::InUse`] when it is in another mount namespace only, or something else is mounted over it.
pub(crate) fn root(container: &Container, mount: &MountRecord) -> Result<OwnedFd> {
    let elsewhere =
        "it is mounted in another mount namespace only: copy where it is mounted, or when it is not".to_owned();
    let in_use = || Error::InUse { kind: "container", name: container.record.name.clone(), by: elsewhere };
    root_of(container, mount)?.ok_or_else(in_use)
}

/// Makes the overlay read-only; false when a process has a file open to write to it.
///
/// # Errors
/// What the kernel says.
pub(super) fn begin(root: &OwnedFd, at: &Path) -> Result<bool> {
    match sys::set_read_only(root, true) {
        Err(Errno::BUSY) => Ok(false),
        made => made.map(|()| true).doing("make read-only the mount at", at),
    }
}

/// Makes it writable again.
///
/// # Errors
/// What the kernel says.
pub(super) fn end(root: &OwnedFd, at: &Path) -> Result<()> {
    sys::set_read_only(root, false).doing("make writable the mount at", at)
}

/// Whether the overlay is read-only, and neither its user has made it so nor was that wanted at first.
fn is_left(container: &Container, mount: &MountRecord) -> Result<bool> {
    if mount.command || mount.read_only {
        return Ok(false);
    }
    Ok(container.overlay_here(mount)?.is_some_and(|line| line.has_read_only_files && !line.is_read_only))
}

/// Makes the overlay writable again that a process was killed over while it was read-only. The caller has the container's lock, so that
/// no other process is about to make it so.
///
/// # Errors
/// What the kernel says.
pub(crate) fn put_right(container: &Container, mount: &MountRecord) -> Result<()> {
    if !is_left(container, mount)? {
        return Ok(());
    }
    match root_of(container, mount) {
        Ok(Some(root)) => end(&root, &mount.mountpoint),
        // What is mounted over it goes first.
        Ok(None) | Err(Error::InUse { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The same, unless another process has the lock: that one has made it read-only, or reads it.
///
/// # Errors
/// As [`put_right`].
pub(crate) fn put_right_if_free(container: &Container, mount: &MountRecord) -> Result<()> {
    if !is_left(container, mount)? {
        return Ok(());
    }
    match container.lock_record() {
        Err(Error::InUse { .. } | Error::NotFound { .. }) => Ok(()),
        lock => lock.and_then(|_lock| put_right(container, mount)),
    }
}
