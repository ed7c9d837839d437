//! The end of an overlay. The kernel cannot take a mount away from a process in another mount namespace that has a copy of it, but
//! no copy of one that is read-only can be written to.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

use crate::error::{Context as _, Error, Result};
use crate::fuse;
use crate::mount::kernel::command::stop;
use crate::mount::kernel::image_mount::tidy;
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
        stop(container)?;
        return flush(container);
    }
    if !container.overlay_is_here(mount)? {
        if container.has_overlay(mount)? {
            return Err(still_used(container));
        }
        // Another program has unmounted it.
        flush(container)?;
        finish(store, container, mount)?;
        return Err(not_mounted(container));
    }
    let at = &mount.mountpoint;
    if let Some(over) = fuse::mount_at(at)?
        && mount.live_overlay().is_some_and(|overlay| !overlay.device.is_empty() && overlay.device != over.device())
    {
        return Err(over.in_the_way());
    }
    if how.lazy {
        return detach(at);
    }
    match freeze(at, true) {
        Err(Errno::BUSY) if how.force => {}
        Err(Errno::BUSY) => return Err(in_use(container, "a process has a file open there to write to it")),
        // Another process has just unmounted it.
        Err(Errno::INVAL | Errno::NOENT) => return Err(not_mounted(container)),
        frozen => frozen.doing("make read-only the mount at", at)?,
    }
    sync(container, at)?;
    let flags = if how.force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount(at, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) => {
            if !mount.read_only {
                freeze(at, false).doing("make writable the mount at", at)?;
            }
            return Err(in_use(container, "a process has a file open there or works there"));
        }
        Err(Errno::INVAL | Errno::NOENT) => return Err(not_mounted(container)),
        unmounted => unmounted.doing("unmount", at)?,
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

/// Puts in order what is mounted of a container whose image has no server any more.
///
/// # Errors
/// [`Error::InUse`] while a process uses it.
pub(crate) fn clear(store: &Store, container: &Container, mount: &MountRecord) -> Result<()> {
    if mount.command {
        stop(container)?;
    } else if container.overlay_is_here(mount)? {
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

/// Makes the overlay read-only in all mount namespaces, or not any more.
pub(super) fn freeze(at: &Path, read_only: bool) -> rustix::io::Result<()> {
    let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    mount_remount(at, flags | MountFlags::NOATIME, "")
}

pub(super) fn sync(container: &Container, at: &Path) -> Result<()> {
    let root = call::open(at, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing("open", at)?;
    let path = at.to_owned();
    let what = format!("container {}: all of it is on the disk", container.record.name);
    let mut wait = Wait::new(what, Some(std::process::id()), Duration::MAX);
    wait.thread(move || call::syncfs(&root).doing("flush", path))
}

fn flush(container: &Container) -> Result<()> {
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

/// Writes down that a mount has ended, and removes what was to go with it.
pub(super) fn settle(store: &Store, container: &Container, mount: &MountRecord) -> Result<()> {
    container.remove_default_mountpoint()?;
    store.change_mount(container, mount, |mount| mount.ended = true)?;
    if mount.overlay.as_ref().is_some_and(|overlay| overlay.remove) {
        match store.remove_container(container) {
            // Another process was faster, or mounts it again.
            Err(Error::NotFound { .. } | Error::InUse { .. }) => {}
            removed => removed?,
        }
    }
    Ok(())
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
