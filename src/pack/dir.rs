//! A plain directory as a layer's tar.
//!
//! The tar has the directory's content but no entry for the directory itself, whose owner, mode and time are only those of the
//! user that made it. The order is canonical: a directory before what is in it, names by their bytes; a file of several names
//! stands under the first of them. Whiteouts have the one spelling of layers, however the directory spells them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::{Context as _, Error, Result};
use crate::index::{self, Child, Index, Kind, Meta, Node, NodeId, Time, Xattrs};
use crate::sys::{call, fs};
use crate::tarball::{Pack, Packed, is_label};

/// A directory that was looked through.
pub(crate) struct DirTar {
    dir: PathBuf,
    top: File,
    index: Index,
    latest: Option<Time>,
}

/// A directory whose entries are being written.
struct Frame<'a> {
    /// Bytes of its path.
    path: usize,
    children: index::Children<'a>,
}

impl DirTar {
    /// Looks through `dir`. No file of it will be of a later time than `latest`.
    ///
    /// # Errors
    /// When something in it cannot be read, or belongs to a rw layer that is not whole without its lowers.
    pub(crate) fn new(dir: &Path, latest: Option<Time>) -> Result<Self> {
        let top = File::open(dir).doing("open", dir)?;
        let scanned = index::scan(dir);
        let index = scanned.map_err(|error| Error::Io { doing: "read", path: error.path, source: error.source })?;
        Ok(Self { dir: dir.to_owned(), top, index, latest })
    }

    /// Writes the tar.
    ///
    /// # Errors
    /// When `out` cannot be written; when a file cannot be read, or has changed since it was looked at.
    pub(crate) fn write(&self, out: &mut dyn Write) -> Result<()> {
        let mut pack = Pack::new(out).not_after(self.latest);
        let mut path = Vec::new();
        let mut told: HashMap<NodeId, Vec<u8>> = HashMap::new();
        if self.index.node(NodeId::ROOT).is_some_and(|root| root.is_opaque()) {
            pack.opaque(b"").doing("write", "a layer's tar")?;
        }
        let mut stack = vec![Frame { path: 0, children: self.index.children(NodeId::ROOT) }];
        while let Some(frame) = stack.last_mut() {
            path.truncate(frame.path);
            let Some(entry) = frame.children.next() else {
                stack.pop();
                continue;
            };
            let Child::Node(id) = entry.target else {
                pack.whiteout(&path, entry.name).doing("write", "a layer's tar")?;
                continue;
            };
            let (node, meta) = self.node(id)?;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.name);
            match told.get(&id) {
                Some(_) if meta.kind == Kind::Socket => {}
                Some(target) => pack.link(&path, target, &meta).doing("write", "a layer's tar")?,
                None => self.entry(&mut pack, &path, &node, &meta)?,
            }
            if meta.kind == Kind::Directory {
                if node.is_opaque() {
                    pack.opaque(&path).doing("write", "a layer's tar")?;
                }
                stack.push(Frame { path: path.len(), children: self.index.children(id) });
            } else if node.nlink() > 1 {
                told.entry(id).or_insert_with(|| path.clone());
            }
        }
        pack.finish().map(drop).doing("write", "a layer's tar")
    }

    fn node(&self, id: NodeId) -> Result<(Node<'_>, Meta)> {
        let found = self.index.node(id).and_then(|node| Some((node, node.meta()?)));
        found.ok_or_else(|| Error::Unsupported(format!("{} could not be read", self.dir.display())))
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        self.dir.join(OsStr::from_bytes(path))
    }

    fn entry(&self, pack: &mut Pack<&mut dyn Write>, path: &[u8], node: &Node<'_>, meta: &Meta) -> Result<()> {
        let xattrs: Xattrs = node
            .xattrs()
            .filter(|(name, _)| !is_label(name))
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        let packed = Packed { path, meta, target: node.target(), xattrs: &xattrs };
        if meta.kind != Kind::File {
            return pack.entry(packed, &mut io::empty()).doing("write", "a layer's tar");
        }
        let shown = self.shown(path);
        let mut content = Content { file: self.open(path).doing("read", &shown)?, failure: None };
        let changed =
            || Error::Io { doing: "read", path: shown.clone(), source: io::Error::other("it is being changed") };
        if !is_as_found(&content.file, meta).doing("read", &shown)? {
            return Err(changed());
        }
        match (pack.entry(packed, &mut content), content.failure) {
            (Ok(()), _) => {}
            (Err(_), Some(source)) => return Err(Error::Io { doing: "read", path: shown, source }),
            (Err(error), None) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed()),
            (written, None) => return written.doing("write", "a layer's tar"),
        }
        if is_as_found(&content.file, meta).doing("read", &shown)? { Ok(()) } else { Err(changed()) }
    }

    /// Opens a file where it was found; a link that has come into its way leads nowhere.
    fn open(&self, path: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(call::openat2(self.top.as_fd(), path, flags, Mode::empty(), resolve)?.into())
    }
}

/// Reads the content of a file and keeps a failure to read it, apart from the errors of the tar's writer.
struct Content {
    file: File,
    failure: Option<io::Error>,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|error| {
            let kind = error.kind();
            self.failure = Some(error).filter(|error| error.kind() != io::ErrorKind::Interrupted);
            kind.into()
        })
    }
}

/// Whether a file still is the one that was looked at.
fn is_as_found(file: &File, meta: &Meta) -> io::Result<bool> {
    let now = fs::metadata_of(file)?;
    let mtime = Time { sec: now.mtime(), nsec: u32::try_from(now.mtime_nsec()).unwrap_or_default() };
    Ok(now.is_file() && now.len() == meta.size && mtime == meta.mtime)
}
