//! Names that go: unlink and rmdir, and what keeps a file that is still in use.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags};

use super::descriptors::Key;
use super::disk_dir::remove_tree;
use super::errno::{Errno, FsResult};
use super::lookup::{Found, parked_name};
use super::tree::{Orphan, Tree};
use super::types::Ino;
use super::{Union, check_name};
use crate::index::Kind;
use crate::sys::call;
use crate::whiteout;

impl Union {
    /// Removes the name of anything but a directory.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS` without an upper.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> FsResult<()> {
        self.upper()?;
        check_name(name)?;
        let mut tree = self.tree.write();
        let tree = &mut *tree;
        let found = self.find(tree, parent, name)?.ok_or(Errno::ENOENT)?;
        if found.kind == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        self.copy_up_parent(tree, parent)?;
        let dir = self.upper_dir(tree, parent)?;
        self.hide(tree, parent, name)?;
        if found.upper {
            tree.ctimes.moved(found.ino);
            self.detach(tree, found.ino, parent, name)?;
            call::unlinkat(&dir, name, AtFlags::empty())?;
            self.lost(tree, parent, name);
        } else {
            // The whiteout alone has removed it; nothing else of it was here.
            self.lower_lost_name(tree, found.ino)?;
        }
        self.settle(tree, found.ino);
        Ok(())
    }

    /// Removes a directory that shows nothing.
    ///
    /// # Errors
    /// `ENOTEMPTY`, `ENOTDIR`, `ENOENT`, `EROFS` without an upper.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> FsResult<()> {
        let upper = self.upper()?;
        check_name(name)?;
        let mut tree = self.tree.write();
        let tree = &mut *tree;
        let found = self.find(tree, parent, name)?.ok_or(Errno::ENOENT)?;
        self.check_empty(tree, found)?;
        self.copy_up_parent(tree, parent)?;
        let dir = self.upper_dir(tree, parent)?;
        self.hide(tree, parent, name)?;
        if found.upper {
            self.detach(tree, found.ino, parent, name)?;
            let temporary = upper.temporary();
            call::renameat(&dir, name, upper.work()?, &*temporary)?;
            let nlink = tree.listing(parent).and_then(|listing| listing.nlink);
            self.lost(tree, parent, name);
            if let Some(listing) = tree.listing_mut(parent) {
                // A lower directory of this name is hidden by now.
                listing.nlink = nlink.and_then(|nlink| nlink.checked_sub(1));
            }
            upper.clean_up(|| remove_tree(upper.work()?.as_fd(), &temporary));
        }
        tree.gone.insert(found.ino);
        self.settle(tree, found.ino);
        Ok(())
    }

    /// Takes note that a name is gone from the upper. What is not in memory is read from disk later on.
    pub(super) fn lost(&self, tree: &mut Tree, parent: Ino, name: &[u8]) {
        let hash = self.names.of(name);
        if let Some(listing) = tree.listing_mut(parent) {
            listing.remove(hash, name);
        }
    }

    /// That a directory shows nothing.
    pub(super) fn check_empty(&self, tree: &mut Tree, found: Found) -> FsResult<()> {
        if found.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let view = self.view(tree, found.ino)?;
        let listing = if view.upper { Some(&*self.load(tree, found.ino)?) } else { None };
        if listing.is_some_and(|listing| !listing.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        let Some(lower) = view.lower else { return Ok(()) };
        let nothing = self.lowers.for_each_child(&lower, 0, &mut |_, name, _| {
            Ok(listing.is_some_and(|listing| listing.whiteouts.contains(name)))
        })?;
        if nothing { Ok(()) } else { Err(Errno::ENOTEMPTY) }
    }

    /// Writes a whiteout for `name`, if a lower layer has it.
    pub(super) fn hide(&self, tree: &mut Tree, parent: Ino, name: &[u8]) -> FsResult<()> {
        let Some(kind) = self.lower_child(tree, parent, name)? else { return Ok(()) };
        if self.load(tree, parent)?.whiteouts.contains(name) {
            return Ok(());
        }
        let dir = self.upper_dir(tree, parent)?;
        self.upper()?.create_whiteout(dir.as_fd(), name)?;
        let hash = self.names.of(name);
        let listing = self.load(tree, parent)?;
        listing.whiteouts.insert(name.into());
        // To count all subdirectories again would cost as much as there are entries, for each that goes.
        if kind == Kind::Directory && listing.get(hash, name).is_none() {
            listing.nlink = listing.nlink.and_then(|nlink| nlink.checked_sub(1));
        }
        Ok(())
    }

    /// Prepares an upper inode for the loss of a name. If it is its last and the kernel still refers to
    /// the inode, a descriptor keeps it; when there are too many of those, a private name does.
    pub(super) fn detach(&self, tree: &mut Tree, ino: Ino, parent: Ino, name: &[u8]) -> FsResult<()> {
        let only = tree.nodes.get(&ino).is_none_or(|node| node.names.len() < 2);
        if only && self.references.has(ino) {
            let spot = self.spot(tree, ino)?;
            let directory = tree.nodes.get(&ino).is_some_and(|node| node.kind == Kind::Directory);
            let orphan = if tree.open_orphans < self.descriptors.capacity() / 2 || directory {
                let data = self.descriptors.cached(Key::UpperData(ino));
                let file = match data {
                    Some(file) => file,
                    None => Arc::new(spot.open(OFlags::PATH | OFlags::NOFOLLOW)?),
                };
                tree.open_orphans += 1;
                Orphan::Open(file)
            } else {
                let upper = self.upper()?;
                let orphans = Self::unseen(tree, Ino::ROOT, upper.root.as_fd(), || upper.private(whiteout::ORPHANS))?;
                let dir = self.upper_dir(tree, parent)?;
                call::linkat(&dir, name, &orphans, &*parked_name(ino), AtFlags::empty())?;
                Orphan::Parked
            };
            if let Some(node) = tree.nodes.get_mut(&ino) {
                node.orphan = Some(orphan);
            }
        }
        tree.remove_name(ino, parent, name);
        Ok(())
    }

    /// Takes note that a lower file has lost a name to a whiteout.
    pub(super) fn lower_lost_name(&self, tree: &mut Tree, ino: Ino) -> FsResult<()> {
        tree.links.remove(&ino);
        let several = self.lowers.node(ino).is_some_and(|node| node.nlink() > 1);
        if !several || self.union_names(tree, ino)?.is_empty() {
            tree.gone.insert(ino);
        }
        Ok(())
    }

    /// Forgets an inode at once, if it has no references.
    pub(super) fn settle(&self, tree: &mut Tree, ino: Ino) {
        if !self.references.has(ino) {
            self.release(tree, ino);
        }
    }
}
