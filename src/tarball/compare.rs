//! Whether a layer's directory is still what its index says.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, Stat};
use rustix::io::Errno;

use super::content::digest_of;
use super::difference::{Change, Difference, joined};
use super::disk::{self, Walk};
use super::failure::display;
use super::{Failure, Modes, split};
use crate::id::Digest;
use crate::index::{Child, Children, Index, Kind, Meta, Node, NodeId, Time, Xattrs};
use crate::sys;
use crate::sys::{Dir, call, is_want};
use crate::whiteout::{self, Marker};

/// The name of a file that is made to see what comes of it.
const PROBE: &[u8] = b"probe";

/// Gives an empty directory on the layer's file system, in which something can be made; `None` where nothing ever can.
pub type Scratch<'a> = &'a mut dyn FnMut() -> std::io::Result<Option<OwnedFd>>;

struct Compare<'a> {
    index: &'a Index,
    quick: bool,
    modes: Modes,
    walk: Walk,
    scratch: Scratch<'a>,
    found: &'a mut dyn FnMut(Difference),
    /// Files of several names, as the first name has them.
    linked: HashMap<NodeId, (u64, u64)>,
    /// The first failure that says nothing of the layer.
    failure: Option<Failure>,
}

/// Looks at everything in `dir` without reading what is in the files; when `quick` neither attributes nor links'
/// targets. What the file system did not take when the layer was unpacked is no difference: to know it, the same is
/// tried again in `scratch`. `modes` says which modes the files should have on disk.
///
/// # Errors
/// When `dir` itself cannot be read, or anything in it for a want of descriptors, memory or rights.
pub fn compare(
    index: &Index,
    dir: BorrowedFd<'_>,
    (quick, modes): (bool, Modes),
    scratch: Scratch<'_>,
    found: &mut dyn FnMut(Difference),
) -> Result<(), Failure> {
    let walk = Walk::new(dir).map_err(|error| Failure::write("open", b"", error))?;
    let mut compare = Compare { index, quick, modes, walk, scratch, found, linked: HashMap::new(), failure: None };
    compare.run();
    compare.failure.map_or(Ok(()), Err)
}

/// What a file shows of itself.
struct Shown {
    stat: Stat,
    /// Sorted, without labels of the machine; none when they are not looked at.
    xattrs: Xattrs,
    target: Vec<u8>,
}

impl Shown {
    /// Of `name` in `dir`, or of `dir` itself when it is empty.
    fn of(dir: BorrowedFd<'_>, name: &[u8], quick: bool) -> rustix::io::Result<Self> {
        let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
        let stat = call::statat(dir, name, flags)?;
        if quick {
            return Ok(Self { stat, xattrs: Xattrs::new(), target: Vec::new() });
        }
        let mut xattrs = sys::read_xattrs(&sys::proc_path(dir, name))?;
        xattrs.retain(|(name, _)| !disk::is_label(name));
        xattrs.sort_unstable();
        let target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => call::readlinkat(dir, name)?.into_bytes(),
            _ => Vec::new(),
        };
        Ok(Self { stat, xattrs, target })
    }

    fn differences(&self, wanted: &Wanted, quick: bool) -> Vec<(Change, String)> {
        let (meta, mut found) = (&wanted.meta, Vec::new());
        let (kind, is) = (Kind::from_mode(self.stat.st_mode), seen(&self.stat));
        if kind != Some(meta.kind) {
            let word = |kind: Option<Kind>| kind.map_or("something unknown", word);
            return vec![(Change::Type, format!("is {} and not {}", word(kind), word(Some(meta.kind))))];
        }
        if is.mode != meta.mode && meta.kind != Kind::Symlink {
            found.push((Change::Mode, format!("has the mode {:o} and not {:o}", is.mode, meta.mode)));
        }
        if (is.uid, is.gid) != (meta.uid, meta.gid) {
            let text = format!("belongs to {}:{} and not {}:{}", is.uid, is.gid, meta.uid, meta.gid);
            found.push((Change::Owner, text));
        }
        if is.mtime != meta.mtime {
            let text = |time: Time| format!("{}.{:09}", time.sec, time.nsec);
            let text = format!("was changed at {} and not {}", text(is.mtime), text(meta.mtime));
            found.push((Change::Time, text));
        }
        if matches!(meta.kind, Kind::CharDevice | Kind::BlockDevice) && is.rdev != meta.rdev {
            let text = format!("is the device {}:{} and not {}:{}", is.rdev.0, is.rdev.1, meta.rdev.0, meta.rdev.1);
            found.push((Change::Device, text));
        }
        if meta.kind == Kind::File && is.size != meta.size {
            found.push((Change::Size, format!("has {} bytes and not {}", is.size, meta.size)));
        }
        if !quick {
            if meta.kind == Kind::Symlink && self.target != wanted.target {
                let text = format!("points to `{}` and not `{}`", display(&self.target), display(&wanted.target));
                found.push((Change::Content, text));
            }
            let names = different(&self.xattrs, &wanted.xattrs);
            if !names.is_empty() {
                found.push((Change::Xattr, format!("has other extended attributes: {}", names.join(", "))));
            }
        }
        found
    }
}

/// What the index says of a file.
struct Wanted {
    /// With the mode that is to be on disk.
    meta: Meta,
    /// Sorted, those that are on disk, by their names there.
    xattrs: Xattrs,
    /// As the index has them.
    attributes: Xattrs,
    target: Vec<u8>,
}

impl Wanted {
    fn of(node: &Node<'_>, modes: Modes) -> Option<Self> {
        let attributes: Xattrs = node.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let on_disk = attributes.iter().filter_map(|(name, value)| Some((disk::on_disk(name)?, value)));
        let mut xattrs: Xattrs = on_disk.map(|(name, value)| (name.into_owned(), value.clone())).collect();
        xattrs.sort_unstable();
        let meta = node.meta()?;
        let meta = Meta { mode: modes.on_disk(meta.kind, meta.mode), ..meta };
        Some(Self { meta, xattrs, attributes, target: node.target().to_vec() })
    }

    /// What a file that is made so shows.
    fn made(&self, scratch: &OwnedFd, quick: bool, modes: Modes) -> rustix::io::Result<Shown> {
        let (meta, dir) = (&self.meta, scratch);
        let made = match meta.kind {
            Kind::Directory => call::mkdirat(dir, PROBE, Mode::RWXU),
            Kind::Symlink => call::symlinkat(&*self.target, dir, PROBE),
            Kind::File => disk::create(dir, PROBE).map(drop),
            _ => disk::make_special(dir, PROBE, meta),
        };
        let shown = made
            .and_then(|()| disk::describe_at(dir, PROBE, meta, &self.attributes, modes))
            .and_then(|()| Shown::of(dir.as_fd(), PROBE, quick));
        let flags = if meta.kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        call::unlinkat(dir, PROBE, flags)?;
        shown
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Directory => "a directory",
        Kind::File => "a regular file",
        Kind::Symlink => "a symbolic link",
        Kind::CharDevice => "a character device",
        Kind::BlockDevice => "a block device",
        Kind::Fifo => "a fifo",
        Kind::Socket => "a socket",
    }
}

/// As the index would have it; the type is looked at before.
#[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
fn seen(stat: &Stat) -> Meta {
    Meta {
        kind: Kind::from_mode(stat.st_mode).unwrap_or(Kind::File),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time {
            sec: stat.st_mtime.into(),
            nsec: u32::try_from(u64::from(stat.st_mtime_nsec)).unwrap_or_default(),
        },
        rdev: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        blocks: 0,
    }
}

/// The names of the attributes that are in one only, or have two values.
fn different(one: &Xattrs, other: &Xattrs) -> Vec<String> {
    let only = |a: &Xattrs, b: &Xattrs| -> Vec<Vec<u8>> {
        a.iter().filter(|pair| !b.contains(pair)).map(|(name, _)| name.clone()).collect()
    };
    let names: BTreeSet<Vec<u8>> = only(one, other).into_iter().chain(only(other, one)).collect();
    names.iter().map(|name| display(name)).collect()
}

impl<'a> Compare<'a> {
    fn tell(&mut self, path: Vec<u8>, change: Change, detail: impl Into<String>) {
        (self.found)(Difference { path, change, detail: detail.into() });
    }

    fn unreadable(&mut self, path: Vec<u8>, error: Errno) {
        if is_want(error) {
            self.fail("read", &path, error);
            return;
        }
        self.tell(path, Change::Unreadable, format!("cannot be read: {}", std::io::Error::from(error)));
    }

    fn fail(&mut self, doing: &'static str, path: &[u8], error: impl Into<std::io::Error>) {
        self.failure.get_or_insert_with(|| Failure::write(doing, path, error));
    }

    fn run(&mut self) {
        let index = self.index;
        let mut names: Vec<&'a [u8]> = Vec::new();
        let mut open: Vec<std::vec::IntoIter<(&'a [u8], NodeId)>> = Vec::new();
        open.push(self.directory(&names, NodeId::ROOT).into_iter());
        if let Some(root) = index.node(NodeId::ROOT).filter(|root| !root.is_implied()) {
            match self.walk.open(&[]) {
                Ok(dir) => self.described(&dir, b"", Vec::new(), &root),
                Err(error) => self.unreadable(Vec::new(), error),
            }
        }
        while let Some(children) = open.last_mut() {
            if let Some((name, id)) = children.next() {
                names.push(name);
                open.push(self.directory(&names, id).into_iter());
            } else {
                open.pop();
                names.pop();
            }
        }
    }

    /// Looks at all that is in one directory; gives the directories in it that are still ones.
    fn directory(&mut self, dirs: &[&'a [u8]], id: NodeId) -> Vec<(&'a [u8], NodeId)> {
        let index: &'a Index = self.index;
        let dir = match self.walk.open(dirs) {
            Ok(dir) => dir,
            Err(error) => {
                self.unreadable(dirs.join(&b'/'), error);
                return Vec::new();
            }
        };
        let mut there = match names_in(&dir) {
            Ok(there) => there,
            Err(error) => {
                self.unreadable(dirs.join(&b'/'), error);
                return Vec::new();
            }
        };
        let has_markers = there.iter().any(|name| whiteout::is_reserved(name));
        let mut below = Vec::new();
        let children: Children<'a> = index.children(id);
        for child in children {
            let name: &'a [u8] = child.name;
            match child.target {
                Child::Whiteout => {
                    let (marker, content) = whiteout::on_disk(name);
                    let is_there = there.remove(&marker);
                    self.marker(&dir, joined(dirs, &marker), &marker, &content, is_there);
                }
                Child::Node(child) => {
                    // In a tar a whiteout says nothing of the layer's own file.
                    if has_markers {
                        there.remove(&whiteout::on_disk(name).0);
                    }
                    let path = joined(dirs, name);
                    if !there.remove(name) {
                        self.tell(path, Change::Missing, "is missing");
                        continue;
                    }
                    let Some(node) = index.node(child) else { continue };
                    self.described(&dir, name, path.clone(), &node);
                    self.one_file(&dir, name, path, child, &node);
                    if node.kind() == Some(Kind::Directory) {
                        match disk::open_directory(&dir, name) {
                            Ok(_) => below.push((name, child)),
                            // Told of as what it is instead, or above as unreadable.
                            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
                            Err(error) => self.unreadable([dirs, &[name]].concat().join(&b'/'), error),
                        }
                    }
                }
            }
        }
        let is_opaque = index.node(id).is_some_and(|node| node.is_opaque());
        for name in there {
            match whiteout::parse(&name) {
                Some(Marker::Opaque) if is_opaque => self.marker(&dir, joined(dirs, &name), &name, b"", true),
                Some(Marker::Private) if dirs.is_empty() && name == whiteout::DUPLICATES => self.kept(&dir),
                _ => self.tell(joined(dirs, &name), Change::Extra, "is not in the layer"),
            }
        }
        below
    }

    fn marker(&mut self, dir: &OwnedFd, path: Vec<u8>, name: &[u8], content: &[u8], is_there: bool) {
        let size = content.len() as u64;
        if !is_there {
            return self.tell(path, Change::Missing, "is missing");
        }
        match call::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(error) => self.unreadable(path, error),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                self.tell(path, Change::Type, "is a whiteout and no regular file");
            }
            Ok(stat) if seen(&stat).size != size => {
                self.tell(path, Change::Size, format!("has {} bytes and not {size}", stat.st_size));
            }
            // The name that it hides, where that is too long for the whiteout's own.
            Ok(_) if size > 0 && !self.quick => match digest_of(dir, name, &mut vec![0; content.len()]) {
                Ok(digest) if digest == Some(Digest::of(content)) => {}
                Ok(_) => self.tell(path, Change::Content, "is a whiteout with another content"),
                Err(error) => self.unreadable(path, error),
            },
            Ok(_) => {}
        }
    }

    /// The contents of replaced files: what is in them is known to the split alone.
    fn kept(&mut self, root: &OwnedFd) {
        let names = match disk::open_directory(root, whiteout::DUPLICATES).and_then(|dir| names_in(&dir)) {
            Ok(names) => names,
            Err(error) => return self.unreadable(whiteout::DUPLICATES.to_vec(), error),
        };
        for name in names {
            let number = std::str::from_utf8(&name).ok().and_then(|text| text.parse().ok());
            if number.is_none_or(|number| split::kept_name(number).as_bytes() != name) {
                self.tell(joined(&[whiteout::DUPLICATES], &name), Change::Extra, "is not in the layer");
            }
        }
    }

    fn described(&mut self, dir: &OwnedFd, name: &[u8], path: Vec<u8>, node: &Node<'_>) {
        // A record that cannot be understood is the index's fault, whose sum is wrong then.
        let Some(wanted) = Wanted::of(node, self.modes) else { return };
        let shown = match Shown::of(dir.as_fd(), name, self.quick) {
            Ok(shown) => shown,
            Err(error) => return self.unreadable(path, error),
        };
        let mut differences = shown.differences(&wanted, self.quick);
        let is_of_content =
            |change: Change, kind: Kind| change == Change::Size || (change == Change::Content && kind == Kind::Symlink);
        if differences.iter().any(|(change, _)| !is_of_content(*change, wanted.meta.kind))
            && let Some(made) = self.made(&wanted, &path)
        {
            let size = wanted.meta.size;
            let kind = Kind::from_mode(made.stat.st_mode).unwrap_or(wanted.meta.kind);
            let size = if kind == wanted.meta.kind { size } else { 0 };
            let meta = Meta { kind, size, ..seen(&made.stat) };
            let as_made = Wanted { meta, xattrs: made.xattrs, ..wanted };
            differences = shown.differences(&as_made, self.quick);
        }
        for (change, detail) in differences {
            self.tell(path.clone(), change, detail);
        }
    }

    /// What the file system makes of what the index says; `None` when nothing of the kind can be made on it.
    fn made(&mut self, wanted: &Wanted, path: &[u8]) -> Option<Shown> {
        let scratch = match (self.scratch)() {
            Ok(scratch) => scratch?,
            Err(error) => {
                self.fail("make something to compare with", path, error);
                return None;
            }
        };
        match wanted.made(&scratch, self.quick, self.modes) {
            Ok(made) => Some(made),
            Err(error) if is_want(error) && error != Errno::PERM || error == Errno::IO => {
                self.fail("make something to compare with", path, error);
                None
            }
            // error: this file system does not take it, so it does not explain the difference
            Err(_) => None,
        }
    }

    /// That all names of one file are still names of one file.
    fn one_file(&mut self, dir: &OwnedFd, name: &[u8], path: Vec<u8>, id: NodeId, node: &Node<'_>) {
        if node.nlink() < 2 || node.kind() == Some(Kind::Directory) {
            return;
        }
        let stat = match call::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => return self.unreadable(path, error),
        };
        let inode = (stat.st_dev, stat.st_ino);
        if *self.linked.entry(id).or_insert(inode) != inode {
            self.tell(path, Change::Link, "is no longer one file with its other names");
        }
    }
}

fn names_in(dir: &OwnedFd) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.insert(name.to_vec());
        }
    }
    Ok(names)
}
