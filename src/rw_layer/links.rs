//! Files of several names that overlayfs has copied up, made whole before the next mount: all names in the upper directory, and
//! nothing in overlayfs' index.
//!
//! Overlayfs finds the lower file of an index entry by its handle when it is mounted, and takes an entry away whose file it does
//! not find, with what was written to it (fs/overlayfs/namei.c, `ovl_verify_index`). From Linux 6.16 on a file of a FUSE mount that
//! was found by its handle alone cannot be used (`fuse_dentry_revalidate`), so that our mount of an image opens none by its handle.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{Context as _, Result};
use crate::index::{Indexed, overlay_index};
use crate::private_xattr;
use crate::rw_layer::unreadable;
use crate::store::{Container, Store};
use crate::sys::{self, Dir, call, fs};
use crate::union::{Attr, Ino, Union};

/// Makes the files of a container's rw layer whole. To be called with the container's lock; killed, it is done again.
///
/// # Errors
/// What the disk says.
pub(crate) fn make_links_whole(store: &Store, container: &Container) -> Result<()> {
    name_indexed(store, container)?;
    let upper = container.upper();
    forget_origins(&upper).doing("bring into order", &upper)
}

/// Takes from each file of several names in the upper whose copy it is: one name would be found by the handle, which the kernel
/// happens to know, and another one not, and they would be two files.
fn forget_origins(upper: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let named = |mark: &[u8]| [private_xattr::OVERLAY[0], mark].concat();
    let (origin, metacopy) = (named(b"origin"), named(b"metacopy"));
    let mut left = vec![(Rc::new(call::open(upper, flags, Mode::empty())?), Vec::new())];
    while let Some((parent, name)) = left.pop() {
        let dir = if name.is_empty() { parent } else { Rc::new(call::openat(&*parent, &*name, flags, Mode::empty())?) };
        for entry in Dir::read_from(&*dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if entry.is_dots() {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                left.push((dir.clone(), name.to_vec()));
                continue;
            }
            let stat = call::statat(&*dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if stat.st_nlink < 2 || kind == FileType::CharacterDevice {
                continue;
            }
            let path = sys::proc_path(dir.as_fd(), name);
            // The data of such a one are found by its name in the layer, and the rest with them.
            match sys::read_xattr(&path, &metacopy) {
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                found => {
                    found?;
                    continue;
                }
            }
            match call::lremovexattr(&*path, &*origin) {
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

fn name_indexed(store: &Store, container: &Container) -> Result<()> {
    let index = container.overlay_index();
    let shared = overlay_index(&index).map_err(unreadable)?;
    if shared.is_empty() {
        return Ok(());
    }
    let union = crate::rw_layer::first_view(store, container)?;
    let upper = container.upper();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = call::open(&upper, flags, Mode::empty()).doing("open", &upper)?;
    for file in &shared {
        for name in union.paths_of(file.number, file.generation) {
            name_it(&union, &root, file, &name).doing("make whole", &file.path)?;
        }
    }
    drop(union);
    // All names are on the disk before the entry that stands for them goes.
    call::syncfs(&root).doing("flush", &upper)?;
    for file in &shared {
        for mark in ["origin", "nlink"] {
            let name = [private_xattr::OVERLAY[0], mark.as_bytes()].concat();
            match call::lremovexattr(&file.path, &*name) {
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                removed => removed.doing("unmark", &file.path)?,
            }
        }
        fs::remove_file(&file.path).doing("remove", &file.path)?;
    }
    Ok(())
}

/// Gives a file of the index one more name in the upper.
fn name_it(union: &Union, root: &OwnedFd, file: &Indexed, path: &[Vec<u8>]) -> io::Result<()> {
    let Some((name, dirs)) = path.split_last() else { return Ok(()) };
    let mut at = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    let mut shown = union.getattr(Ino::ROOT)?;
    for dir in dirs {
        shown = union.lookup(shown.ino, dir)?;
        at = enter(union, &at, dir, &shown)?;
    }
    unseen(&at, || match call::linkat(CWD, &file.path, &at, &**name, AtFlags::empty()) {
        Err(Errno::EXIST) => Ok(()),
        linked => Ok(linked?),
    })
}

/// The directory `name`, which is made as the merged one is.
fn enter(union: &Union, at: &OwnedFd, name: &[u8], shown: &Attr) -> io::Result<OwnedFd> {
    let open = || sys::open_in(at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        opened => return Ok(opened?),
    }
    unseen(at, || {
        call::mkdirat(at, name, Mode::RWXU)?;
        crate::rw_layer::rebuild::describe(
            at,
            name,
            shown,
            &union.xattrs(shown.ino)?,
            crate::store::Spelling::Overlayfs,
        )
    })?;
    Ok(open()?)
}

/// Changes a directory in a way that its times do not tell of.
fn unseen(dir: &OwnedFd, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let stat = fs::symlink_metadata(Path::new(std::ffi::OsStr::from_bytes(&sys::proc_path(dir.as_fd(), b"."))))?;
    change()?;
    let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec };
    let times = Timestamps {
        last_access: time(stat.atime(), stat.atime_nsec()),
        last_modification: time(stat.mtime(), stat.mtime_nsec()),
    };
    Ok(call::futimens(dir, &times)?)
}
