//! The end of an overlay. The kernel cannot take a mount away from a process in another mount namespace that has a copy of it, but
//! no copy of one that is read-only can be written to.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::error::{Context as _, Error, Result};
use crate::mount::kernel::command::stop;
use crate::mount::kernel::image_mount::tidy;
use crate::mount::kernel::read_only::{self, root_of, wait_for_lock};
use crate::mount::umount::Umount;
use crate::mount::wait::{Wait, say};
use crate::store::{Container, MountRecord, Store};
use crate::sys::{self, Dir, call};

/// How long the kernel may take to let an upper go.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// Ends the mount of a container, and returns when all of it is on the disk and nothing can be written to it any more.
///
/// # Errors
/// [`Error::NotFound`] when it is not mounted; [`Error::InUse`] while a process uses it.
pub(crate) fn end(store: &Store, container: &Container, mount: &MountRecord, how: Umount) -> Result<()> {
    let name = &container.record.name;
    if mount.command {
        if !how.force {
            return Err(in_use(container, "its command is still running"));
        }
        stop(container, mount)?;
        return flush(container);
    }
    if how.lazy {
        return match root_of(container, mount)? {
            Some(_) => detach(&mount.mountpoint),
            None => Err(not_mounted(container)),
        };
    }
    let lock = wait_for_lock(container)?;
    if container.mount()?.is_none_or(|now| now.live_overlay().is_none()) {
        return Err(not_mounted(container));
    }
    let ended = unmount_in_order(container, mount, how);
    // What the end of the mount takes away is locked for that.
    drop(lock);
    if !ended? {
        if container.has_overlay(mount)? {
            return Err(still_used(container));
        }
        // Another program has unmounted it.
        flush(container)?;
        finish(store, container, mount)?;
        return Err(not_mounted(container));
    }
    // Where another mount namespace has a copy, that goes with the directory, unless the directory is the user's.
    container.remove_default_mountpoint()?;
    if is_let_go(container)? {
        return finish(store, container, mount);
    }
    let user = user_of(container)?.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
    if how.force {
        return Err(in_use(
            container,
            &format!("it is unmounted, but {user} still has files of it, which the kernel cannot take away"),
        ));
    }
    say(&format!(
        "container {name} is unmounted and on the disk, but {user} in another mount namespace still reads it"
    ));
    Ok(())
}

/// Unmounts an overlay when all of it is on the disk; one that cannot be unmounted stays as it was. False when it is not here.
fn unmount_in_order(container: &Container, mount: &MountRecord, how: Umount) -> Result<bool> {
    let at = &mount.mountpoint;
    let Some(root) = root_of(container, mount)? else { return Ok(false) };
    let writable = || if mount.read_only { Ok(()) } else { read_only::end(&root, at) };
    if !mount.read_only && !read_only::begin(&root, at)? && !how.force {
        // A process was killed that had made it read-only, and another one has a file open since then.
        writable()?;
        return Err(in_use(container, "a process has a file open there to write to it"));
    }
    if let Err(error) = sync(container, &root, at) {
        return writable().and(Err(error));
    }
    drop(root);
    let flags = if how.force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount(at, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(true),
        // Another program has just unmounted it.
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(error) => {
            if let Some(root) = root_of(container, mount)?.filter(|_| !mount.read_only) {
                read_only::end(&root, at)?;
            }
            match error {
                Errno::BUSY => Err(in_use(container, "a process has a file open there or works there")),
                error => Err(error).doing("unmount", at),
            }
        }
    }
}

/// Puts in order what is mounted of a container whose image has no server any more. What its command still writes stays, unless the
/// command may be ended by force.
///
/// # Errors
/// [`Error::InUse`] while a process uses it.
pub(crate) fn clear(store: &Store, container: &Container, mount: &MountRecord, forced: bool) -> Result<()> {
    if mount.command {
        if !forced && container.has_command(mount)? {
            return Err(in_use(container, "its command is still running"));
        }
        stop(container, mount)?;
    } else if root_of(container, mount)?.is_some() {
        detach(&mount.mountpoint)?;
    }
    if !is_let_go(container)? {
        return Err(still_used(container));
    }
    container.remove_default_mountpoint()?;
    store.change_mount(container, mount, |mount| mount.ended = true)?;
    tidy(store, container.record.image)
}

/// That a process still has what was mounted, as an error.
pub(super) fn still_used(container: &Container) -> Error {
    // error: it only says less
    let user = user_of(container).unwrap_or(None);
    let user = user.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
    in_use(container, &format!("{user} in another mount namespace, or with a file open, still has its mount"))
}

fn not_mounted(container: &Container) -> Error {
    Error::NotFound { kind: "mount", name: container.record.name.clone() }
}

fn in_use(container: &Container, by: &str) -> Error {
    Error::InUse { kind: "container", name: container.record.name.clone(), by: by.to_owned() }
}

fn detach(at: &Path) -> Result<()> {
    unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).doing("unmount", at)
}

pub(super) fn sync(container: &Container, root: &OwnedFd, at: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = call::openat(root, ".", flags, Mode::empty()).doing("open", at)?;
    let path = at.to_owned();
    let what = format!("container {}: all of it is on the disk", container.record.name);
    let mut wait = Wait::new(what, Some(std::process::id()), Duration::MAX);
    wait.thread(move || call::syncfs(&root).doing("flush", path))
}

/// Waits until all that was written to a container is on the disk.
///
/// # Errors
/// What the disk says.
pub(crate) fn flush(container: &Container) -> Result<()> {
    crate::mount::ending::flush(&format!("container {}", container.record.name), container.upper())
}

/// Whether the kernel has let the upper go, which may take it a moment.
fn is_let_go(container: &Container) -> Result<bool> {
    let upper = container.upper();
    let began = Instant::now();
    while sys::is_upper_in_use(&upper).doing("find the mount of", &upper)? {
        if began.elapsed() > PATIENCE {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(true)
}

fn finish(store: &Store, container: &Container, mount: &MountRecord) -> Result<()> {
    settle(store, container, mount)?;
    tidy(store, container.record.image)
}

/// Writes down that a mount has ended which this process has not ended, unless another process has just done that or mounts it anew;
/// false as [`settle`].
pub(super) fn settle_unseen(store: &Store, container: &Container, mount: &MountRecord) -> Result<bool> {
    let lock = match container.lock_record() {
        Err(Error::InUse { .. }) => return Ok(false),
        Err(Error::NotFound { .. }) => return Ok(true),
        lock => lock?,
    };
    if container.mount()?.as_ref() != Some(mount) {
        return Ok(true);
    }
    container.remove_default_mountpoint()?;
    if !mount.overlay.as_ref().is_some_and(|overlay| overlay.remove) {
        return store.change_mount(container, mount, |mount| mount.ended = true).map(|()| true);
    }
    drop(lock);
    settle(store, container, mount)
}

/// Before a container is mounted, whose lock is held: a mount that another program has ended is none any more.
///
/// # Errors
/// When that cannot be written down.
pub(crate) fn forget(store: &Store, container: &Container) -> Result<()> {
    match container.mount()?.filter(|mount| mount.live_overlay().is_some()) {
        Some(mount) => store.change_mount(container, &mount, |mount| mount.ended = true),
        None => Ok(()),
    }
}

/// Writes down that a mount has ended, or removes the container if it was to go with the mount; false when another process just
/// reads or mounts it, so that it has to be done again.
pub(super) fn settle(store: &Store, container: &Container, mount: &MountRecord) -> Result<bool> {
    container.remove_default_mountpoint()?;
    if !mount.overlay.as_ref().is_some_and(|overlay| overlay.remove) {
        return store.change_mount(container, mount, |mount| mount.ended = true).map(|()| true);
    }
    match store.remove_container(container) {
        Err(Error::InUse { .. }) => Ok(false),
        // Another process was faster.
        Err(Error::NotFound { .. }) => Ok(true),
        removed => removed.map(|()| true),
    }
}

/// A process that has the overlay of a container in its mount namespace.
fn user_of(container: &Container) -> Result<Option<u32>> {
    let source = container.short_id();
    for entry in Dir::open(Path::new("/proc")).doing("read", "/proc")? {
        let entry = entry.doing("read", "/proc")?;
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // error: it has ended, or is another user's in a sandbox
        let Ok(table) = sys::mount_table_at(format!("/proc/{pid}/mountinfo")) else { continue };
        if table.iter().any(|line| line.fs_type == sys::OVERLAY && line.source == source) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}
