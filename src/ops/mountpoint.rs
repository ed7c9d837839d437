//! Where something can be mounted.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::live;
use crate::error::{Context as _, Error, Result};
use crate::fuse;
use crate::store::Container;

/// Finds the directory at which a mount is to be, and makes sure that it can be one: a directory at which nothing is
/// mounted and, if that `must_be_empty`, which hides nothing then. What a dead server left mounted there is taken away.
pub(super) fn prepare(path: &Path, must_be_empty: bool) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).doing("find", path)?;
    clear_stale(&absolute)?;
    let found = match absolute.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::NotFound { kind: "mountpoint", name: path.display().to_string() });
        }
        found => found.doing("find", path)?,
    };
    let unfit = |why: &str| Error::Usage(format!("{} cannot be a mountpoint: {why}", path.display()));
    if found.to_str().is_none() {
        return Err(unfit("its name is not UTF-8"));
    }
    if !found.is_dir() {
        return Err(unfit("it is not a directory"));
    }
    check_free(&found)?;
    if must_be_empty && std::fs::read_dir(&found).doing("read", path)?.next().is_some() {
        return Err(unfit("it is not empty"));
    }
    Ok(found)
}

/// That nothing is mounted exactly here.
pub(super) fn check_free(path: &Path) -> Result<()> {
    match fuse::mounts().find(|(target, _)| target == path) {
        None => Ok(()),
        Some((_, fs_type)) => Err(Error::InUse {
            kind: "mountpoint",
            name: path.display().to_string(),
            by: format!("a file system of type {fs_type} is mounted there"),
        }),
    }
}

/// Keeps others of us from mounting at the same place until it is dropped.
pub(super) fn reserve(path: &Path) -> Result<File> {
    let dir = File::open(path).doing("open", path)?;
    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse {
            kind: "mountpoint",
            name: path.display().to_string(),
            by: "something is just being mounted there".into(),
        }),
        // Where a file system knows no locks, two that come at once are not told apart.
        _ => Ok(dir),
    }
}

/// Whether a mount is one of ours whose server is gone: every call on it fails with `ENOTCONN`.
fn is_stale(path: &Path) -> bool {
    let gone = Some(rustix::io::Errno::NOTCONN.raw_os_error());
    std::fs::symlink_metadata(path).is_err_and(|error| error.raw_os_error() == gone) && fuse::is_mountpoint(path)
}

/// Takes away what a dead server left mounted.
pub(super) fn clear_stale(path: &Path) -> Result<()> {
    while is_stale(path) {
        fuse::unmount(path, true)?;
    }
    Ok(())
}

/// Whether the latest mount of a container is still there. Its server lives on for a while when it is not.
pub(super) fn is_mounted(container: &Container) -> bool {
    container.mount().ok().flatten().is_some_and(|mount| fuse::is_mountpoint(&mount.mountpoint))
}

/// Unmounts, and waits until the server that is registered at `live` has put all in order and is gone.
pub(super) fn unmount_and_wait(mountpoint: &Path, live: &Path, lazy: bool) -> Result<()> {
    let server = live::watch(live);
    match fuse::unmount(mountpoint, lazy) {
        // Somebody else has just done it, and its server is about to end.
        Err(_) if !fuse::is_mountpoint(mountpoint) => {}
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::ResourceBusy => {
            return Err(Error::InUse {
                kind: "mountpoint",
                name: mountpoint.display().to_string(),
                by: "a process has a file open there or works there".into(),
            });
        }
        done => done?,
    }
    if !lazy && !server.is_none_or(|server| live::wait_for_end(&server)) {
        let mountpoint = mountpoint.display();
        return Err(Error::Unsupported(format!("{mountpoint}: unmounted, but its server is still busy with it")));
    }
    Ok(())
}
