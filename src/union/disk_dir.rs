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
    let top = open_directory(dir, name)?;
    let mut moved = 0u64;
    loop {
        let before = moved;
        for name in names_in(&top)? {
            if !remove_entry(&top, &name)? {
                empty(&top, &name, &mut moved)?;
            }
        }
        if moved == before {
            break;
        }
    }
    Ok(call::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Removes a directory in `top`, once the directories in it that are not empty are moved up into `top`: however deep a tree
/// is, neither stack nor descriptors run out.
fn empty(top: &OwnedFd, name: &[u8], moved: &mut u64) -> FsResult<()> {
    let inner = open_directory(top.as_fd(), name)?;
    for name in names_in(&inner)? {
        while !remove_entry(&inner, &name)? {
            *moved = moved.saturating_add(1);
            match call::renameat(&inner, &*name, top, format!("up.{moved}").as_str()) {
                Ok(()) => break,
                // The name is taken.
                Err(Raw::NOTEMPTY | Raw::EXIST | Raw::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(call::unlinkat(top, name, AtFlags::REMOVEDIR)?)
}

/// Removes a file or an empty directory; `false` for a directory that is not empty.
fn remove_entry(dir: &OwnedFd, name: &[u8]) -> FsResult<bool> {
    let removed = match call::unlinkat(dir, name, AtFlags::empty()) {
        Err(Raw::ISDIR | Raw::PERM) => call::unlinkat(dir, name, AtFlags::REMOVEDIR),
        removed => removed,
    };
    match removed {
        Ok(()) | Err(Raw::NOENT) => Ok(true),
        Err(Raw::NOTEMPTY | Raw::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn names_in(dir: &OwnedFd) -> FsResult<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.into());
        }
    }
    Ok(names)
}

pub(super) fn kind_of_stat(stat: &Stat) -> FsResult<Kind> {
    Kind::from_mode(stat.st_mode).ok_or(Errno::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let place = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        let file = |dir: &OwnedFd, name: &str| {
            rustix::fs::openat(dir, name, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        };
        file(&place, "file");
        rustix::fs::mkdirat(&place, "tree", Mode::RWXU).unwrap();
        let mut at = rustix::fs::openat(&place, "tree", flags, Mode::empty()).unwrap();
        // A name that something is moved to.
        file(&at, "up.1");
        for depth in 0..10_000 {
            file(&at, "file");
            rustix::fs::mkdirat(&at, "empty", Mode::RWXU).unwrap();
            let name = if depth % 2 == 0 { "up.2" } else { "d" };
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, name, flags, Mode::empty()).unwrap();
        }
        remove_tree(place.as_fd(), b"tree").unwrap();
        remove_tree(place.as_fd(), b"tree").unwrap();
        remove_tree(place.as_fd(), b"file").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
