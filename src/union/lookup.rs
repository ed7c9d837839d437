//! From a name to an inode.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno as Raw;

use super::descriptors::Key;
use super::disk_dir::{DiskEntry, open_directory, read_directory, remove_tree};
use super::errno::{Errno, FsResult};
use super::lowers::{LowerChild, LowerDir};
use super::tree::{Listing, Node, Orphan, Tree, UpperEntry};
use super::types::{Attr, Ino, UPPER};
use super::upper::{self, Mark, Spot};
use super::{Union, check_name};
use crate::index::Kind;
use crate::sys::call;
use crate::whiteout;

/// A directory of the union: an upper one, a lower one, or both.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) upper: bool,
    pub(super) lower: Option<Arc<LowerDir>>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) ino: Ino,
    pub(super) kind: Kind,
    /// Whether it is in the upper.
    pub(super) upper: bool,
}

impl From<LowerChild> for Found {
    fn from(LowerChild { ino, kind }: LowerChild) -> Self {
        Self { ino, kind, upper: false }
    }
}

impl From<UpperEntry> for Found {
    fn from(UpperEntry { ino, kind }: UpperEntry) -> Self {
        Self { ino, kind, upper: true }
    }
}

/// The number of an inode that only the upper has.
pub(super) fn upper_ino(disk: u64) -> Ino {
    // A number of 48 bits or more, which no file system in use has, must at least stay out of the way.
    if disk < UPPER { Ino(UPPER | disk) } else { Ino((1 << 62) | disk) }
}

impl Union {
    /// Finds `name` in the directory `parent`, and counts one reference. `.` and `..` are answered too, for
    /// file handles (`FUSE_EXPORT_SUPPORT`).
    ///
    /// # Errors
    /// `ENOENT` when there is no such name; `ENAMETOOLONG`; `ESTALE` for a number whose inode has no name any more.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> FsResult<Attr> {
        check_name(name)?;
        match name {
            // "/" is the name of an inode that was found by its number, and overlayfs asks for it again (fs/overlayfs/super.c,
            // `ovl_revalidate_real`).
            b"." | b"/" => return self.lookup_number(parent, false),
            b".." => return self.lookup_number(parent, true),
            _ if whiteout::is_reserved(name) && !self.has_reserved_names() => return Err(Errno::ENOENT),
            _ => {}
        }
        {
            let tree = self.tree.read();
            if let Some(found) = self.find_known(&tree, parent, name)?
                && let Some(attr) = self.attr_known(&tree, found.ino)?
            {
                self.references.add(attr.ino);
                return Ok(attr);
            }
        }
        let mut tree = self.tree.write();
        let ino = self.find(&mut tree, parent, name)?.ok_or(Errno::ENOENT)?.ino;
        let attr = self.attr(&mut tree, ino)?;
        self.references.add(ino);
        Ok(attr)
    }

    /// The directory that a directory is in.
    pub(super) fn parent(&self, tree: &Tree, ino: Ino) -> FsResult<Ino> {
        if let Some(node) = tree.nodes.get(&ino) {
            return Ok(node.names.first().map_or(ino, |(parent, _)| *parent));
        }
        Ok(self.lowers.dir(ino).ok_or(Errno::ESTALE)?.parent)
    }

    /// The directory behind a number.
    pub(super) fn view(&self, tree: &Tree, ino: Ino) -> FsResult<View> {
        if tree.gone.contains(&ino) {
            return Err(Errno::ENOENT);
        }
        if let Some(node) = tree.nodes.get(&ino) {
            return match node.kind {
                Kind::Directory => Ok(View { upper: true, lower: node.lower.clone() }),
                _ => Err(Errno::ENOTDIR),
            };
        }
        match self.lowers.dir(ino) {
            Some(lower) => Ok(View { upper: false, lower: Some(lower) }),
            None if self.lowers.place(ino).is_some() => Err(Errno::ENOTDIR),
            None => Err(Errno::ESTALE),
        }
    }

    /// As [`Union::find`], but `Ok(None)` also when something would have to be read from the upper;
    /// that there is no such name is `ENOENT`.
    pub(super) fn find_known(&self, tree: &Tree, parent: Ino, name: &[u8]) -> FsResult<Option<Found>> {
        let view = self.view(tree, parent)?;
        if view.upper {
            let Some(listing) = tree.listing(parent) else { return Ok(None) };
            if let Some(entry) = listing.get(self.names.of(name), name) {
                let known = tree
                    .nodes
                    .get(&entry.ino)
                    .is_some_and(|node| node.names.iter().any(|(dir, known)| *dir == parent && **known == *name));
                return Ok(known.then(|| entry.into()));
            }
            if listing.whiteouts.contains(name) {
                return Err(Errno::ENOENT);
            }
        }
        let child = view.lower.and_then(|lower| self.lowers.child(&lower, name));
        child.map(|child| Some(child.into())).ok_or(Errno::ENOENT)
    }

    /// What `name` in `parent` stands for; an upper inode becomes known.
    pub(super) fn find(&self, tree: &mut Tree, parent: Ino, name: &[u8]) -> FsResult<Option<Found>> {
        let view = self.view(tree, parent)?;
        if view.upper {
            let listing = self.load(tree, parent)?;
            if let Some(entry) = listing.get(self.names.of(name), name) {
                self.learn(tree, parent, name, entry)?;
                return Ok(Some(entry.into()));
            }
            if listing.whiteouts.contains(name) {
                return Ok(None);
            }
        }
        Ok(view.lower.and_then(|lower| self.lowers.child(&lower, name)).map(Found::from))
    }

    /// Makes the upper inode at `name` in `parent` known, under that name.
    fn learn(&self, tree: &mut Tree, parent: Ino, name: &[u8], entry: UpperEntry) -> FsResult<()> {
        if !tree.nodes.contains_key(&entry.ino) {
            let dir = self.upper_dir(tree, parent)?;
            let spot = Spot::Named(dir, name.into());
            let mut node = Node::new(entry.kind);
            match entry.kind {
                Kind::Directory => node.lower = self.lowers.dir(entry.ino),
                Kind::File => node.metacopy = self.upper()?.mark(&spot, Mark::Metacopy)?.is_some(),
                _ => {}
            }
            let is_lower = self.lowers.place(entry.ino).is_some();
            if node.metacopy && !is_lower {
                // The lowers are not those it was made over: better no file than a wrong one.
                return Err(Errno::EIO);
            }
            if !is_lower {
                node.generation = Self::upper_generation(&spot)?;
            }
            tree.nodes.insert(entry.ino, node);
        }
        tree.add_name(entry.ino, parent, name);
        if let Some(node) = tree.nodes.get_mut(&entry.ino)
            && let Some(orphan) = node.orphan.take()
        {
            // It was thought to have lost its last name, and here is another.
            let kind = node.kind;
            if let Some(homes) = &mut tree.homes {
                homes.add(entry.ino, kind, parent);
            }
            self.drop_orphan(tree, entry.ino, &orphan);
        }
        Ok(())
    }

    /// The listing of an upper directory, read from disk if it is not at hand.
    pub(super) fn load<'a>(&self, tree: &'a mut Tree, dir: Ino) -> FsResult<&'a mut Listing> {
        if tree.listing(dir).is_none() {
            let listing = self.read_listing(tree, dir)?;
            tree.put_listing(dir, listing);
        } else {
            tree.touch(dir);
        }
        tree.listing_mut(dir).ok_or(Errno::EIO)
    }

    fn read_listing(&self, tree: &Tree, dir: Ino) -> FsResult<Listing> {
        let descriptor = self.upper_dir(tree, dir)?;
        let disk = read_directory(descriptor.as_fd())?;
        let here = Spot::Open(descriptor.clone());
        let mut listing = Listing::empty(disk.opaque);
        listing.whiteouts = disk.whiteouts.into_iter().collect();
        listing.impure = self.upper()?.mark(&here, Mark::Impure)?.is_some();
        let lower = self.view(tree, dir)?.lower;
        for entry in disk.entries {
            if tree.hidden.contains(&entry.ino) || tree.unfinished.values().any(|disk| *disk == entry.ino) {
                continue;
            }
            let ino = self.number(&descriptor, lower.as_deref(), listing.impure, &entry)?;
            let hash = self.names.of(&entry.name);
            listing.insert(hash, &entry.name, UpperEntry { ino, kind: entry.kind });
        }
        Ok(listing)
    }

    /// The number of the upper inode at an entry of a directory. This is the rule; every number of an
    /// upper inode comes from here, or is what this will say.
    fn number(&self, dir: &Arc<OwnedFd>, lower: Option<&LowerDir>, impure: bool, entry: &DiskEntry) -> FsResult<Ino> {
        let spot = Spot::Named(dir.clone(), entry.name.clone());
        if impure && let Some(text) = self.upper()?.mark(&spot, Mark::Origin)? {
            if let Some(ino) = self.origin(&text, entry.kind) {
                return Ok(ino);
            }
        } else if entry.kind == Kind::Directory
            && let Some(below) = lower.and_then(|lower| self.lowers.subdirectory(lower, &entry.name))
        {
            let inner = open_directory(dir.as_fd(), &entry.name)?;
            let is_opaque = match call::statat(&inner, whiteout::OPAQUE, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => true,
                Err(Raw::NOENT) => false,
                Err(error) => return Err(error.into()),
            };
            if !is_opaque {
                return Ok(below.ino);
            }
        }
        Ok(upper_ino(entry.ino))
    }

    /// The lower inode that an origin mark names.
    pub(super) fn origin(&self, text: &[u8], kind: Kind) -> Option<Ino> {
        let (layer, key, node) = upper::parse_origin(text)?;
        let place = super::lowers::Place { layer: self.lowers.layer_of_key(key, layer)?, node };
        if kind == Kind::Directory {
            return self.lowers.dir_at(place).map(|dir| dir.ino);
        }
        let ino = self.lowers.ino(place)?;
        (!self.lowers.is_directory(ino)).then_some(ino)
    }

    /// The open directory of an upper inode. Directories on the way are opened one by one, so that no
    /// path is too long.
    pub(super) fn upper_dir(&self, tree: &Tree, ino: Ino) -> FsResult<Arc<OwnedFd>> {
        let mut missing = Vec::new();
        let mut at = ino;
        let mut dir = loop {
            if at == Ino::ROOT {
                break self.upper()?.root.clone();
            }
            if let Some(dir) = self.descriptors.cached(Key::UpperDir(at)) {
                break dir;
            }
            let node = tree.nodes.get(&at).ok_or(Errno::ESTALE)?;
            let (parent, name) = node.names.first().ok_or(Errno::ENOENT)?;
            missing.push((at, name));
            at = *parent;
        };
        while let Some((at, name)) = missing.pop() {
            dir = Arc::new(open_directory(dir.as_fd(), name)?);
            self.descriptors.put(Key::UpperDir(at), dir.clone());
        }
        Ok(dir)
    }

    /// Where an upper inode is on disk.
    pub(super) fn spot(&self, tree: &Tree, ino: Ino) -> FsResult<Spot> {
        if ino == Ino::ROOT {
            return Ok(Spot::Open(self.upper()?.root.clone()));
        }
        let node = tree.nodes.get(&ino).ok_or(Errno::ESTALE)?;
        if let Some((parent, name)) = node.names.first() {
            return Ok(Spot::Named(self.upper_dir(tree, *parent)?, name.clone()));
        }
        match &node.orphan {
            Some(Orphan::Open(file)) => Ok(Spot::Open(file.clone())),
            Some(Orphan::Parked) => {
                let orphans = self.upper()?.private(whiteout::ORPHANS)?;
                Ok(Spot::Named(Arc::new(orphans), parked_name(ino).into()))
            }
            None => Err(Errno::ESTALE),
        }
    }

    /// The data of an upper file, for reading and writing.
    pub(super) fn upper_data(&self, tree: &Tree, ino: Ino) -> FsResult<Arc<OwnedFd>> {
        self.descriptors.get(Key::UpperData(ino), || self.spot(tree, ino)?.open(OFlags::RDWR | OFlags::NONBLOCK))
    }

    /// Forgets an inode without references, and then the directories that were known only for it.
    pub(super) fn release(&self, tree: &mut Tree, ino: Ino) {
        let mut todo = vec![ino];
        while let Some(ino) = todo.pop() {
            if self.references.has(ino) {
                continue;
            }
            tree.gone.remove(&ino);
            tree.links.remove(&ino);
            match tree.nodes.get(&ino) {
                Some(node) if node.pins == 0 && (!node.moved || node.names.is_empty()) && ino != Ino::ROOT => {}
                _ => continue,
            }
            tree.drop_listing(ino);
            let Some(node) = tree.nodes.remove(&ino) else { continue };
            if let Some(orphan) = &node.orphan {
                self.drop_orphan(tree, ino, orphan);
            }
            if node.names.is_empty() {
                tree.ctimes.forget(ino);
            }
            self.descriptors.remove(Key::UpperData(ino));
            self.descriptors.unsure.forget(ino);
            self.descriptors.remove(Key::UpperDir(ino));
            for (parent, _) in node.names {
                if let Some(parent) = tree.nodes.get_mut(&parent) {
                    parent.pins = parent.pins.saturating_sub(1);
                }
                todo.push(parent);
            }
        }
    }

    pub(super) fn drop_orphan(&self, tree: &mut Tree, ino: Ino, orphan: &Orphan) {
        match orphan {
            Orphan::Open(_) => tree.open_orphans = tree.open_orphans.saturating_sub(1),
            Orphan::Parked => {
                if let Some(upper) = &self.upper {
                    upper.clean_up(|| remove_tree(upper.private(whiteout::ORPHANS)?.as_fd(), &parked_name(ino)));
                }
            }
        }
    }
}

/// The name of an orphan among the parked ones.
pub(super) fn parked_name(ino: Ino) -> Vec<u8> {
    format!("{:x}", ino.0).into_bytes()
}
