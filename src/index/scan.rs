//! The tree of a plain directory, for unions of directories that are no layers of a store.
//!
//! Whiteouts are understood as AUFS writes them (`.wh.NAME` files) and as overlayfs does: a character
//! device 0:0, or an empty file with the attribute `overlay.whiteout`; a directory with the attribute
//! `overlay.opaque` of `y` (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"). What the layer says of
//! layers below it becomes a [`Reference`].
//!
//! A mark in the namespace `user.` may be an ordinary user's work: with a metadata-only mark on a file of his he would read any
//! file of the layers below. Such a mark counts only where root alone could have set it, or when the caller says that the layer
//! was made with `userxattr`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};

use super::left_out::LeftOut;
use super::overlay_upper::{self, Indexed};
use super::{Builder, Index, Kind, Meta, NewNode, NodeId, Reference, Referent, Time, Xattrs};
use crate::private_xattr::{self, OVERLAY, OWN, Origin};
use crate::sys;
use crate::sys::{Dir, DirStack, call};
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

/// Which references of a layer to the layers below it are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Those of renamed directories (`redirect_dir=nofollow` takes them for forged).
    pub redirects: bool,
    /// Those of files whose data stayed below (`metacopy=off`).
    pub metacopies: bool,
    /// Also those that an ordinary user could have made (`userxattr`).
    pub users: bool,
}

impl Default for Trust {
    fn default() -> Self {
        Self { redirects: true, metacopies: true, users: false }
    }
}

/// Why a file cannot be read as a part of a layer.
pub(super) enum Refusal {
    System(rustix::io::Errno),
    Mark(String),
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
            Self::Mark(why) => io::Error::other(why),
        };
        ScanError { path: path.to_owned(), source }
    }
}

/// What a directory is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// A layer that is whole by itself.
    Whole,
    /// A layer that may refer to layers below it.
    Lower(Trust),
    /// What a mount shows: files as they are, and no marks of any union.
    Shown,
    /// The upper directory of the kernel's overlayfs: only what overlayfs itself writes is a mark.
    Upper,
}

impl Reading {
    /// Whether a name may be a marker in AUFS' spelling.
    fn has_markers(self) -> bool {
        matches!(self, Self::Whole | Self::Lower(_))
    }
}

struct Scan<'a> {
    builder: Builder,
    /// Files of several names, by device and inode.
    links: HashMap<(u64, u64), NodeId>,
    reading: Reading,
    references: Vec<Reference>,
    left_out: LeftOut<'a>,
}

/// A file or directory as it was found.
pub(super) struct Described {
    pub(super) node: NewNode,
    /// A directory that overlayfs marked as opaque, or a file that it marked as a whiteout.
    marked: bool,
    pub(super) referent: Option<Referent>,
}

/// A directory that is still to be read.
struct Pending {
    /// How deep the directory is that it is in.
    depth: usize,
    name: Vec<u8>,
    id: NodeId,
}

/// Indexes the directory `dir`, which is whole by itself: it must not change as long as the index is in use.
///
/// # Errors
/// [`ScanError`] when something in it cannot be read, or refers to layers below it.
pub fn scan(dir: &Path) -> Result<Index, ScanError> {
    indexed(dir, Reading::Whole, LeftOut::NOTHING)
}

/// Indexes what a mount shows in the directory `dir`, where nothing is a mark: a character device 0:0 hides nothing; without
/// what is `left_out`. It must not change as long as the index is in use.
///
/// # Errors
/// [`ScanError`] when something in it cannot be read.
pub fn scan_shown(dir: &Path, left_out: &dyn Fn(&Stat) -> bool) -> Result<Index, ScanError> {
    indexed(dir, Reading::Shown, LeftOut::of(left_out))
}

/// Indexes the directory `dir`, which may refer to layers below it: it must not change as long as the index is in use.
///
/// # Errors
/// [`ScanError`] when something in it cannot be read, or refers to other layers in a way that `trust` does not allow or that
/// could lead out of them.
pub fn scan_lower(dir: &Path, trust: Trust) -> Result<Index, ScanError> {
    indexed(dir, Reading::Lower(trust), LeftOut::NOTHING)
}

/// Indexes the upper directory `dir` of the kernel's overlayfs, as a layer that may refer to layers below it. Names that begin with
/// `.wh.` are files, and of attributes only those of root's namespace are marks. A file of a layer below that has several
/// names is in overlayfs' index directory once it is copied up: `shared` has those, each with the names by which it is
/// to be found beside those that are in `dir`. What goes while it is read is left out, and otherwise
/// the directory must not change as long as the index is in use.
///
/// # Errors
/// [`ScanError`] when something in it cannot be read.
pub fn scan_overlay_upper(dir: &Path, shared: &[Indexed]) -> Result<Index, ScanError> {
    let at = |source: io::Error| ScanError { path: dir.to_owned(), source };
    if !private_xattr::sees_trusted().map_err(at)? {
        return Err(at(private_xattr::hidden()));
    }
    let mut scan = scanned(dir, Reading::Upper, LeftOut::NOTHING)?;
    let mut data = HashMap::new();
    for file in shared {
        if let Some(id) = scan.shared(file).map_err(|refusal| refusal.at(&file.path))? {
            data.insert(id, file.path.clone());
        }
    }
    Ok(finished(dir, scan)?.with_data_at(data))
}

fn indexed(dir: &Path, reading: Reading, left_out: LeftOut<'_>) -> Result<Index, ScanError> {
    finished(dir, scanned(dir, reading, left_out)?)
}

fn scanned<'a>(dir: &Path, reading: Reading, left_out: LeftOut<'a>) -> Result<Scan<'a>, ScanError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: rustix::io::Errno| ScanError { path, source: error.into() }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = Arc::new(call::open(dir, flags, Mode::empty()).map_err(failed(dir))?);
    if reading.has_markers()
        && private_xattr::recorded_prefix(root.as_fd()).map_err(failed(dir))?.as_deref() == Some(OWN[0])
    {
        let at_root = |source: io::Error| ScanError { path: dir.to_owned(), source };
        if !private_xattr::sees_trusted().map_err(at_root)? {
            return Err(at_root(private_xattr::hidden()));
        }
    }
    let stat = call::fstat(&root).map_err(failed(dir))?;
    let mut scan = Scan { builder: Builder::new(), links: HashMap::new(), reading, references: Vec::new(), left_out };
    let described = describe(root.as_fd(), b"", &stat, Kind::Directory, reading).map_err(|refusal| refusal.at(dir))?;
    // The root is merged with the roots below, whatever a mark on it says.
    scan.builder.set_root(described.node);
    if described.marked {
        scan.builder.opaque(NodeId::ROOT);
    }
    let mut todo = Vec::new();
    let mut stack = DirStack::new(root, OFlags::RDONLY);
    scan.directory(&stack, NodeId::ROOT, dir, &mut todo)?;
    while let Some(Pending { depth, name, id }) = todo.pop() {
        match stack.leave_to(depth).and_then(|()| stack.enter(&name)) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::STALE) if reading == Reading::Upper => continue,
            entered => entered.map_err(|error| failed(&path_of(dir, &stack, &name))(error))?,
        }
        scan.directory(&stack, id, dir, &mut todo)?;
    }
    Ok(scan)
}

/// The path of `name` in the directory that a walk from `top` has come to, or of that without a name.
fn path_of(top: &Path, stack: &DirStack, name: &[u8]) -> PathBuf {
    stack
        .names()
        .chain([name].into_iter().filter(|name| !name.is_empty()))
        .fold(top.to_owned(), |path, name| path.join(OsStr::from_bytes(name)))
}

fn finished(dir: &Path, scan: Scan<'_>) -> Result<Index, ScanError> {
    // All nodes have names, so that their numbers are those of the finished index.
    let index = scan
        .builder
        .finish()
        .map_err(|error| ScanError { path: dir.to_owned(), source: io::Error::other(error.to_string()) })?;
    Ok(index.with_references(scan.references))
}

impl Scan<'_> {
    fn directory(
        &mut self,
        stack: &DirStack,
        id: NodeId,
        top: &Path,
        todo: &mut Vec<Pending>,
    ) -> Result<(), ScanError> {
        let failed = |error: rustix::io::Errno| ScanError { path: path_of(top, stack, b""), source: error.into() };
        let dir = stack.dir().map_err(failed)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&*dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        // The numbers of the nodes must not depend on the order on disk.
        names.sort_unstable();
        for name in names {
            match self.entry(&dir, id, &name) {
                Err(Refusal::System(rustix::io::Errno::NOENT)) if self.reading == Reading::Upper => {}
                Err(refusal) => return Err(refusal.at(&path_of(top, stack, &name))),
                Ok(None) => {}
                Ok(Some(id)) => todo.push(Pending { depth: stack.depth(), name, id }),
            }
        }
        Ok(())
    }

    /// Gives a file of the index directory its names; the node, if it has any.
    fn shared(&mut self, file: &Indexed) -> Result<Option<NodeId>, Refusal> {
        let (stat, described) = overlay_upper::describe(file)?;
        let key = (stat.st_dev, stat.st_ino);
        let mut known = self.links.get(&key).copied();
        for name in &file.names {
            let Some((name, dirs)) = name.split_last() else { continue };
            let dir = dirs.iter().fold(NodeId::ROOT, |dir, name| self.builder.directory(dir, name));
            match known {
                // error: it is no directory
                Some(node) => drop(self.builder.link(dir, name, node)),
                None => {
                    let node = self.builder.put(dir, name, described.node.clone());
                    let referent = described.referent.clone();
                    self.references.extend(referent.map(|referent| Reference { node, referent }));
                    self.links.insert(key, node);
                    known = Some(node);
                }
            }
        }
        Ok(known)
    }

    /// Takes one entry of a directory; gives its node if that is a directory, which is to be read too.
    fn entry(&mut self, dir: &OwnedFd, parent: NodeId, name: &[u8]) -> Result<Option<NodeId>, Refusal> {
        match whiteout::parse(name).filter(|_| self.reading.has_markers()) {
            None => {}
            Some(Marker::Whiteout(hidden)) => {
                self.builder.whiteout(parent, hidden);
                return Ok(None);
            }
            Some(Marker::Opaque) => {
                self.builder.opaque(parent);
                return Ok(None);
            }
            Some(Marker::Long) => {
                let hidden = read_name(dir.as_fd(), name)?;
                self.builder.whiteout(parent, &hidden);
                return Ok(None);
            }
            Some(Marker::Private | Marker::Invalid) => return Ok(None),
        }
        let stat = call::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = Kind::from_mode(stat.st_mode).ok_or(Refusal::System(rustix::io::Errno::IO))?;
        if kind == Kind::CharDevice && stat.st_rdev == 0 && self.reading != Reading::Shown {
            self.builder.whiteout(parent, name);
            return Ok(None);
        }
        if self.left_out.has(dir.as_fd(), name, &stat)? {
            return Ok(None);
        }
        let key = (stat.st_dev, stat.st_ino);
        if kind != Kind::Directory
            && stat.st_nlink > 1
            && let Some(first) = self.links.get(&key)
            && self.builder.link(parent, name, *first).is_ok()
        {
            return Ok(None);
        }
        let Described { node, marked, referent } = describe(dir.as_fd(), name, &stat, kind, self.reading)?;
        if marked && kind == Kind::File {
            self.builder.whiteout(parent, name);
            return Ok(None);
        }
        let id = self.builder.put(parent, name, node);
        // An opaque directory has nothing from below.
        if let Some(referent) = referent.filter(|_| !(marked && kind == Kind::Directory)) {
            self.references.push(Reference { node: id, referent });
        }
        if kind == Kind::Directory {
            if marked {
                self.builder.opaque(id);
            }
        } else if stat.st_nlink > 1 {
            self.links.insert(key, id);
        }
        Ok((kind == Kind::Directory).then_some(id))
    }
}

/// The marks of one file or directory that refer to layers below, each with its full name.
#[derive(Default)]
struct Found {
    redirect: Option<(Vec<u8>, Vec<u8>)>,
    metacopy: Option<Vec<u8>>,
    origin: Option<(Vec<u8>, Vec<u8>)>,
    own_metacopy: Option<Vec<u8>>,
}

impl Found {
    /// Whether something in it says that the file is not whole, or may not be.
    fn is_of_another(&self, kind: Kind) -> bool {
        let origin = self.origin.is_some() && kind == Kind::Directory;
        origin || self.redirect.is_some() || self.metacopy.is_some() || self.own_metacopy.is_some()
    }

    /// What the marks say, if the caller believes them.
    fn referent(self, stat: &Stat, kind: Kind, trust: Trust) -> Result<Option<Referent>, Refusal> {
        let refuse = |name: &[u8], why: &str| Refusal::Mark(format!("has {}, {why}", name.escape_ascii()));
        let believe = |name: &[u8], allowed: bool, switch: &str| {
            let by_root = stat.st_uid == 0 && stat.st_mode & 0o022 == 0;
            if !allowed {
                return Err(refuse(name, &format!("which {switch} does not let count: leave that option out")));
            }
            if name.starts_with(b"user.") && !by_root && !trust.users {
                return Err(refuse(name, "which an ordinary user may have set: with -o userxattr it counts"));
            }
            Ok(())
        };
        let redirect = |(name, value): (Vec<u8>, Vec<u8>)| {
            Referent::of_redirect(&value)
                .map_err(|error| refuse(&name, &format!("which leads to {}: {error}", value.escape_ascii())))
        };
        let origin = |(name, value): (Vec<u8>, Vec<u8>)| {
            Origin::parse(&value).map(Referent::Origin).ok_or_else(|| refuse(&name, "which cannot be read"))
        };
        match kind {
            Kind::Directory => match (self.origin, self.redirect) {
                (Some(found), _) => {
                    believe(&found.0, trust.redirects, "redirect_dir=nofollow")?;
                    origin(found).map(Some)
                }
                (None, Some(found)) => {
                    believe(&found.0, trust.redirects, "redirect_dir=nofollow")?;
                    redirect(found).map(Some)
                }
                (None, None) => Ok(None),
            },
            Kind::File => match (self.own_metacopy, self.metacopy) {
                (Some(name), _) => {
                    believe(&name, trust.metacopies, "metacopy=off")?;
                    let found =
                        self.origin.ok_or_else(|| refuse(&name, "and no origin that says whose data it has"))?;
                    origin(found).map(Some)
                }
                (None, Some(name)) => {
                    believe(&name, trust.metacopies, "metacopy=off")?;
                    match self.redirect {
                        Some(found) => {
                            believe(&found.0, trust.metacopies, "metacopy=off")?;
                            redirect(found).map(Some)
                        }
                        None => Ok(Some(Referent::SameName)),
                    }
                }
                // A redirect that is left over from before the data were copied.
                (None, None) => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

pub(super) fn describe_in_upper(
    dir: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    kind: Kind,
) -> Result<Described, Refusal> {
    describe(dir, name, stat, kind, Reading::Upper)
}

fn describe(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat, kind: Kind, reading: Reading) -> Result<Described, Refusal> {
    let mut marked = false;
    let mut xattrs = Xattrs::new();
    let mut found = Found::default();
    for (attribute, value) in sys::read_xattrs(&sys::proc_path(dir, name))? {
        if reading == Reading::Shown {
            xattrs.push((attribute, value));
            continue;
        }
        if reading == Reading::Upper
            && let Some(content) = private_xattr::overlay_content(&attribute)
        {
            xattrs.push((content.into_owned(), value));
            continue;
        }
        let of = |prefixes: [&[u8]; 2], wanted: &[u8]| {
            prefixes.iter().any(|prefix| attribute.strip_prefix(*prefix) == Some(wanted))
        };
        let is_whiteout = |reading| reading != Reading::Upper && kind == Kind::File && stat.st_size == 0;
        // Where both namespaces have it, root's counts.
        let counts = |known: bool| !known || attribute.starts_with(b"trusted.");
        if of(OVERLAY, b"opaque") && kind == Kind::Directory {
            marked |= value == b"y";
        } else if of(OVERLAY, b"whiteout") && is_whiteout(reading) {
            marked = true;
        } else if of(OVERLAY, b"redirect") && counts(found.redirect.is_some()) {
            found.redirect = Some((attribute, value));
        } else if of(OVERLAY, b"metacopy") && counts(found.metacopy.is_some()) {
            found.metacopy = Some(attribute);
        } else if of(OWN, b"origin") && counts(found.origin.is_some()) {
            found.origin = Some((attribute, value));
        } else if of(OWN, b"metacopy") && counts(found.own_metacopy.is_some()) {
            found.own_metacopy = Some(attribute);
        } else if let Some(content) = private_xattr::unescape(&attribute) {
            xattrs.push((content.to_vec(), value));
        }
    }
    let target = match kind {
        Kind::Symlink => call::readlinkat(dir, name)?.into_bytes(),
        _ => Vec::new(),
    };
    let referent = match reading {
        Reading::Lower(trust) => found.referent(stat, kind, trust)?,
        Reading::Upper => found.referent(stat, kind, Trust::default())?,
        Reading::Whole if found.is_of_another(kind) => {
            let why = "is marked as a part of another layer's file: commit that layer first";
            return Err(Refusal::Mark(why.to_owned()));
        }
        Reading::Whole | Reading::Shown => None,
    };
    Ok(Described { node: NewNode { meta: meta(stat, kind), target, xattrs, digest: None }, marked, referent })
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
    let file = call::openat(dir, file, flags, Mode::empty())?;
    let mut name = vec![0; whiteout::NAME_MAX];
    let length = call::pread(&file, &mut name, 0)?;
    name.truncate(length);
    Ok(name)
}
