//! The rw layer of a union as a layer's tar.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Result};
use crate::fuse::Freeze;
use crate::index::{Kind, Meta, Time, Xattrs};
use crate::pack::recorded::Recorded;
use crate::tarball::{Pack, Packed};
use crate::union::{Attr, Change, Errno, FsResult, Ino, Union};
use crate::whiteout;

/// The content of a file of the union.
pub(crate) struct Content<'a> {
    union: &'a Union,
    ino: Ino,
    at: u64,
}

impl<'a> Content<'a> {
    pub(crate) const fn new(union: &'a Union, ino: Ino) -> Self {
        Self { union, ino, at: 0 }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.union.read(self.ino, self.at, buffer)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

/// Writes the tar of all that `union` changes to `out`; false when `union` changes nothing. Messages call `out` by the name
/// `shown`. No time in the tar is later than `latest`. The union must not be changed meanwhile.
///
/// # Errors
/// When the union cannot be read, or `out` not be written.
pub fn pack(union: &Union, out: &mut dyn Write, shown: &Path, latest: Option<Time>) -> Result<bool> {
    write(out, shown, latest, |path, each| union.changes(path, each), &mut |pack, change| {
        write_entry(union, pack, change)
    })
}

/// The same while the union is changed: changes wait at `freeze` as long as one entry is written, so that each is as it was at
/// one moment.
///
/// # Errors
/// As [`pack()`].
pub(crate) fn pack_live(
    union: &Union,
    freeze: &Freeze,
    out: &mut dyn Write,
    shown: &Path,
    latest: Option<Time>,
) -> Result<bool> {
    // The last that had gone: nothing is told of what is below it.
    let mut gone: Option<Vec<u8>> = None;
    write(out, shown, latest, |path, each| union.changes_live(path, each), &mut |pack, change| {
        let (Change::Entry { path: at, .. }
        | Change::Link { path: at, .. }
        | Change::Whiteout { dir: at, .. }
        | Change::Opaque { dir: at }) = change;
        if gone.as_ref().is_some_and(|gone| is_at_or_below(at, gone)) {
            return Ok(());
        }
        let Change::Entry { path, attr, hides } = change else { return write_entry(union, pack, change) };
        let _held = freeze.begin();
        match union.getattr(attr.ino) {
            Ok(attr) if attr.nlink != 0 => write_entry(union, pack, Change::Entry { path, attr, hides }),
            // It has gone since it was found, or another is in its place.
            Ok(_) | Err(Errno::ENOENT | Errno::ESTALE) => {
                if let Some(found) = Found::at(union, path)? {
                    return write_entry(union, pack, Change::Entry { path, attr: found.attr, hides });
                }
                gone = Some(path.to_vec());
                let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                let dir = path.strip_suffix(name).unwrap_or_default();
                let dir = dir.strip_suffix(b"/").unwrap_or(dir);
                if hides { write_entry(union, pack, Change::Whiteout { dir, name }) } else { Ok(()) }
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// A file that is at a path now, kept until this is dropped.
struct Found<'a> {
    union: &'a Union,
    attr: Attr,
}

impl<'a> Found<'a> {
    /// None where nothing is, or a directory: what is in that is not told any more.
    fn at(union: &'a Union, path: &[u8]) -> FsResult<Option<Self>> {
        let mut at = Self { union, attr: union.getattr(Ino::ROOT)? };
        for name in path.split(|byte| *byte == b'/') {
            at = match union.lookup(at.attr.ino, name) {
                Ok(attr) => Self { union, attr },
                Err(Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR) => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        Ok(Some(at).filter(|found| found.attr.kind != Kind::Directory))
    }
}

impl Drop for Found<'_> {
    fn drop(&mut self) {
        // No reference to the root is counted.
        if self.attr.ino != Ino::ROOT {
            self.union.forget(self.attr.ino, 1);
        }
    }
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top).is_some_and(|below| below.is_empty() || below.starts_with(b"/"))
}

/// Takes the changes of a union.
type Each<'a> = &'a mut dyn FnMut(Change<'_>) -> FsResult<()>;
type WriteEntry<'a> = &'a mut dyn FnMut(&mut Pack<&mut dyn Write>, Change<'_>) -> io::Result<()>;

fn write(
    out: &mut dyn Write,
    shown: &Path,
    latest: Option<Time>,
    changes: impl FnOnce(&mut Vec<u8>, Each<'_>) -> FsResult<()>,
    entry: WriteEntry<'_>,
) -> Result<bool> {
    let mut out = Recorded::new(out);
    let mut pack = Pack::new(&mut out as &mut dyn Write).not_after(latest);
    let (mut path, mut is_changed) = (Vec::new(), false);
    // The union knows errors as numbers only; another one would lose its text.
    let mut failure = None;
    let told = changes(&mut path, &mut |change| {
        is_changed = true;
        entry(&mut pack, change).map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno);
            failure = Some(error);
            errno
        })
    });
    let told = told.map_err(|errno| failure.unwrap_or_else(|| errno.into()));
    let written = told.and_then(|()| pack.finish().map(drop));
    match (written, out.failure) {
        (Ok(()), _) => Ok(is_changed),
        (Err(_), Some(error)) => Err(error).doing("write", shown),
        (Err(error), None) => Err(error).doing("read the rw layer's", place(&path)),
    }
}

/// A path of a union as a command sees it.
pub(crate) fn place(path: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(path))
}

/// Writes one entry of a tree or change.
///
/// # Errors
/// What reading and writing give.
pub(crate) fn write_entry(union: &Union, pack: &mut Pack<&mut dyn Write>, change: Change<'_>) -> io::Result<()> {
    if let Change::Entry { path, .. } | Change::Link { path, .. } = change {
        check_name(path)?;
    }
    match change {
        // A socket is in no tar, nor is another name of one.
        Change::Link { attr, .. } if attr.kind == Kind::Socket => Ok(()),
        Change::Entry { path, attr, .. } => {
            let meta = meta_of(&attr);
            let target = if attr.kind == Kind::Symlink { union.readlink(attr.ino)? } else { Vec::new() };
            let xattrs: Xattrs = union.xattrs(attr.ino)?;
            let mut content = Content::new(union, attr.ino);
            pack.entry(Packed { path, meta: &meta, target: &target, xattrs: &xattrs }, &mut content)
        }
        Change::Link { path, target, attr } => pack.link(path, target, &meta_of(&attr)),
        Change::Whiteout { dir, name } => pack.whiteout(dir, name),
        Change::Opaque { dir } => pack.opaque(dir),
    }
}

/// In a tar such a name hides another. Only a rw layer in overlayfs' spelling has one.
fn check_name(path: &[u8]) -> io::Result<()> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if whiteout::is_reserved(name) {
        return Err(io::Error::other(format!("{} {}", path.escape_ascii(), whiteout::RESERVED)));
    }
    Ok(())
}

/// The same in the words of an index.
pub(crate) fn meta_of(attr: &Attr) -> Meta {
    Meta {
        kind: attr.kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        mtime: attr.mtime,
        rdev: attr.rdev,
        size: attr.size,
        blocks: attr.blocks,
    }
}
