//! `union -o io=kernel`: plain directories, where the kernel's overlayfs has the upper over one read-only union of ours.
//!
//! That union is mounted at `run/unions/PROCESS/mnt` for as long as the overlay is being mounted, and then taken away from there: the overlay
//! has it, and its server ends with the overlay.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::error::{Context as _, Error, Result};
use crate::fuse::Behaviour;
use crate::mount::kernel::overlay::{check_disk, check_kernel};
use crate::mount::launch::launch;
use crate::mount::mountpoint;
use crate::mount::serve_spec::{ServeSpec, Source};
use crate::mount::umount::Umount;
use crate::private_xattr;
use crate::store::Store;
use crate::sys::{self, Dir, MountLine, Overlay, Upper, call, fs, retry};
use crate::whiteout;

/// What the options of such a mount begin with in the kernel's list. Other programs' overlays have one of these, and not all; a
/// container's directories are named by their paths.
const MARKS: [&str; 3] = ["lowerdir=/proc/self/fd/", "upperdir=/proc/self/fd/", "workdir=/proc/self/fd/"];

/// In the directory of each process.
const PLACE: &str = "mnt";

fn dir(store: &Store) -> PathBuf {
    store.run_dir().join("unions")
}

/// Mounts the union that `spec` describes, without its upper, under an overlay with `upper` at `mountpoint`.
///
/// # Errors
/// [`Error::Unsupported`] for an upper in another spelling, and for what overlayfs or the disk cannot do.
pub(crate) fn union(store: &Store, spec: ServeSpec, upper: Upper) -> Result<()> {
    let mountpoint = PathBuf::from(spec.mountpoint.clone());
    check_kernel()?;
    check_upper(&upper.dir)?;
    check_disk(&upper.work, &upper.work)?;
    let images = dir(store);
    let made = retry(|| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&images));
    made.doing("create", &images)?;
    let own = images.join(std::process::id().to_string());
    let place = own.join(PLACE);
    fs::create_dir_all(&place).doing("create", &place)?;
    // Kept from the process that takes away what killed ones have left.
    let lock = File::open(&own).doing("open", &own)?;
    call::flock(&lock, FlockOperation::LockExclusive).doing("lock", &own)?;
    let (source, flags) = (spec.fsname.clone(), spec.flags());
    let propagation = MountPropagationFlags::from_bits_retain(spec.behaviour.propagation);
    let behaviour = Behaviour { under_overlay: true, propagation: 0, ..spec.behaviour.clone() };
    let source_dirs = match spec.source.clone() {
        Source::Directories { lowers, trust, .. } => Source::Directories { upper: None, lowers, trust },
        other => other,
    };
    let below = ServeSpec {
        root: None,
        source: source_dirs,
        mountpoint: place.as_path().into(),
        flags: (MountFlags::RDONLY | MountFlags::NOATIME).bits(),
        behaviour,
        ..spec
    };
    let mounted = launch(&below, None).and_then(|_server| {
        let overlay = Overlay {
            source,
            lowers: vec![place.clone()],
            upper: Some(upper.clone()),
            read_only: flags.contains(MountFlags::RDONLY),
            flags: flags.difference(MountFlags::RDONLY).bits(),
            is_hidden: true,
        };
        let _reserved = mountpoint::reserve(&mountpoint)?;
        mountpoint::check_free(&mountpoint)?;
        overlay.mount(&mountpoint).map_err(|error| refused(error, &upper, &mountpoint))?;
        if propagation.is_empty() {
            return Ok(());
        }
        mount_change(&mountpoint, propagation).or_else(|error| {
            unmount(&mountpoint, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).doing("unmount", &mountpoint)?;
            Err(error).doing("change the propagation of", &mountpoint)
        })
    });
    let removed = take_away(&own, lock).and_then(|()| remove(&images, fs::remove_dir(&images)));
    mounted.and(removed)
}

/// Why the kernel has refused it.
fn refused(error: Errno, upper: &Upper, mountpoint: &Path) -> Error {
    match error {
        Errno::BUSY => Error::InUse {
            kind: "directory",
            name: upper.dir.display().to_string(),
            by: "another overlay has it, or its workdir".to_owned(),
        },
        Errno::STALE => Error::Unsupported(format!(
            "{}: overlayfs knows it as the upper of other layers: use io=cached, or an empty upperdir and workdir",
            upper.dir.display()
        )),
        Errno::INVAL => Error::Usage(format!(
            "{}: overlayfs refuses upperdir and workdir: both must be on one mount of one file system, and neither in the other",
            upper.dir.display()
        )),
        error => Error::Io { doing: "mount an overlay at", path: mountpoint.to_owned(), source: error.into() },
    }
}

/// That nothing in a directory is in AUFS' spelling, which overlayfs would take for files.
fn check_upper(upper: &Path) -> Result<()> {
    let refuse = |path: &Path, why: &str| {
        Err(Error::Unsupported(format!(
            "{}: {why}, which the kernel's overlayfs does not understand: use io=cached, or another upperdir",
            path.display()
        )))
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path: &Path| call::open(path, flags, Mode::empty()).doing("open", path);
    let root = open(upper)?;
    if private_xattr::recorded_prefix(std::os::fd::AsFd::as_fd(&root)).doing("look at", upper)?.is_some() {
        return refuse(upper, "a union of this program has written to it in AUFS' spelling");
    }
    let mut left = vec![upper.to_owned()];
    while let Some(path) = left.pop() {
        let dir = open(&path)?;
        for entry in Dir::read_from(&dir).doing("read", &path)? {
            let entry = entry.doing("read", &path)?;
            let name = entry.file_name().to_bytes();
            let path = path.join(std::ffi::OsStr::from_bytes(name));
            if entry.is_dots() {
                continue;
            }
            if whiteout::is_reserved(name) {
                return refuse(&path, "it is a whiteout in AUFS' spelling");
            }
            if entry.file_type() == rustix::fs::FileType::Directory {
                left.push(path);
            }
        }
    }
    Ok(())
}

/// Takes away the mount in the directory of a process, which is locked.
fn take_away(own: &Path, lock: File) -> Result<()> {
    let place = own.join(PLACE);
    mountpoint::clear_stale(&place)?;
    match unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // It was never mounted, or is gone with its place.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(error).doing("unmount", place),
    }
    remove(&place, fs::remove_dir(&place))?;
    remove(own, fs::remove_dir(own))?;
    drop(lock);
    Ok(())
}

fn remove(path: &Path, removed: std::io::Result<()>) -> Result<()> {
    use std::io::ErrorKind::{DirectoryNotEmpty, NotFound, ResourceBusy};
    match removed {
        Err(error) if matches!(error.kind(), NotFound | ResourceBusy | DirectoryNotEmpty) => Ok(()),
        removed => removed.doing("remove", path),
    }
}

/// Takes away what killed processes have left.
///
/// # Errors
/// What cannot be removed.
pub(crate) fn sweep(store: &Store) -> Result<()> {
    let unions = dir(store);
    let names = match Dir::open(&unions) {
        Err(Errno::NOENT) => return Ok(()),
        names => names.doing("read", &unions)?,
    };
    for name in names {
        let name = name.doing("read", &unions)?;
        if name.is_dots() {
            continue;
        }
        let own = unions.join(std::ffi::OsStr::from_bytes(name.file_name().to_bytes()));
        let lock = match File::open(&own) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            lock => lock.doing("open", &own)?,
        };
        match call::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            locked => locked.doing("lock", &own).and_then(|()| take_away(&own, lock))?,
        }
    }
    remove(&unions, fs::remove_dir(&unions))
}

/// The overlay of such a union that is at a place, and not under something else.
///
/// # Errors
/// When the kernel's list cannot be read.
pub(crate) fn is_union_at(path: &Path) -> Result<bool> {
    union_at(path).map(|union| union.is_some())
}

fn union_at(path: &Path) -> Result<Option<MountLine>> {
    let table = sys::mount_table().doing("read", "/proc/self/mountinfo")?;
    let has = |line: &MountLine, mark: &str| line.options.split(',').any(|option| option.starts_with(mark));
    let is_it = |line: &MountLine| line.fs_type == sys::OVERLAY && MARKS.iter().all(|mark| has(line, mark));
    Ok(table.into_iter().rfind(|line| line.mountpoint == path).filter(is_it))
}

/// Ends such a union when all of it is on the disk; one that cannot be unmounted stays as it was.
///
/// # Errors
/// [`Error::InUse`] while a process uses it.
pub(crate) fn end_union(at: &Path, how: Umount) -> Result<()> {
    let in_use = |by: &str| Error::InUse { kind: "mount", name: at.display().to_string(), by: by.to_owned() };
    let open = || -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        call::open(at, flags, Mode::empty()).doing("open", at)
    };
    let root = open()?;
    // The mount's own flag: the file system's is left by an `umount` that was killed.
    let was_writable = union_at(at)?.is_some_and(|union| !union.is_read_only);
    if how.lazy {
        drop(root);
        return unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).doing("unmount", at);
    }
    match sys::set_read_only(&root, true) {
        Err(Errno::BUSY) if how.force => {}
        Err(Errno::BUSY) => return Err(in_use("a process has a file open there to write to it")),
        made => made.doing("make read-only the mount at", at)?,
    }
    let synced = call::syncfs(&root).doing("flush", at);
    drop(root);
    let flags = if how.force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    let ended = synced.and_then(|()| match unmount(at, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) => Err(in_use("a process has a file open there or works there")),
        ended => ended.doing("unmount", at),
    });
    // error: it is given back when the mount is as it was
    if ended.is_err() && was_writable {
        sys::set_read_only(open()?, false).doing("make writable the mount at", at)?;
    }
    ended
}
