//! A directory of the upper as it is on disk: opened, read, removed.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno as Raw;

use super::errno::{Errno, FsResult};
use crate::index::Kind;
use crate::sys::{Dir, call};
use crate::whiteout::{self, Marker};

/// One name on disk.
#[derive(Debug)]
pub(super) struct DiskEntry {
    pub(super) name: Box<[u8]>,
    pub(super) kind: Kind,
    /// The inode number on disk.
    pub(super) ino: u64,
}

/// A directory's content on disk.
#[derive(Debug, Default)]
pub(super) struct DiskDir {
    pub(super) entries: Vec<DiskEntry>,
    pub(super) whiteouts: Vec<Box<[u8]>>,
    pub(super) opaque: bool,
    /// The union's own.
    pub(super) private: Vec<Box<[u8]>>,
}

impl DiskDir {
    /// Whether nothing is there but what is private to the union.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.whiteouts.is_empty() && !self.opaque
    }
}

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NOATIME);

/// Opens the directory `name` in `dir`, which must not be a link.
pub(super) fn open_directory(dir: BorrowedFd<'_>, name: &[u8]) -> FsResult<OwnedFd> {
    Ok(call::openat(dir, name, DIRECTORY, Mode::empty())?)
}

/// Reads a directory of the upper.
pub(super) fn read_directory(dir: BorrowedFd<'_>) -> FsResult<DiskDir> {
    let mut found = DiskDir::default();
    // Opened here, so that reading leaves no trace in its access time.
    for entry in Dir::new(open_directory(dir, b".")?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        match whiteout::parse(name) {
            None if name == b"." || name == b".." => {}
            None => {
                let kind = match Kind::from_mode(entry.file_type().as_raw_mode()) {
                    Some(kind) => kind,
                    None => kind_of_stat(&call::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)?,
                };
                found.entries.push(DiskEntry { name: name.into(), kind, ino: entry.ino() });
            }
            Some(Marker::Whiteout(hidden)) => found.whiteouts.push(hidden.into()),
            Some(Marker::Opaque) => found.opaque = true,
            Some(Marker::Long) => found.whiteouts.push(read_long_whiteout(dir, name)?),
            Some(Marker::Private) => found.private.push(name.into()),
            Some(Marker::Invalid) => {}
        }
    }
    Ok(found)
}

fn read_long_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> FsResult<Box<[u8]>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = call::openat(dir, name, flags, Mode::empty())?;
    let mut content = vec![0; whiteout::NAME_MAX];
    let length = call::pread(&file, &mut content, 0)?;
    content.truncate(length);
    Ok(content.into())
}

/// Removes `name` in `dir` with all that is in it; that it is not there is no error.
pub(super) fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> FsResult<()> {
    match call::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Raw::NOENT) => return Ok(()),
        Err(Raw::ISDIR | Raw::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    // What the union discards is at most a directory of markers: the depth is bounded by what it made.
    let inner = open_directory(dir, name)?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_tree(inner.as_fd(), name)?;
        }
    }
    Ok(call::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

pub(super) fn kind_of_stat(stat: &Stat) -> FsResult<Kind> {
    Kind::from_mode(stat.st_mode).ok_or(Errno::EIO)
}
