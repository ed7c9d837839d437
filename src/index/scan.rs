//! The tree of a plain directory, for unions of directories that are no layers of a store.
//!
//! Whiteouts are understood as AUFS writes them (`.wh.NAME` files) and as overlayfs does: a character
//! device 0:0, or an empty file with the attribute `overlay.whiteout`; a directory with the attribute
//! `overlay.opaque` of `y` (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat};

use super::{Builder, Index, Kind, Meta, NewNode, NodeId, Time, Xattrs};
use crate::mark::{self, OVERLAY, OWN};
use crate::sys;
use crate::whiteout::{self, Marker};

/// A directory that could not be read as a layer.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct ScanError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said, or what stands against it.
    pub source: io::Error,
}

/// Why a file cannot be read as a part of a layer.
enum Refusal {
    System(rustix::io::Errno),
    /// Its data, or its content, are in a layer that the mark names.
    Mark,
}

impl From<rustix::io::Errno> for Refusal {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::System(errno)
    }
}

impl Refusal {
    fn at(self, path: &Path) -> ScanError {
        let source = match self {
            Self::System(errno) => errno.into(),
            Self::Mark => io::Error::other("is marked as a part of another layer's file: commit that layer first"),
        };
        ScanError { path: path.to_owned(), source }
    }
}

struct Scan {
    builder: Builder,
    /// Files of several names, by device and inode.
    links: HashMap<(u64, u64), NodeId>,
}

struct Pending {
    parent: Rc<OwnedFd>,
    name: Vec<u8>,
    id: NodeId,
    path: PathBuf,
}

/// Indexes the directory `dir`: it must not change as long as the index is in use.
///
/// # Errors
/// [`ScanError`] when something in it cannot be read, or has a mark of a rw layer that only makes sense
/// over its own lowers.
pub fn scan(dir: &Path) -> Result<Index, ScanError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: rustix::io::Errno| ScanError { path, source: error.into() }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = Rc::new(rustix::fs::open(dir, flags, Mode::empty()).map_err(failed(dir))?);
    let stat = rustix::fs::fstat(&root).map_err(failed(dir))?;
    let mut scan = Scan { builder: Builder::new(), links: HashMap::new() };
    let (node, opaque) = describe(root.as_fd(), b"", &stat, Kind::Directory).map_err(|refusal| refusal.at(dir))?;
    scan.builder.set_root(node);
    if opaque {
        scan.builder.opaque(NodeId::ROOT);
    }
    let mut todo = Vec::new();
    scan.directory(&root, NodeId::ROOT, dir, &mut todo)?;
    while let Some(Pending { parent, name, id, path }) = todo.pop() {
        let flags = flags | OFlags::NOFOLLOW;
        let opened = rustix::fs::openat(&*parent, &*name, flags, Mode::empty()).map_err(failed(&path))?;
        scan.directory(&Rc::new(opened), id, &path, &mut todo)?;
    }
    scan.builder
        .finish()
        .map_err(|error| ScanError { path: dir.to_owned(), source: io::Error::other(error.to_string()) })
}

impl Scan {
    fn directory(
        &mut self,
        dir: &Rc<OwnedFd>,
        id: NodeId,
        path: &Path,
        todo: &mut Vec<Pending>,
    ) -> Result<(), ScanError> {
        use std::os::unix::ffi::OsStrExt as _;
        let failed = |path: &Path, error: rustix::io::Errno| ScanError { path: path.to_owned(), source: error.into() };
        let mut names = Vec::new();
        for entry in Dir::read_from(&**dir).map_err(|error| failed(path, error))? {
            let entry = entry.map_err(|error| failed(path, error))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        // The numbers of the nodes must not depend on the order on disk.
        names.sort_unstable();
        for name in names {
            let full = path.join(std::ffi::OsStr::from_bytes(&name));
            self.entry(dir, id, name, full.clone(), todo).map_err(|refusal| refusal.at(&full))?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &Rc<OwnedFd>,
        parent: NodeId,
        name: Vec<u8>,
        path: PathBuf,
        todo: &mut Vec<Pending>,
    ) -> Result<(), Refusal> {
        match whiteout::parse(&name) {
            None => {}
            Some(Marker::Whiteout(hidden)) => {
                self.builder.whiteout(parent, hidden);
                return Ok(());
            }
            Some(Marker::Opaque) => {
                self.builder.opaque(parent);
                return Ok(());
            }
            Some(Marker::Long) => {
                let hidden = read_name(dir.as_fd(), &name)?;
                self.builder.whiteout(parent, &hidden);
                return Ok(());
            }
            Some(Marker::Private | Marker::Invalid) => return Ok(()),
        }
        let stat = rustix::fs::statat(&**dir, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = Kind::from_mode(stat.st_mode).ok_or(Refusal::System(rustix::io::Errno::IO))?;
        if kind == Kind::CharDevice && stat.st_rdev == 0 {
            self.builder.whiteout(parent, &name);
            return Ok(());
        }
        let key = (stat.st_dev, stat.st_ino);
        if kind != Kind::Directory
            && stat.st_nlink > 1
            && let Some(first) = self.links.get(&key)
            && self.builder.link(parent, &name, *first).is_ok()
        {
            return Ok(());
        }
        let (node, marked) = describe(dir.as_fd(), &name, &stat, kind)?;
        if marked && kind == Kind::File {
            self.builder.whiteout(parent, &name);
            return Ok(());
        }
        let id = self.builder.put(parent, &name, node);
        if kind == Kind::Directory {
            if marked {
                self.builder.opaque(id);
            }
            todo.push(Pending { parent: dir.clone(), name, id, path });
        } else if stat.st_nlink > 1 {
            self.links.insert(key, id);
        }
        Ok(())
    }
}

/// Describes a file, and says whether overlayfs marked it: a directory as opaque, a file as a whiteout.
fn describe(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat, kind: Kind) -> Result<(NewNode, bool), Refusal> {
    let mut marked = false;
    let mut xattrs = Xattrs::new();
    for (attribute, value) in sys::read_xattrs(&sys::proc_path(dir, name))? {
        let of = |prefixes: [&[u8]; 2], wanted: &[u8]| {
            prefixes.iter().any(|prefix| attribute.strip_prefix(*prefix) == Some(wanted))
        };
        let elsewhere = of(OVERLAY, b"metacopy") || of(OVERLAY, b"redirect") || of(OWN, b"metacopy");
        if elsewhere || (of(OWN, b"origin") && kind == Kind::Directory) {
            return Err(Refusal::Mark);
        } else if of(OVERLAY, b"opaque") && kind == Kind::Directory {
            marked |= value == b"y";
        } else if of(OVERLAY, b"whiteout") && kind == Kind::File && stat.st_size == 0 {
            marked = true;
        } else if let Some(content) = mark::unescape(&attribute) {
            xattrs.push((content.to_vec(), value));
        }
    }
    let target = match kind {
        Kind::Symlink => rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes(),
        _ => Vec::new(),
    };
    Ok((NewNode { meta: meta(stat, kind), target, xattrs, digest: None }, marked))
}

#[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
fn meta(stat: &Stat, kind: Kind) -> Meta {
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let has_size = matches!(kind, Kind::File | Kind::Symlink);
    Meta {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time {
            sec: stat.st_mtime.into(),
            nsec: u32::try_from(u64::from(stat.st_mtime_nsec)).unwrap_or_default(),
        },
        rdev: if is_device { (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) } else { (0, 0) },
        size: if has_size { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 },
        blocks: u64::try_from(stat.st_blocks).unwrap_or_default(),
    }
}

/// Reads the name that a long whiteout holds.
fn read_name(dir: BorrowedFd<'_>, file: &[u8]) -> rustix::io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, file, flags, Mode::empty())?;
    let mut name = vec![0; whiteout::NAME_MAX];
    let length = rustix::io::pread(&file, &mut name, 0)?;
    name.truncate(length);
    Ok(name)
}
