//! The mount of an image, for the process that mounts a container over it.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::error::{Context as _, Error, Result};
use crate::fuse::{self, Behaviour, Io};
use crate::id::{Digest, ImageId};
use crate::mount::kernel::image_server::is_used;
use crate::mount::launch::launch;
use crate::mount::placed::{Placed, placed};
use crate::mount::serve_spec::{ServeSpec, Source};
use crate::mount::wait::Wait;
use crate::mount::{live, mountpoint};
use crate::store::Store;
use crate::sys::{Dir, call, fs, open_regular, retry};

/// How long the end of an image's server is waited for, once no container uses the image.
const PATIENCE: Duration = Duration::from_secs(1);

/// The mount of an image, which stays as long as this is held; after that, as long as a container without a command is over it.
#[derive(Debug)]
pub(super) struct ImageMount {
    /// Where it is.
    pub(super) mountpoint: PathBuf,
    /// What its server has registered, under `run/`.
    pub(super) server: String,
    _lease: File,
}

pub(super) fn dir(store: &Store) -> PathBuf {
    store.run_dir().join("images")
}

pub(super) fn mountpoint_of(store: &Store, image: ImageId) -> PathBuf {
    dir(store).join(image.hex())
}

pub(super) fn lock_of(store: &Store, image: ImageId) -> PathBuf {
    dir(store).join(format!("{}.lock", image.hex()))
}

/// The lock of the process that makes a mount.
pub(super) fn start_lock(store: &Store) -> PathBuf {
    dir(store).join("lock")
}

/// Takes the mount of an image, and makes it if there is none in this mount namespace, or if its server is dead.
///
/// # Errors
/// What keeps it from being made.
pub(super) fn take(store: &Store, image: ImageId) -> Result<ImageMount> {
    let lease = locked(store, &lock_of(store, image), FlockOperation::LockShared)?;
    let mountpoint = mountpoint_of(store, image);
    if let Some(server) = live_server(store, &mountpoint)? {
        return Ok(ImageMount { mountpoint, server, _lease: lease });
    }
    // One makes it, and the others find it then.
    let one = locked(store, &start_lock(store), FlockOperation::LockExclusive)?;
    if let Some(server) = live_server(store, &mountpoint)? {
        return Ok(ImageMount { mountpoint, server, _lease: lease });
    }
    mountpoint::clear_stale(&mountpoint)?;
    let made = retry(|| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&mountpoint));
    made.doing("create", &mountpoint)?;
    let spec = ServeSpec {
        root: Some(store.root().into()),
        source: Source::Image { id: image },
        mountpoint: mountpoint.as_path().into(),
        fsname: image.hex().get(..12).unwrap_or_default().to_owned(),
        flags: (MountFlags::RDONLY | MountFlags::NOATIME).bits(),
        io: Io::Cached,
        behaviour: Behaviour { under_overlay: true, ..Behaviour::default() },
        tied: false,
    };
    match launch(&spec, None) {
        Ok(server) => drop(server),
        Err(error) => {
            drop((one, lease));
            return tidy(store, image).and(Err(error));
        }
    }
    let server = live_server(store, &mountpoint)?;
    let server =
        server.ok_or_else(|| Error::Unsupported(format!("image {image}: the server of its mount has ended")))?;
    Ok(ImageMount { mountpoint, server, _lease: lease })
}

/// Locks a file in the directory of image mounts. File and directory are removed when no process uses them, and are made anew
/// when one does.
fn locked(store: &Store, path: &Path, how: FlockOperation) -> Result<File> {
    let images = dir(store);
    loop {
        let made = retry(|| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&images));
        made.doing("create", &images)?;
        let file = match open_regular(path, OFlags::WRONLY | OFlags::CREATE) {
            Err(Errno::NOENT) => continue,
            file => file.doing("open", path)?.ok_or_else(|| Error::corrupt(path, "is no regular file"))?,
        };
        call::flock(&file, how).doing("lock", path)?;
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

/// Whether this is the file at a path, and not one that has gone from there.
pub(super) fn is_at(file: &File, path: &Path) -> Result<bool> {
    let mine = fs::metadata_of(file).doing("look at", path)?;
    let there = fs::found(path).doing("look at", path)?;
    Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (mine.dev(), mine.ino())))
}

/// What the living server has registered that has its mount here.
fn live_server(store: &Store, mountpoint: &Path) -> Result<Option<String>> {
    let Some(registered) = live::at_mountpoint(&store.run_dir(), mountpoint)? else { return Ok(None) };
    let Some(record) = live::record(&registered)? else { return Ok(None) };
    if placed(&record)? != Placed::Here || !live::has_server(&registered) {
        return Ok(None);
    }
    Ok(registered.file_name().and_then(|name| name.to_str()).map(str::to_owned))
}

/// Takes the mount of an image away that no container uses any more, and what a dead server has left of one; waits for the end of
/// its server, but not for long: another mount namespace may keep it.
///
/// # Errors
/// What cannot be removed.
pub(super) fn tidy(store: &Store, image: ImageId) -> Result<()> {
    let path = lock_of(store, image);
    let lock = match open_regular(&path, OFlags::WRONLY) {
        Err(Errno::NOENT) => return Ok(()),
        lock => lock.doing("open", &path)?,
    };
    let Some(lock) = lock else { return Ok(()) };
    let mountpoint = mountpoint_of(store, image);
    // Also one whose mount has just gone.
    let server = live::at_mountpoint(&store.run_dir(), &mountpoint)?;
    let server = server.map(|registered| live::watch(&registered)).transpose()?.flatten();
    let try_exclusive = || try_lock(&lock, FlockOperation::NonBlockingLockExclusive, &path);
    let mut is_alone = try_exclusive()?;
    if !is_alone {
        // A process that looks whether it is used, or takes it away, holds the lock for an instant.
        call::flock(&lock, FlockOperation::LockShared).doing("lock", &path)?;
        is_alone = try_exclusive()?;
    }
    if is_at(&lock, &path)? {
        if !is_alone {
            return Ok(());
        }
        match live_server(store, &mountpoint)? {
            None => mountpoint::clear_stale(&mountpoint)?,
            Some(_) if is_used(store, image)? => return Ok(()),
            Some(_) => fuse::unmount(&mountpoint, true)?,
        }
        remove_all(store, image)?;
    }
    drop(lock);
    match server {
        Some(server) if server.is_alive()? => {
            let mut wait = Wait::new(format!("image {image}: its server has ended"), None, PATIENCE);
            server.end_within(&mut wait).map(drop)
        }
        _ => Ok(()),
    }
}

/// The same of all images: what callers have left that were killed before there was a server, which else goes with the next mount of
/// the image.
///
/// # Errors
/// What cannot be removed.
pub(crate) fn sweep(store: &Store) -> Result<()> {
    let images = dir(store);
    let names = match Dir::open(&images) {
        Err(Errno::NOENT) => return Ok(()),
        names => names.doing("read", &images)?,
    };
    for name in names {
        let name = match name {
            // With its last entry the directory goes too.
            Err(Errno::NOENT) => break,
            name => name.doing("read", &images)?,
        };
        let hex = name.file_name().to_str().ok().and_then(|name| name.strip_suffix(".lock"));
        if let Some(Ok(digest)) = hex.map(Digest::from_hex) {
            tidy(store, ImageId(digest))?;
        }
    }
    remove_empty(store)
}

/// Removes the mountpoint of an image, whose lock is held, with the lock: a process that waits for it sees that it is another file.
pub(super) fn remove_all(store: &Store, image: ImageId) -> Result<()> {
    let (mountpoint, path) = (mountpoint_of(store, image), lock_of(store, image));
    remove(&mountpoint, fs::remove_dir(&mountpoint))?;
    remove(&path, fs::remove_file(&path))?;
    remove_empty(store)
}

fn try_lock(lock: &File, how: FlockOperation, path: &Path) -> Result<bool> {
    match call::flock(lock, how) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        locked => locked.map(|()| true).doing("lock", path),
    }
}

/// Takes the directory of image mounts away when it has nothing but the lock under which one is made, and no process holds that.
fn remove_empty(store: &Store) -> Result<()> {
    let (dir, path) = (dir(store), start_lock(store));
    let names = match Dir::open(&dir) {
        Err(Errno::NOENT) => return Ok(()),
        names => names.doing("read", &dir)?,
    };
    for name in names {
        let name = match name {
            // Another process has taken it away.
            Err(Errno::NOENT) => return Ok(()),
            name => name.doing("read", &dir)?,
        };
        if !name.is_dots() && Some(name.file_name().to_bytes()) != path.file_name().map(std::ffi::OsStr::as_bytes) {
            return Ok(());
        }
    }
    let lock = match open_regular(&path, OFlags::WRONLY) {
        Err(Errno::NOENT) => None,
        lock => lock.doing("open", &path)?,
    };
    if let Some(lock) = lock {
        if !try_lock(&lock, FlockOperation::NonBlockingLockExclusive, &path)? {
            return Ok(());
        }
        if is_at(&lock, &path)? {
            remove(&path, fs::remove_file(&path))?;
        }
    }
    remove(&dir, fs::remove_dir(&dir))
}

/// What is gone already, or is still used in another mount namespace, is no failure.
fn remove(path: &Path, removed: std::io::Result<()>) -> Result<()> {
    match removed {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ResourceBusy | std::io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        removed => removed.doing("remove", path),
    }
}
