//! `umount`: ends a mount and keeps the container.

use std::path::Path;

use super::{live, mountpoint};
use crate::error::{Context as _, Error, Result};
use crate::fuse;
use crate::store::{Container, ContainerState, MountRecord, Store};

/// Ends the mount of a container, or the one at a mountpoint, and returns when all of it is on the disk and its server
/// is gone. A lazy one vanishes at once and ends when its last user does.
///
/// # Errors
/// [`Error::NotFound`] when nothing of ours is mounted there; [`Error::InUse`] while somebody uses it.
pub fn umount(store: &Store, target: &str, lazy: bool) -> Result<()> {
    match store.find_container(target) {
        // A directory's name may also be the beginning of an id.
        Ok(container) if ![container.record.name.as_str(), &container.id.hex()].contains(&target) => {
            match umount_at(store, target, lazy) {
                Err(Error::NotFound { .. }) => umount_container(store, &container, lazy),
                unmounted => unmounted,
            }
        }
        Ok(container) => umount_container(store, &container, lazy),
        Err(error @ (Error::NotFound { .. } | Error::Ambiguous { .. })) => match umount_at(store, target, lazy) {
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

pub(super) fn umount_container(store: &Store, container: &Container, lazy: bool) -> Result<()> {
    let mount = container.mount()?.filter(|mount| !mount.ended);
    let Some(mount) = mount else { return Err(not_mounted(&container.record.name)) };
    if container.state()? == ContainerState::Dead {
        mountpoint::clear_stale(&mount.mountpoint)?;
        // Its server could not do this any more.
        let _ = std::fs::remove_dir(container.default_mountpoint());
        let _ = std::fs::remove_dir_all(store.run_dir().join(&mount.live));
        return store.set_mount(container, &MountRecord { ended: true, ..mount });
    }
    if !mountpoint::is_mounted(store, container)? {
        // Somebody else has just done it.
        if lazy {
            return Ok(());
        }
        mountpoint::end(store, container, false)?;
        return flush(&container.upper());
    }
    // The command has the mount in a namespace of its own: that it is in use is not to be seen from here.
    if mount.command && !lazy {
        let by = "its command is still running".to_owned();
        return Err(Error::InUse { kind: "container", name: container.record.name.clone(), by });
    }
    mountpoint::unmount_and_wait(&mount.mountpoint, &store.run_dir().join(&mount.live), lazy)?;
    if lazy || mount.read_only { Ok(()) } else { flush(&container.upper()) }
}

fn umount_at(store: &Store, target: &str, lazy: bool) -> Result<()> {
    let path = std::path::absolute(Path::new(target)).map_err(|_| not_mounted(target))?;
    // A dead server's mount cannot be looked at, only its parent can.
    let path = path.canonicalize().unwrap_or(path);
    if let Some(container) = store.containers()?.into_iter().flatten().find(|container| is_at(container, &path)) {
        return umount_container(store, &container, lazy);
    }
    match live::at_mountpoint(&store.run_dir(), &path)? {
        Some(dir) => {
            // Who mounts it as volatile wants that nothing waits for the disk.
            let is_volatile = live::record(&dir).is_some_and(|record| record.volatile);
            let upper = live::upper(&dir).filter(|_| !is_volatile);
            mountpoint::unmount_and_wait(&path, &dir, lazy)?;
            upper.filter(|_| !lazy).map_or(Ok(()), |upper| flush(&upper))
        }
        // One of another store, or one whose server is dead.
        None if fuse::is_mountpoint(&path) => fuse::unmount(&path, lazy),
        None => Err(not_mounted(target)),
    }
}

/// Waits until all that the server wrote is on the disk, as umount(8) does with a union of the kernel's.
fn flush(upper: &Path) -> Result<()> {
    match std::fs::File::open(upper) {
        // With `--rm` the server has taken it away.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        opened => opened.and_then(|dir| Ok(rustix::fs::syncfs(&dir)?)).doing("flush", upper),
    }
}

fn is_at(container: &Container, path: &Path) -> bool {
    container.mount().ok().flatten().is_some_and(|mount| !mount.ended && mount.mountpoint == path)
}
