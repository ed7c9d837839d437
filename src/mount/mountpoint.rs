//! Where something can be mounted.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::fuse;
use crate::mount::live::{self, LiveRecord};
use crate::mount::placed::{Placed, placed};
use crate::store::{Container, Store};
use crate::sys::{Dir, call, fs};

fn is_empty(dir: &Path) -> rustix::io::Result<bool> {
    for entry in Dir::open(dir)? {
        if !entry?.is_dots() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Finds the directory at which a mount is to be, and makes sure that it can be one: a directory at which nothing is
/// mounted and, if that `must_be_empty`, which hides nothing then. What a dead server left mounted there is taken away.
pub(crate) fn prepare(path: &Path, must_be_empty: bool) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).doing("find", path)?;
    clear_stale(&absolute)?;
    let found = match fs::canonicalize(&absolute) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::NotFound { kind: "mountpoint", name: path.display().to_string() });
        }
        found => found.doing("find", path)?,
    };
    let unfit = |why: &str| Error::Usage(format!("{} cannot be a mountpoint: {why}", path.display()));
    if found.to_str().is_none() {
        return Err(unfit("its name is not UTF-8"));
    }
    if !fs::metadata(&found).doing("find", path)?.is_dir() {
        return Err(unfit("it is not a directory"));
    }
    check_free(&found)?;
    if must_be_empty && !is_empty(&found).doing("read", path)? {
        return Err(unfit("it is not empty"));
    }
    Ok(found)
}

/// The latest mount of a container as its server has registered it, and where it is; `None` when its server has ended, or
/// has not registered it yet. With a server and without being anywhere, the container is about to end, or a process
/// still uses it.
pub(crate) fn mounted(store: &Store, container: &Container) -> Result<Option<(LiveRecord, Placed)>> {
    let Some(mount) = container.mount()?.filter(|mount| !mount.ended) else { return Ok(None) };
    let dir = store.run_dir().join(&mount.live);
    let Some(record) = live::record(&dir)? else { return Ok(None) };
    // Of an earlier version's server only this tells whether the mount is not a later one of something else.
    if record.device.is_none() && live::at_mountpoint(&store.run_dir(), &mount.mountpoint)? != Some(dir) {
        return Ok(Some((record, Placed::Nowhere)));
    }
    let place = placed(&record)?;
    Ok(Some((record, place)))
}

/// Whether the latest mount of a container is to be seen, here or where its server is.
pub(crate) fn is_mounted(store: &Store, container: &Container) -> Result<bool> {
    Ok(mounted(store, container)?.is_some_and(|(_, place)| place != Placed::Nowhere))
}

/// That nothing is mounted exactly here.
pub(crate) fn check_free(path: &Path) -> Result<()> {
    match fuse::mounts()?.into_iter().find(|mount| mount.mountpoint == path) {
        None => Ok(()),
        Some(fuse::Mount { fs_type, .. }) => Err(Error::InUse {
            kind: "mountpoint",
            name: path.display().to_string(),
            by: format!("a file system of type {fs_type} is mounted there"),
        }),
    }
}

/// Keeps others of us from mounting at the same place until it is dropped.
pub(crate) fn reserve(path: &Path) -> Result<File> {
    let dir = File::open(path).doing("open", path)?;
    match call::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Error::InUse {
            kind: "mountpoint",
            name: path.display().to_string(),
            by: "something is just being mounted there".into(),
        }),
        // Where a file system knows no locks, two that come at once are not told apart.
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK | Errno::INVAL) | Ok(()) => Ok(dir),
        Err(error) => Err(error).doing("lock", path),
    }
}

/// Whether a mount is one of ours whose server is gone. Of most calls the kernel knows the answer by itself; statfs(2)
/// it always passes on, and then it fails with `ENOTCONN`, or `ECONNABORTED` when it was ended by force.
fn is_stale(path: &Path) -> Result<bool> {
    match call::statfs(path) {
        Err(Errno::NOTCONN | Errno::CONNABORTED) => Ok(fuse::mount_at(path)?.is_some_and(|mount| mount.is_ours())),
        // Nothing is there, or it has a server or is no mount; what keeps it from being used is said where it is used.
        Ok(_) | Err(_) => Ok(false),
    }
}

/// Takes away what a dead server left mounted.
pub(crate) fn clear_stale(path: &Path) -> Result<()> {
    while is_stale(path)? {
        fuse::unmount(path, true)?;
    }
    Ok(())
}
