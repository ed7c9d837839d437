//! The lower half of the union: the layers' indexes as one immutable tree.
//!
//! A lower inode's number is its place in the chain of indexes, counted from the base, so it needs no
//! table and is the same at every mount. A directory that several layers have is one inode: that of the
//! nearest layer. How layers are merged is in [`merge`](super::merge), and what they say of each other in
//! [`references`](super::references).

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use rustix::fs::{MemfdFlags, Mode, OFlags, ResolveFlags};

use super::descriptors::{Descriptors, Key};
use super::errno::{Errno, FsResult};
use super::handles::crc32;
use super::references::{References, Unresolved};
use super::types::{Ino, MOUNT_POINTS};
use crate::index::{Child, Index, Kind, Meta, Node, NodeId};
use crate::stack::Lower;
use crate::sys::call;

/// More directories than this are not kept merged at a time.
const MERGED_MAX: usize = 20_000;
/// More directories than this are never in each other: a path is shorter, but a tree can be made deeper.
pub(super) const DEPTH_MAX: usize = 65_536;
/// How a lower file is opened: whatever is there, it is not followed, waited for, or touched.
const DATA: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOATIME).union(OFlags::CLOEXEC);
/// `PATH_MAX` of Linux, with the terminating NUL: a longer path is opened in steps.
const PATH_MAX: usize = 4096;

/// A node in the chain: the layer, counted from the base, and the node in its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) layer: u32,
    pub(super) node: NodeId,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) dir: PathBuf,
    pub(super) index: Arc<Index>,
    /// The number of the layer's node 0.
    first: u64,
    /// That of its inodes: of this tree with these numbers.
    generation: u32,
}

/// All layers, base first.
#[derive(Debug)]
pub(super) struct Lowers {
    pub(super) layers: Vec<Layer>,
    /// The number of the last of them when that is no layer, but the mount points.
    mount_points: Option<u32>,
    pub(super) references: References,
    root: Arc<LowerDir>,
    merged: RwLock<HashMap<Ino, Arc<LowerDir>>>,
}

/// A directory of the merged lower tree.
#[derive(Debug)]
pub(super) struct LowerDir {
    pub(super) ino: Ino,
    /// The directory it is in, in the lower tree; the root is in itself.
    pub(super) parent: Ino,
    pub(super) name: Box<[u8]>,
    /// The layers that have it, nearest first.
    parts: Box<[Place]>,
    /// Merged from several layers; a single layer's children are read from its index.
    children: OnceLock<Box<[Merged]>>,
    subdirectories: OnceLock<u32>,
}

#[derive(Debug)]
pub(super) struct Merged {
    pub(super) name: Box<[u8]>,
    pub(super) child: LowerChild,
    /// Of a directory: the layers that have it.
    pub(super) parts: Box<[Place]>,
}

/// What stands at a name in the merged lower tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LowerChild {
    pub(super) ino: Ino,
    pub(super) kind: Kind,
}

/// Takes a name with its position, and says whether to go on.
type Each<'a> = &'a mut dyn FnMut(u32, &[u8], LowerChild) -> FsResult<bool>;

impl Lowers {
    /// Takes the layers nearest first, as a stack has them, and the mount points.
    ///
    /// # Errors
    /// [`Unresolved`] when one of them refers to what those below it do not have.
    pub(super) fn new(lowers: Vec<Lower>, mount_points: Option<Arc<Index>>) -> Result<Self, Unresolved> {
        let mut first = Ino::ROOT.0;
        let mut layers = Vec::with_capacity(lowers.len());
        for Lower { dir, index } in lowers.into_iter().rev() {
            let count = u64::from(index.node_count());
            layers.push(Layer::new(dir, index, first));
            first += count;
        }
        let mount_points = mount_points.map(|index| {
            layers.push(Layer::new(PathBuf::new(), index, MOUNT_POINTS));
            u32::try_from(layers.len() - 1).unwrap_or(u32::MAX)
        });
        let root = LowerDir {
            ino: Ino::ROOT,
            parent: Ino::ROOT,
            name: Box::default(),
            parts: Box::default(),
            children: OnceLock::new(),
            subdirectories: OnceLock::new(),
        };
        let references = References::default();
        let mut made = Self { layers, mount_points, references, root: Arc::new(root), merged: RwLock::default() };
        let mut parts = made.roots_below(u32::MAX);
        parts.extend(mount_points.map(|layer| Place { layer, node: NodeId::ROOT }));
        if let Some(root) = Arc::get_mut(&mut made.root) {
            root.parts = parts.into();
        }
        made.resolve()?;
        Ok(made)
    }

    /// The layers without the mount points.
    pub(super) fn real(&self) -> &[Layer] {
        match (self.mount_points, self.layers.split_last()) {
            (Some(_), Some((_, layers))) => layers,
            _ => &self.layers,
        }
    }

    /// Whether this is one of the mount points, or their root.
    pub(super) fn is_mount_point(&self, place: Place) -> bool {
        self.mount_points == Some(place.layer)
    }

    pub(super) fn root(&self) -> &Arc<LowerDir> {
        &self.root
    }

    pub(super) fn layer(&self, place: Place) -> Option<&Layer> {
        self.layers.get(place.layer as usize)
    }

    pub(super) fn at(&self, place: Place) -> Option<Node<'_>> {
        self.layer(place)?.index.node(place.node)
    }

    /// The number of the node 0 of a layer, or the first number behind all layers.
    pub(super) fn first(&self, layer: usize) -> u64 {
        let layers = self.real();
        let behind = || layers.last().map(|last| last.first + u64::from(last.index.node_count()));
        layers.get(layer).map(|layer| layer.first).or_else(behind).unwrap_or(Ino::ROOT.0)
    }

    /// The number of a node.
    pub(super) fn ino(&self, place: Place) -> Option<Ino> {
        let layer = self.layer(place)?;
        (place.node.0 < layer.index.node_count()).then(|| Ino(layer.first + u64::from(place.node.0)))
    }

    /// The node of a number; `None` for a number that is no lower inode's.
    pub(super) fn place(&self, ino: Ino) -> Option<Place> {
        let number = self.layers.partition_point(|layer| layer.first <= ino.0).checked_sub(1)?;
        let layer = self.layers.get(number)?;
        let node = u32::try_from(ino.0 - layer.first).ok().filter(|node| *node < layer.index.node_count())?;
        Some(Place { layer: u32::try_from(number).ok()?, node: NodeId(node) })
    }

    /// The components of one path to a lower inode.
    pub(super) fn path(&self, ino: Ino) -> Option<Vec<Vec<u8>>> {
        let place = self.place(ino)?;
        let path = self.layer(place)?.index.path(place.node)?;
        Some(path.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The node that describes this inode: of a merged directory the nearest that has an entry of its own.
    pub(super) fn node(&self, ino: Ino) -> Option<Node<'_>> {
        let node = self.at(self.place(ino)?);
        match node {
            Some(node) if ino != Ino::ROOT && !node.is_implied() => Some(node),
            Some(node) if ino != Ino::ROOT && node.kind() != Some(Kind::Directory) => Some(node),
            _ => {
                let dir = self.dir(ino)?;
                // No layer at all says nothing of the root.
                let parts = || dir.parts.iter().filter(|part| ino != Ino::ROOT || !self.is_mount_point(**part));
                let described = parts().filter_map(|part| self.at(*part)).find(|part| !part.is_implied());
                described.or_else(|| self.at(*parts().next()?))
            }
        }
    }

    /// The generation of a lower inode; the root's is always 0 (fs/fuse/inode.c, `fuse_get_root_inode`).
    pub(super) fn generation(&self, ino: Ino) -> Option<u32> {
        if ino == Ino::ROOT {
            return Some(0);
        }
        self.layer(self.place(ino)?).map(|layer| layer.generation)
    }

    /// Tells the layer `layer` from any other, for marks that must outlive a mount.
    pub(super) fn key(&self, layer: u32) -> Option<u64> {
        self.layers.get(layer as usize).map(|layer| layer.index.key())
    }

    /// The layer of this key: `hint` itself where it has it.
    pub(super) fn layer_of_key(&self, key: u64, hint: u32) -> Option<u32> {
        if self.key(hint) == Some(key) {
            return Some(hint);
        }
        self.layers.iter().position(|layer| layer.index.key() == key).and_then(|number| u32::try_from(number).ok())
    }

    pub(super) fn is_directory(&self, ino: Ino) -> bool {
        self.place(ino).and_then(|place| self.at(place)).is_some_and(|node| node.kind() == Some(Kind::Directory))
    }

    /// The merged directory of this number; `None` when there is none or a nearer layer hides it.
    pub(super) fn dir(&self, ino: Ino) -> Option<Arc<LowerDir>> {
        if ino == Ino::ROOT {
            return Some(self.root.clone());
        }
        if let Some(dir) = self.merged.read().get(&ino) {
            return Some(dir.clone());
        }
        let dir = self.dir_at(self.place(ino)?)?;
        (dir.ino == ino).then_some(dir)
    }

    /// The merged directory that `place` is a part of; `None` when a nearer layer hides it.
    pub(super) fn dir_at(&self, place: Place) -> Option<Arc<LowerDir>> {
        let mut names = Vec::new();
        let mut at = place;
        while at.node != NodeId::ROOT {
            // It stands where the directory stands that refers to it, in a layer above.
            if let Some(into) = self.references.merged_into(at) {
                at = into;
                continue;
            }
            let (parent, name) = self.layer(at)?.index.names(at.node).next()?;
            names.push(name);
            // A forged index could have a ring.
            if names.len() > DEPTH_MAX {
                return None;
            }
            at.node = parent;
        }
        let mut dir = self.root.clone();
        for name in names.into_iter().rev() {
            dir = self.subdirectory(&dir, name)?;
        }
        dir.has_part(place).then_some(dir)
    }

    /// The directory `name` in `dir`.
    pub(super) fn subdirectory(&self, dir: &LowerDir, name: &[u8]) -> Option<Arc<LowerDir>> {
        let child = self.child(dir, name)?;
        if child.kind != Kind::Directory {
            return None;
        }
        if let Some(known) = self.merged.read().get(&child.ino) {
            return Some(known.clone());
        }
        let parts = match self.merged_children(dir) {
            Some(children) => {
                let at = children.binary_search_by(|merged| (*merged.name).cmp(name)).ok()?;
                children.get(at)?.parts.clone()
            }
            None => self.merged_child(&dir.parts, name)?.1.into(),
        };
        let made = Arc::new(LowerDir {
            ino: child.ino,
            parent: dir.ino,
            name: name.into(),
            parts,
            children: OnceLock::new(),
            subdirectories: OnceLock::new(),
        });
        let mut merged = self.merged.write();
        if merged.len() >= MERGED_MAX {
            merged.clear();
        }
        Some(merged.entry(child.ino).or_insert(made).clone())
    }

    /// What stands at `name` in `dir`.
    pub(super) fn child(&self, dir: &LowerDir, name: &[u8]) -> Option<LowerChild> {
        if let Some(children) = self.merged_children(dir) {
            let at = children.binary_search_by(|merged| (*merged.name).cmp(name)).ok()?;
            return children.get(at).map(|merged| merged.child);
        }
        let part = *dir.parts.first()?;
        match self.layer(part)?.index.lookup(part.node, name)? {
            Child::Node(node) => self.lower_child(Place { node, ..part }),
            Child::Whiteout => None,
        }
    }

    pub(super) fn lower_child(&self, place: Place) -> Option<LowerChild> {
        Some(LowerChild { ino: self.ino(place)?, kind: self.at(place)?.kind()? })
    }

    /// Calls `each` for the names of `dir`, the one at `position` first, with the position of each, until
    /// it answers false.
    pub(super) fn for_each_child(&self, dir: &LowerDir, position: u32, each: Each<'_>) -> FsResult<bool> {
        if let Some(children) = self.merged_children(dir) {
            for (number, merged) in (position..).zip(children.iter().skip(position as usize)) {
                if !each(number, &merged.name, merged.child)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let Some(part) = dir.parts.first() else { return Ok(true) };
        let Some(layer) = self.layer(*part) else { return Ok(true) };
        for (number, dentry) in (position..).zip(layer.index.children(part.node).skipping(position)) {
            let Child::Node(node) = dentry.target else { continue };
            let Some(child) = self.lower_child(Place { node, ..*part }) else { return Err(Errno::EIO) };
            if !each(number, dentry.name, child)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many directories `dir` has.
    pub(super) fn subdirectories(&self, dir: &LowerDir) -> u32 {
        *dir.subdirectories.get_or_init(|| {
            let mut count = 0u32;
            let listed = self.for_each_child(dir, 0, &mut |_, _, child| {
                count = count.saturating_add(u32::from(child.kind == Kind::Directory));
                Ok(true)
            });
            // error: the closure has none, and a damaged index is told when the directory is read.
            listed.map_or(0, |_| count)
        })
    }

    /// The merged children, or `None` for a directory of at most one layer.
    fn merged_children<'a>(&self, dir: &'a LowerDir) -> Option<&'a [Merged]> {
        if dir.parts.len() < 2 {
            return None;
        }
        Some(dir.children.get_or_init(|| self.merge(&dir.parts)))
    }

    /// The names of a lower file that no nearer layer hides, each with the merged directory it is in.
    pub(super) fn visible_names(&self, ino: Ino) -> Vec<(Arc<LowerDir>, Vec<u8>)> {
        let Some(place) = self.place(ino) else { return Vec::new() };
        let Some(layer) = self.layer(place) else { return Vec::new() };
        let names = layer.index.names(place.node);
        names
            .filter_map(|(parent, name)| {
                let dir = self.dir_at(Place { node: parent, ..place })?;
                (self.child(&dir, name)?.ino == ino).then(|| (dir, name.to_vec()))
            })
            .collect()
    }

    /// How many names stand before a file in its directory of its layer, and the files that follow it there.
    pub(super) fn siblings(&self, ino: Ino) -> Option<(u32, impl Iterator<Item = Ino>)> {
        let place = self.place(ino)?;
        let (before, following) = self.layer(place)?.index.siblings(place.node)?;
        let file = move |target| match target {
            Child::Node(node) => self.lower_child(Place { node, ..place }),
            Child::Whiteout => None,
        };
        let files = following.filter_map(move |dentry| file(dentry.target)).filter(|child| child.kind == Kind::File);
        Some((before, files.map(|child| child.ino)))
    }

    /// Opens the data of a lower file for reading. No component is followed out of the layer.
    pub(super) fn open(&self, ino: Ino, descriptors: &Descriptors) -> FsResult<Arc<OwnedFd>> {
        descriptors.get(Key::LowerData(ino), || {
            let place = self.place(ino).ok_or(Errno::ESTALE)?;
            let place = self.references.data(place).unwrap_or(place);
            if self.is_mount_point(place) {
                return Ok(call::memfd_create("mount-point", MemfdFlags::CLOEXEC)?);
            }
            let layer = self.layer(place).ok_or(Errno::ESTALE)?;
            if let Some(elsewhere) = layer.index.data_at(place.node) {
                return Ok(call::open(elsewhere, DATA, Mode::empty())?);
            }
            let path = layer.index.path(place.node).ok_or(Errno::EIO)?;
            let mut dir = descriptors.get(Key::Layer(place.layer), || {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Ok(call::open(&layer.dir, flags, Mode::empty())?)
            })?;
            let mut joined = Vec::new();
            let mut components = path.into_iter().peekable();
            while let Some(component) = components.next() {
                joined.extend_from_slice(component);
                match components.peek() {
                    Some(next) if joined.len() + next.len() + 2 < PATH_MAX => joined.push(b'/'),
                    Some(_) => {
                        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                        dir = Arc::new(open_beneath(&dir, &joined, flags)?);
                        joined.clear();
                    }
                    None => {}
                }
            }
            open_beneath(&dir, &joined, DATA)
        })
    }

    /// Any layer's directory, for `statfs`.
    pub(super) fn any_dir(&self) -> Option<&std::path::Path> {
        self.real().last().map(|layer| layer.dir.as_path())
    }
}

impl Layer {
    fn new(dir: PathBuf, index: Arc<Index>, first: u64) -> Self {
        let generation = crc32(&[index.key().to_le_bytes(), first.to_le_bytes()].concat());
        Self { dir, index, first, generation }
    }
}

impl LowerDir {
    /// The directories of the layers that are merged into it, nearest first.
    pub(super) fn parts(&self) -> &[Place] {
        &self.parts
    }

    /// Whether the directory of this layer is merged into it.
    pub(super) fn has_part(&self, place: Place) -> bool {
        self.parts.contains(&place)
    }

    /// The place that stands for the directory in a mark: its nearest part.
    pub(super) fn nearest(&self) -> Option<Place> {
        self.parts.first().copied()
    }
}

fn open_beneath(dir: &OwnedFd, path: &[u8], flags: OFlags) -> FsResult<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(call::openat2(dir.as_fd(), path, flags, Mode::empty(), resolve)?)
}

/// What a directory shows when no layer says anything of it.
pub(super) const fn undescribed() -> Meta {
    Meta::implied_directory()
}
