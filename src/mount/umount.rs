//! `umount`: ends a mount and keeps the container.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Context as _, Error, Result};
use crate::fuse;
use crate::mount::ending::{Ended, Ending, Force, flush};
use crate::mount::{kernel, live, mountpoint, wait};
use crate::store::{Container, ContainerState, MountRecord, Store};
use crate::sys::fs;
use crate::union::Union;

/// How a mount is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Umount {
    /// It vanishes at once, and ends when its last user does.
    pub lazy: bool,
    /// It ends also while it is used, and when its server does not answer.
    pub force: bool,
    /// How long a server is waited for that shows no progress.
    pub patience: Duration,
}

impl Default for Umount {
    fn default() -> Self {
        Self { lazy: false, force: false, patience: wait::PATIENCE }
    }
}

/// Ends the mount of a container, or the one at a mountpoint, and returns when all of it is on the disk and its server
/// is gone, whichever other mount namespace has a copy of it.
///
/// # Errors
/// [`Error::NotFound`] when nothing of ours is mounted there; [`Error::InUse`] while a process uses it;
/// [`Error::Unsupported`] when its server does not end, and when something that was written to it is lost.
pub fn umount(store: &Store, target: &str, how: Umount) -> Result<()> {
    match store.find_container(target) {
        // A directory's name may also be the beginning of an id.
        Ok(container) if ![container.record.name.as_str(), &container.id.hex()].contains(&target) => {
            match umount_at(store, target, how) {
                Err(Error::NotFound { .. }) => umount_container(store, &container, how),
                unmounted => unmounted,
            }
        }
        Ok(container) => umount_container(store, &container, how),
        Err(error @ (Error::NotFound { .. } | Error::Ambiguous { .. })) => match umount_at(store, target, how) {
            // Or of several.
            Err(Error::NotFound { .. }) if matches!(error, Error::Ambiguous { .. }) => Err(error),
            unmounted => unmounted,
        },
        Err(error) => Err(error),
    }
}

fn not_mounted(name: &str) -> Error {
    Error::NotFound { kind: "mount", name: name.to_owned() }
}

fn umount_container(store: &Store, container: &Container, how: Umount) -> Result<()> {
    let name = format!("container {}", container.record.name);
    let Some(mount) = container.mount()? else { return Err(not_mounted(&container.record.name)) };
    if mount.live_overlay().is_some() {
        return if container.state()? == ContainerState::Dead {
            kernel::clear(store, container, &mount, how.force)?;
            kernel::flush(container)
        } else {
            kernel::end(store, container, &mount, how)
        };
    }
    if mount.ended {
        // Another program has unmounted it, and what that lost is said here.
        let Some(lost) = mount.lost.clone() else { return Err(not_mounted(&container.record.name)) };
        store.change_mount(container, &mount, |mount| mount.lost = None)?;
        return Err(said(&name, &lost));
    }
    if container.state()? == ContainerState::Dead {
        return clear_dead(store, container, &mount);
    }
    let dir = store.run_dir().join(&mount.live);
    let lost = match mountpoint::mounted(store, container)? {
        Some((record, _)) => {
            let ending = Ending {
                name: name.clone(),
                dir: &dir,
                record: &record,
                has_command: mount.command,
                patience: how.patience,
            };
            if how.lazy {
                return ending.detach();
            }
            // The command has the mount in a namespace of its own: that it is in use is not to be seen from here.
            if mount.command && !how.force {
                let by = "its command is still running".to_owned();
                return Err(Error::InUse { kind: "container", name: container.record.name.clone(), by });
            }
            match ending.end(if how.force { Force::Users } else { Force::None })? {
                Ended::InOrder { lost } => lost,
                Ended::Killed => {
                    clear_dead(store, container, &mount)?;
                    None
                }
            }
        }
        // It is about to be mounted, or has just ended.
        None => {
            if let Some(server) = live::watch(&dir)? {
                let mut wait = wait::Wait::new(format!("{name}: its server has ended"), Some(mount.pid), how.patience);
                server.end_within(&mut wait)?;
            }
            None
        }
    };
    if !mount.read_only {
        flush(&name, container.upper())?;
    }
    // The server has written down what it has lost, if there was room for that.
    let recorded = container.mount()?.filter(|record| record.live == mount.live);
    let lost = lost.or_else(|| recorded.as_ref().and_then(|record| record.lost.clone()));
    match recorded {
        // It was killed when its mount had ended.
        Some(record) if !record.ended && container.state()? == ContainerState::Dead => {
            clear_dead(store, container, &record)?;
            tidy(store, container)?;
        }
        Some(record) if record.lost.is_some() => store.change_mount(container, &record, |mount| mount.lost = None)?,
        _ => {}
    }
    // The server may have failed to remove it. Without need its lock is not taken, which another mount may be about to take.
    let left = container.default_mountpoint();
    if fs::is_there(&left).doing("look at", &left)?
        && let Some(_lock) = free(container)?
    {
        container.remove_default_mountpoint()?;
    }
    lost.map_or(Ok(()), |lost| Err(said(&name, &lost)))
}

/// That something is lost, as an error.
fn said(name: &str, lost: &str) -> Error {
    Error::Unsupported(format!("{name} is unmounted, but {lost}"))
}

/// Puts in order what a killed server has left of a container's mount.
///
/// # Errors
/// What keeps it from being put in order; then the container still is dead.
pub(crate) fn clear_dead(store: &Store, container: &Container, mount: &MountRecord) -> Result<()> {
    clear_mount(store, container, mount)?;
    store.change_mount(container, mount, |mount| mount.ended = true)
}

/// The same, but the container's record stays as it is: on a full disk nothing can be recorded.
///
/// # Errors
/// As [`clear_dead`].
pub(crate) fn clear_mount(store: &Store, container: &Container, mount: &MountRecord) -> Result<()> {
    mountpoint::clear_stale(&mount.mountpoint)?;
    // Its server could not do this any more.
    container.remove_default_mountpoint()?;
    match fs::remove_dir_all(store.run_dir().join(&mount.live)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.doing("remove", store.run_dir().join(&mount.live)),
    }
}

/// The lock of a container that no server has; none when one has it, or when the container is removed.
fn free(container: &Container) -> Result<Option<File>> {
    match container.lock() {
        Err(Error::InUse { .. } | Error::NotFound { .. }) => Ok(None),
        lock => lock.map(Some),
    }
}

/// Takes away what the union of a killed server has kept in the rw layer.
fn tidy(store: &Store, container: &Container) -> Result<()> {
    // Another server does it.
    let Some(_lock) = free(container)? else { return Ok(()) };
    Union::open(store.stack(container)?).map(drop).doing("bring into order", container.upper())
}

fn umount_at(store: &Store, target: &str, how: Umount) -> Result<()> {
    let path = std::path::absolute(Path::new(target)).doing("find", target)?;
    let path = found(&path)?;
    for container in store.containers()? {
        // error: the mount of a container whose record cannot be read is found below, by its registration or by the kernel
        let Ok(container) = container else { continue };
        if container.mount()?.is_some_and(|mount| !mount.ended && mount.mountpoint == path) {
            return umount_container(store, &container, how);
        }
    }
    let Some(dir) = live::at_mountpoint(&store.run_dir(), &path)? else {
        // One of another store, or one whose server is dead.
        return match fuse::mount_at(&path)? {
            Some(mount) if mount.is_ours() => fuse::unmount(&path, how.lazy || how.force),
            Some(_) if kernel::is_union_at(&path)? => kernel::end_union(&path, how),
            Some(over) if fuse::is_mountpoint(&path)? => Err(over.in_the_way()),
            _ => Err(not_mounted(target)),
        };
    };
    let Some(record) = live::record(&dir)? else { return Err(not_mounted(target)) };
    // A volatile one waits for no disk.
    let upper = live::upper(&dir)?.filter(|_| !record.volatile);
    let name = format!("the mount at {}", path.display());
    let ending = Ending { name, dir: &dir, record: &record, has_command: false, patience: how.patience };
    if how.lazy {
        return ending.detach();
    }
    let ended = ending.end(if how.force { Force::Users } else { Force::None })?;
    if ended == Ended::Killed {
        mountpoint::clear_stale(&path)?;
    }
    if let Some(upper) = upper {
        flush(&ending.name, upper)?;
    }
    match ended {
        Ended::InOrder { lost: Some(lost) } => Err(said(&ending.name, &lost)),
        _ => Ok(()),
    }
}

/// The path without links. A dead server's mount cannot be looked at, only its parent can.
fn found(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(found) => Ok(found),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(
                    libc::ENOENT
                        | libc::ENOTDIR
                        | libc::ENOTCONN
                        | libc::ECONNABORTED
                        | libc::EACCES
                        | libc::ENAMETOOLONG
                )
            ) =>
        {
            Ok(path.to_owned())
        }
        Err(error) => Err(error).doing("find", path),
    }
}
