//! What a container's rw layer does to a path.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::Result;
use crate::explain::Given;
use crate::index::{Kind, Meta, Time};
use crate::mount::access::{Access, MountRoot, access};
use crate::mount::command_mounts;
use crate::pack::rw_layer::meta_of;
use crate::store::{Container, Store};
use crate::sys::fs;
use crate::union::{Errno, Ino, Union};
use crate::view::{View, locked_view, overlay_view};

/// How a container's tree is looked at.
pub(super) enum Rw {
    /// The container is not mounted, and this process has its lock.
    Own(Box<View>),
    /// Its mount.
    Mounted(Box<MountRoot>),
}

/// What a rw layer does to a path.
pub(super) enum Touch {
    /// It is as in the layers.
    Nothing,
    /// It is not there any more.
    Removes,
    /// It is that of the layers, changed.
    Merges(Given),
    /// It is another.
    Replaces(Given),
}

impl Rw {
    pub(super) fn open(store: &Store, container: &Container) -> Result<Self> {
        Ok(match access(store, container)? {
            Access::Mounted(root) => Self::Mounted(Box::new(root)),
            Access::Locked(lock) => Self::Own(Box::new(locked_view(store, container, lock)?)),
            Access::Overlay(access) => Self::Own(Box::new(overlay_view(store, container, access)?)),
        })
    }

    /// What the rw layer does to a path where its layers show `below`.
    pub(super) fn touch(&self, path: &[Vec<u8>], below: Option<(&Given, Ino)>) -> io::Result<Touch> {
        let found = match self {
            Self::Own(view) => found(&view.union, path)?,
            Self::Mounted(root) => mounted(&root.path(), path)?,
        };
        Ok(match (found, below) {
            (None, None) => Touch::Nothing,
            (None, Some(_)) => Touch::Removes,
            (Some(found), Some((below, ino))) if found.ino == ino => {
                // A mount does not tell what is in its rw layer, but a file that was never changed shows the times of the
                // layer's tar.
                let untouched = || found.ctime == below.meta.mtime && same(&below.meta, &found.given.meta);
                let is_touched = found.is_in_upper.unwrap_or_else(|| !untouched());
                if is_touched { Touch::Merges(found.given) } else { Touch::Nothing }
            }
            (Some(found), _) => Touch::Replaces(found.given),
        })
    }
}

/// What a container shows at a path.
struct Found {
    given: Given,
    ino: Ino,
    ctime: Time,
    /// Where that is known.
    is_in_upper: Option<bool>,
}

fn given(meta: Meta, target: Vec<u8>) -> Given {
    Given { meta, target, digest: None, names: Vec::new(), is_implied: false }
}

fn same(one: &Meta, other: &Meta) -> bool {
    let of = |meta: &Meta| (meta.kind, meta.mode, meta.uid, meta.gid, meta.rdev, meta.mtime);
    of(one) == of(other) && (one.kind == Kind::Directory || one.size == other.size)
}

fn found(union: &Union, path: &[Vec<u8>]) -> io::Result<Option<Found>> {
    let mut at = union.getattr(Ino::ROOT)?;
    for name in path {
        if at.kind != Kind::Directory {
            return Ok(None);
        }
        at = match union.lookup(at.ino, name) {
            Err(Errno::ENOENT) => return Ok(None),
            found => found?,
        };
    }
    let target = if at.kind == Kind::Symlink { union.readlink(at.ino)? } else { Vec::new() };
    let is_in_upper = Some(union.is_changed(at.ino));
    let ino = union.below_of(at.ino).unwrap_or(at.ino);
    Ok(Some(Found { given: given(meta_of(&at), target), ino, ctime: at.ctime, is_in_upper }))
}

/// What a mount shows at a path. No link is followed: every directory on the way is looked
/// at first.
fn mounted(dir: &Path, path: &[Vec<u8>]) -> io::Result<Option<Found>> {
    let mut at = dir.to_owned();
    let mut stat = fs::symlink_metadata(&at)?;
    let times = |stat: &Metadata| [(stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec())];
    for name in path {
        if !stat.is_dir() {
            return Ok(None);
        }
        at.push(OsStr::from_bytes(name));
        stat = match fs::symlink_metadata(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            stat => stat?,
        };
    }
    if command_mounts::is_of_command(Ino(stat.ino()), times(&stat)) {
        return Ok(None);
    }
    let kind = Kind::from_mode(stat.mode()).ok_or(rustix::io::Errno::IO)?;
    let time = |sec, nsec: i64| Time { sec, nsec: u32::try_from(nsec).unwrap_or_default() };
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let meta = Meta {
        kind,
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        mtime: time(stat.mtime(), stat.mtime_nsec()),
        rdev: if is_device { (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev())) } else { (0, 0) },
        size: if matches!(kind, Kind::File | Kind::Symlink) { stat.size() } else { 0 },
        blocks: stat.blocks(),
    };
    let target = match kind {
        Kind::Symlink => fs::read_link(&at)?.into_os_string().into_encoded_bytes(),
        _ => Vec::new(),
    };
    let ctime = time(stat.ctime(), stat.ctime_nsec());
    Ok(Some(Found { given: given(meta, target), ino: Ino(stat.ino()), ctime, is_in_upper: None }))
}
