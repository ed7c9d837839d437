//! Layers as a test describes them: written to disk, indexed, and flattened straight from the rules of the
//! OCI image specification (`layer.md`), independently of the program.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::path::Path as FsPath;

use layerctl::index::{Builder, Index, Kind, Meta, NewNode, NodeId, Time, Xattrs};
use layerctl::tarball::{Pack, Packed};
use layerctl::whiteout;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use super::tree_op::{Name, Path, path};

/// A file of a layer, whatever its names are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) rdev: (u32, u32),
    pub(crate) target: Vec<u8>,
    /// A file's length, and the pieces of it that are no hole.
    pub(crate) size: u64,
    pub(crate) pieces: Vec<(u64, Vec<u8>)>,
    pub(crate) xattrs: BTreeMap<Name, Vec<u8>>,
}

impl Item {
    pub(crate) fn new(kind: Kind, mode: u32) -> Self {
        Self {
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time { sec: 1_000_000_000, nsec: 123_456_789 },
            rdev: (0, 0),
            target: Vec::new(),
            size: 0,
            pieces: Vec::new(),
            xattrs: BTreeMap::new(),
        }
    }

    fn meta(&self) -> Meta {
        let data: u64 = self.pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let size = if self.kind == Kind::Symlink { self.target.len() as u64 } else { self.size };
        Meta {
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            rdev: self.rdev,
            size,
            blocks: data.div_ceil(4096) * 8,
        }
    }
}

/// One layer, or a flattened tree (which has no whiteouts).
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerTree {
    pub(crate) items: Vec<Item>,
    pub(crate) names: BTreeMap<Path, usize>,
    pub(crate) whiteouts: BTreeSet<Path>,
    pub(crate) opaque: BTreeSet<Path>,
}

impl LayerTree {
    /// A layer with a root directory of mode 0755.
    pub(crate) fn new() -> Self {
        let mut layer = Self::default();
        layer.put(Path::new(), Item::new(Kind::Directory, 0o755));
        layer
    }

    /// Puts an item at a path whose parents are directories or missing; otherwise nothing is done.
    pub(crate) fn put(&mut self, path: Path, item: Item) -> bool {
        for length in 0..path.len() {
            let parent = path[..length].to_vec();
            match self.kind(&parent) {
                Some(Kind::Directory) => {}
                Some(_) => return false,
                None => drop(self.insert(parent, Item::new(Kind::Directory, 0o755))),
            }
        }
        match self.kind(&path) {
            None => {}
            Some(Kind::Directory) if item.kind == Kind::Directory => {}
            Some(_) => return false,
        }
        self.insert(path, item);
        true
    }

    fn insert(&mut self, path: Path, item: Item) -> usize {
        self.items.push(item);
        self.names.insert(path, self.items.len() - 1);
        self.items.len() - 1
    }

    pub(crate) fn kind(&self, path: &[Name]) -> Option<Kind> {
        self.item(path).map(|item| item.kind)
    }

    pub(crate) fn item(&self, path: &[Name]) -> Option<&Item> {
        self.names.get(path).and_then(|number| self.items.get(*number))
    }

    pub(crate) fn dir(mut self, name: &str, mode: u32) -> Self {
        assert!(self.put(path(name), Item::new(Kind::Directory, mode)));
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.file_with(name, content, |_| ())
    }

    /// A file of mode 0644 that `change` may change.
    pub(crate) fn file_with(mut self, name: &str, content: &[u8], change: impl FnOnce(&mut Item)) -> Self {
        let mut item = Item::new(Kind::File, 0o644);
        item.size = content.len() as u64;
        item.pieces = vec![(0, content.to_vec())];
        change(&mut item);
        assert!(self.put(path(name), item));
        self
    }

    pub(crate) fn link(mut self, name: &str, target: &str) -> Self {
        let number = self.names[&path(target)];
        self.names.insert(path(name), number);
        self
    }

    pub(crate) fn whiteout(mut self, name: &str) -> Self {
        let hidden = path(name);
        let (_, parent) = hidden.split_last().expect("a name");
        if self.kind(parent).is_none() {
            assert!(self.put(parent.to_vec(), Item::new(Kind::Directory, 0o755)));
        }
        self.whiteouts.insert(hidden);
        self
    }

    pub(crate) fn opaque(mut self, name: &str) -> Self {
        if self.kind(&path(name)).is_none() {
            self = self.dir(name, 0o755);
        }
        self.opaque.insert(path(name));
        self
    }

    /// The layer's index, made entry by entry as from a tar.
    pub(crate) fn index(&self) -> Index {
        let mut builder = Builder::new();
        let mut nodes: BTreeMap<usize, NodeId> = BTreeMap::new();
        let mut dirs: BTreeMap<&[Name], NodeId> = BTreeMap::new();
        for (path, number) in &self.names {
            let item = &self.items[*number];
            let new = NewNode {
                meta: item.meta(),
                target: item.target.clone(),
                xattrs: item.xattrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
                digest: None,
            };
            let Some((name, parent)) = path.split_last() else {
                builder.set_root(new);
                dirs.insert(path, NodeId::ROOT);
                continue;
            };
            let parent = dirs[parent];
            match nodes.get(number) {
                Some(node) => builder.link(parent, name, *node).expect("a file"),
                None => {
                    let node = builder.put(parent, name, new);
                    nodes.insert(*number, node);
                    if item.kind == Kind::Directory {
                        dirs.insert(path, node);
                    }
                }
            }
        }
        for path in &self.opaque {
            builder.opaque(dirs[path.as_slice()]);
        }
        for path in &self.whiteouts {
            let (name, parent) = path.split_last().expect("a name");
            builder.whiteout(dirs[parent], name);
        }
        builder.finish().expect("a small index")
    }

    /// The layer as a tar.
    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut pack = Pack::new(Vec::new());
        let mut first: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (path, number) in &self.names {
            let (item, path) = (&self.items[*number], path.join(&b'/'));
            if let Some(first) = first.get(number) {
                pack.link(&path, first, &item.meta()).expect("a link");
                continue;
            }
            let xattrs: Xattrs = item.xattrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let packed = Packed { path: &path, meta: &item.meta(), target: &item.target, xattrs: &xattrs };
            let mut content = vec![0; usize::try_from(item.size).expect("a size")];
            for (offset, bytes) in &item.pieces {
                content[usize::try_from(*offset).expect("an offset")..][..bytes.len()].copy_from_slice(bytes);
            }
            pack.entry(packed, &mut content.as_slice()).expect("an entry");
            first.insert(*number, path);
        }
        for path in &self.whiteouts {
            let (name, parent) = path.split_last().expect("a name");
            pack.whiteout(&parent.join(&b'/'), name).expect("a whiteout");
        }
        for path in &self.opaque {
            pack.opaque(&path.join(&b'/')).expect("an opaque marker");
        }
        pack.finish().expect("a tar")
    }

    /// Writes the layer into an existing empty directory, whiteouts in the AUFS spelling.
    pub(crate) fn write(&self, into: &FsPath) {
        let root = rustix::fs::open(into, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("the directory opens");
        let root = root.as_fd();
        let at = |path: &[Name]| if path.is_empty() { b".".to_vec() } else { path.join(&b'/') };
        let mut first: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (path, number) in &self.names {
            let (item, name) = (&self.items[*number], at(path));
            if let Some(first) = first.get(number) {
                rustix::fs::linkat(root, first, root, &name, AtFlags::empty()).expect("linkat");
                continue;
            }
            first.insert(*number, name.clone());
            let device = rustix::fs::makedev(item.rdev.0, item.rdev.1);
            match item.kind {
                Kind::Directory if path.is_empty() => {}
                Kind::Directory => rustix::fs::mkdirat(root, &name, Mode::RWXU).expect("mkdirat"),
                Kind::Symlink => rustix::fs::symlinkat(&*item.target, root, &name).expect("symlinkat"),
                Kind::File => {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                    let file = rustix::fs::openat(root, &name, flags, Mode::RWXU).expect("openat");
                    rustix::fs::ftruncate(&file, item.size).expect("ftruncate");
                    for (offset, bytes) in &item.pieces {
                        assert_eq!(rustix::io::pwrite(&file, bytes, *offset), Ok(bytes.len()));
                    }
                }
                kind => {
                    let kind = rustix::fs::FileType::from_raw_mode(kind.mode_bits());
                    rustix::fs::mknodat(root, &name, kind, Mode::RWXU, device).expect("mknodat");
                }
            }
        }
        for path in self.whiteouts.iter() {
            let (name, parent) = path.split_last().expect("a name");
            let (file, content) = whiteout::on_disk(name);
            std::fs::write(into.join(os(&at(parent))).join(os(&file)), &*content).expect("a whiteout");
        }
        for path in &self.opaque {
            std::fs::write(into.join(os(&at(path))).join(os(whiteout::OPAQUE)), b"").expect("an opaque marker");
        }
        // The deepest first, so that no time is changed again.
        for (path, number) in self.names.iter().rev() {
            self.items[*number].describe(root, &at(path));
        }
    }
}

impl Item {
    fn describe(&self, root: rustix::fd::BorrowedFd<'_>, name: &[u8]) {
        use std::os::fd::AsRawFd as _;
        let (uid, gid) = (rustix::fs::Uid::from_raw(self.uid), rustix::fs::Gid::from_raw(self.gid));
        rustix::fs::chownat(root, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).expect("chownat");
        if self.kind != Kind::Symlink {
            let mode = Mode::from_raw_mode(self.mode);
            rustix::fs::chmodat(root, name, mode, AtFlags::empty()).expect("chmodat");
        }
        let proc = [format!("/proc/self/fd/{}/", root.as_raw_fd()).as_bytes(), name].concat();
        for (attribute, value) in &self.xattrs {
            rustix::fs::lsetxattr(&proc, &**attribute, value, XattrFlags::empty()).expect("lsetxattr");
        }
        let time = Timespec { tv_sec: self.mtime.sec, tv_nsec: self.mtime.nsec.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(root, name, &times, AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
    }
}

/// Bytes as a path of the file system.
pub(crate) fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// The tree that layers (lowest first) make (`layer.md`, "Applying Changesets"): per layer, whiteouts first, which
/// apply to lower layers only; then entries: a directory onto a directory changes its attributes, anything else
/// replaces what was there.
pub(crate) fn flatten(layers: &[LayerTree]) -> LayerTree {
    let mut flat = LayerTree::default();
    for layer in layers {
        let hides = |flat: &mut LayerTree, hidden: &dyn Fn(&Path) -> bool| flat.names.retain(|path, _| !hidden(path));
        for path in &layer.whiteouts {
            hides(&mut flat, &|other| other.starts_with(path));
        }
        for path in &layer.opaque {
            hides(&mut flat, &|other| other.len() > path.len() && other.starts_with(path));
        }
        let offset = flat.items.len();
        flat.items.extend(layer.items.iter().cloned());
        for (path, number) in &layer.names {
            let both = [flat.kind(path), layer.kind(path)] == [Some(Kind::Directory); 2];
            if !both {
                hides(&mut flat, &|other| other.starts_with(path));
            }
            flat.names.insert(path.clone(), offset + number);
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_flattens_as_the_specification_says() {
        let low = LayerTree::new().file("d/a", b"1").file("d/b", b"2").file("x/y", b"3").dir("o/sub", 0o700);
        let top = LayerTree::new().whiteout("d/a").file("x", b"4").opaque("o").dir("d", 0o711);
        let flat = flatten(&[low, top]);
        let names: Vec<_> = flat.names.keys().map(|path| path.join(&b'/')).collect();
        assert_eq!(names, [&b""[..], b"d", b"d/b", b"o", b"x"]);
        assert_eq!(flat.item(&path("d")).map(|item| item.mode), Some(0o711));
        assert_eq!(flat.kind(&path("x")), Some(Kind::File));
    }
}
