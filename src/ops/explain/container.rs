//! What a container's rw layer does to a path.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::Given;
use crate::error::Result;
use crate::index::{Kind, Meta, Time};
use crate::ops::pack::meta_of;
use crate::ops::view::{View, container_view, layers_view};
use crate::store::{Container, ContainerState, Store};
use crate::union::{Attr, Errno, Ino, Union};

/// A container's tree, and that of its layers alone.
pub(super) struct Own {
    container: View,
    layers: View,
}

/// How a container's tree is looked at.
pub(super) enum Rw {
    /// Nobody else has it.
    Own(Box<Own>),
    /// Its mount.
    Mounted(PathBuf),
}

impl Rw {
    pub(super) fn open(store: &Store, container: &Container) -> Result<Self> {
        if container.state()? == ContainerState::Running
            && let Some(mount) = container.mount()?
        {
            return Ok(Self::Mounted(mount.mountpoint));
        }
        let layers = layers_view(store, &container.record.layers)?;
        Ok(Self::Own(Box::new(Own { container: container_view(store, container)?, layers })))
    }

    /// What the rw layer has at a path, `Some(None)` when it removes it, `None` when it does nothing to it. Its layers show
    /// `below` there.
    pub(super) fn given(&self, path: &[Vec<u8>], below: Option<&Given>) -> io::Result<Option<Option<Given>>> {
        let now = match self {
            Self::Own(own) => {
                let union = &own.container.union;
                match find(union, path)? {
                    None => None,
                    Some(attr) => {
                        let is_below = find(&own.layers.union, path)?.is_some_and(|below| below.ino == attr.ino);
                        if is_below && !union.is_in_upper(attr.ino) {
                            return Ok(None);
                        }
                        let target = if attr.kind == Kind::Symlink { union.readlink(attr.ino)? } else { Vec::new() };
                        Some(given(meta_of(&attr), target))
                    }
                }
            }
            Self::Mounted(dir) => match mounted(dir, path)? {
                Some((now, ctime)) => {
                    // What is not changed shows all times of the layer's tar.
                    let is_same = |below: &Given| below.meta.mtime == ctime && same(&below.meta, &now.meta);
                    if below.is_some_and(is_same) {
                        return Ok(None);
                    }
                    Some(now)
                }
                None => None,
            },
        };
        Ok(match (now, below) {
            (None, None) => None,
            (None, Some(_)) => Some(None),
            (now, _) => Some(now),
        })
    }
}

fn given(meta: Meta, target: Vec<u8>) -> Given {
    Given { meta, target, digest: None, names: Vec::new(), is_implied: false }
}

fn same(one: &Meta, other: &Meta) -> bool {
    let of = |meta: &Meta| (meta.kind, meta.mode, meta.uid, meta.gid, meta.rdev, meta.mtime);
    of(one) == of(other) && (one.kind == Kind::Directory || one.size == other.size)
}

fn find(union: &Union, path: &[Vec<u8>]) -> io::Result<Option<Attr>> {
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
    Ok(Some(at))
}

/// What a mount shows at a path, and when that was last changed. No link is followed: every directory on the way is looked
/// at first.
fn mounted(dir: &std::path::Path, path: &[Vec<u8>]) -> io::Result<Option<(Given, Time)>> {
    let mut at = dir.to_owned();
    let mut stat = at.symlink_metadata()?;
    for name in path {
        if !stat.is_dir() {
            return Ok(None);
        }
        at.push(OsStr::from_bytes(name));
        stat = match at.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            stat => stat?,
        };
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
        Kind::Symlink => at.read_link()?.into_os_string().into_encoded_bytes(),
        _ => Vec::new(),
    };
    Ok(Some((given(meta, target), time(stat.ctime(), stat.ctime_nsec()))))
}
