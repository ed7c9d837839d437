//! Where something can be mounted.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::live;
use crate::error::{Context as _, Error, Result};
use crate::fuse;
use crate::store::{Container, Store};

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

/// Whether the latest mount of a container is there, to this process' eyes, and no later one of something else. With
/// a server that still runs and without its mount, the container is about to end.
pub(super) fn is_mounted(store: &Store, container: &Container) -> Result<bool> {
    let Some(mount) = container.mount()? else { return Ok(false) };
    let run = store.run_dir();
    let is_latest = live::at_mountpoint(&run, &mount.mountpoint)? == Some(run.join(mount.live));
    Ok(is_latest && fuse::is_mountpoint(&mount.mountpoint))
}

/// That nothing is mounted exactly here.
pub(super) fn check_free(path: &Path) -> Result<()> {
    match fuse::mounts().find(|mount| mount.mountpoint == path) {
        None => Ok(()),
        Some(fuse::Mount { fs_type, .. }) => Err(Error::InUse {
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
        Err(Errno::WOULDBLOCK) => Err(Error::InUse {
            kind: "mountpoint",
            name: path.display().to_string(),
            by: "something is just being mounted there".into(),
        }),
        // Where a file system knows no locks, two that come at once are not told apart.
        _ => Ok(dir),
    }
}

/// Whether a mount is one of ours whose server is gone. Of most calls the kernel knows the answer by itself; statfs(2)
/// it always passes on, and then it fails with `ENOTCONN`.
fn is_stale(path: &Path) -> bool {
    rustix::fs::statfs(path).is_err_and(|error| error == Errno::NOTCONN) && fuse::is_mountpoint(path)
}

/// Takes away what a dead server left mounted.
pub(super) fn clear_stale(path: &Path) -> Result<()> {
    while is_stale(path) {
        fuse::unmount(path, true)?;
    }
    Ok(())
}

/// Waits until the server of a container is gone, whose mount is gone already or, being `aborted`, goes now. The
/// command that it is there for is killed first: with its files taken away under it, it could die of anything.
pub(super) fn end(store: &Store, container: &Container, aborted: bool) -> Result<()> {
    let Some(mount) = container.mount()? else { return Ok(()) };
    let server = live::watch(&store.run_dir().join(&mount.live));
    if aborted
        && mount.command
        && let Some(server) = &server
        && live::end_command(mount.pid, server)
    {
        return Ok(());
    }
    if aborted && let Err(error) = fuse::abort(&mount.mountpoint) {
        // Somebody else has just done it.
        if fuse::is_mountpoint(&mount.mountpoint) {
            return Err(error);
        }
    }
    wait(&mount.mountpoint, server)
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
    if lazy { Ok(()) } else { wait(mountpoint, server) }
}

fn wait(mountpoint: &Path, server: Option<File>) -> Result<()> {
    if !server.is_none_or(|server| live::wait_for_end(&server)) {
        let mountpoint = mountpoint.display();
        return Err(Error::Unsupported(format!("{mountpoint}: unmounted, but its server is still busy with it")));
    }
    Ok(())
}
