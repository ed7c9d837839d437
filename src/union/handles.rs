//! From a file handle to an inode.
//!
//! A handle that the kernel gives to a program (`name_to_handle_at(2)`, an NFS server, overlayfs, fanotify) is the number
//! and the generation of an inode. Once the kernel has forgotten the inode, it asks for the number alone
//! (`FUSE_EXPORT_SUPPORT`, fs/fuse/inode.c, `fuse_get_dentry`) and compares the generations itself. The answer is the inode
//! that has a name now, or `ESTALE`: a number by itself says neither that a lower file still has a name nor that it was not
//! copied up.
//!
//! | inode | found by |
//! |---|---|
//! | a lower directory | its path in the layers; a moved one is always known |
//! | a lower file | its names in the layers |
//! | a lower file that was renamed, or one that only the upper has | [`Homes`]: the directories that have it |
//!
//! A generation tells apart what has the same number at different times: the layer's key of a lower inode, the file handle
//! that the disk gives of one that only the upper has.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::Union;
use super::errno::{Errno, FsResult};
use super::tree::Tree;
use super::types::{Attr, Ino};
use super::upper::Spot;
use crate::index::Kind;
use crate::sys;

/// Which directories of the upper have an inode, and under how many names. It takes a walk of the upper, so it is made
/// when the first handle needs it, and from then on kept in step.
#[derive(Debug)]
pub(super) struct Homes {
    /// By inode and directory.
    names: BTreeMap<(Ino, Ino), u32>,
    /// Directories that are still to be read.
    unread: Vec<Ino>,
}

/// Lets one walk at a time.
pub(super) type HomesWalk = Mutex<()>;

impl Homes {
    fn new() -> Self {
        Self { names: BTreeMap::new(), unread: vec![Ino::ROOT] }
    }

    /// An inode has one more name in `dir`.
    pub(super) fn add(&mut self, ino: Ino, kind: Kind, dir: Ino) {
        let names = self.names.entry((ino, dir)).or_insert(0);
        *names = names.saturating_add(1);
        // It may have come from a directory that is not read yet into one that is.
        if kind == Kind::Directory && !self.unread.is_empty() {
            self.unread.push(ino);
        }
    }

    /// It has one less.
    pub(super) fn remove(&mut self, ino: Ino, dir: Ino) {
        if let Some(names) = self.names.get_mut(&(ino, dir)) {
            *names = names.saturating_sub(1);
            if *names == 0 {
                self.names.remove(&(ino, dir));
            }
        }
    }

    /// All that a directory has, read now.
    fn read(&mut self, dir: Ino, entries: &[(Ino, Kind)]) {
        for (ino, _) in entries {
            self.names.remove(&(*ino, dir));
        }
        for (ino, kind) in entries {
            let names = self.names.entry((*ino, dir)).or_insert(0);
            *names = names.saturating_add(1);
            if *kind == Kind::Directory {
                self.unread.push(*ino);
            }
        }
    }

    /// The directories that have an inode.
    fn of(&self, ino: Ino) -> Vec<Ino> {
        self.names.range((ino, Ino(0))..=(ino, Ino(u64::MAX))).map(|((_, dir), _)| *dir).collect()
    }
}

impl Union {
    /// Finds an inode by its number, or the directory that a directory is in, and counts one reference.
    pub(super) fn lookup_number(&self, ino: Ino, parent: bool) -> FsResult<Attr> {
        let find = || match self.find_number(&mut self.tree.write(), ino, parent) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Err(Errno::ESTALE),
            found => found,
        };
        if let Some(attr) = find()? {
            return Ok(attr);
        }
        self.read_homes()?;
        find()?.ok_or(Errno::ESTALE)
    }

    /// `None` if only [`Homes`] can tell, or it has no name.
    fn find_number(&self, tree: &mut Tree, ino: Ino, parent: bool) -> FsResult<Option<Attr>> {
        if !self.learn_number(tree, ino)? {
            self.settle(tree, ino);
            return Ok(None);
        }
        let is_known = |node: &super::tree::Node| node.generation.is_some();
        if self.lowers.generation(ino).is_none() && !tree.nodes.get(&ino).is_some_and(is_known) {
            self.settle(tree, ino);
            return Err(Errno::ESTALE);
        }
        let ino = if parent { self.parent(tree, ino)? } else { ino };
        let attr = self.attr(tree, ino)?;
        self.references.add(ino);
        Ok(Some(attr))
    }

    /// Makes the inode of a number known, if it is an upper one; false if no name of it was found.
    fn learn_number(&self, tree: &mut Tree, ino: Ino) -> FsResult<bool> {
        if self.has_found_name(tree, ino)? {
            return Ok(true);
        }
        for dir in tree.homes.as_ref().map(|homes| homes.of(ino)).unwrap_or_default() {
            if self.learn_directory(tree, dir)? && self.learn_in(tree, dir, ino)? {
                return Ok(true);
            }
            self.settle(tree, dir);
        }
        Ok(false)
    }

    /// Makes the inode of a number known if that takes no [`Homes`]; false if no name of it was found.
    fn has_found_name(&self, tree: &mut Tree, ino: Ino) -> FsResult<bool> {
        if ino == Ino::ROOT {
            return Ok(true);
        }
        if tree.gone.contains(&ino) {
            return Err(Errno::ESTALE);
        }
        if let Some(node) = tree.nodes.get(&ino) {
            // Of several names the last known one may have gone.
            return Ok(!node.names.is_empty());
        }
        if self.lowers.is_directory(ino) {
            let dir = self.lowers.dir(ino).ok_or(Errno::ESTALE)?;
            return if self.is_alive(tree, &dir)? { Ok(true) } else { Err(Errno::ESTALE) };
        }
        if self.lowers.place(ino).is_some() && !self.union_names(tree, ino)?.is_empty() {
            return Ok(true);
        }
        if self.upper.is_none() { Err(Errno::ESTALE) } else { Ok(false) }
    }

    /// Makes a directory known, and all that it is in.
    fn learn_directory(&self, tree: &mut Tree, dir: Ino) -> FsResult<bool> {
        let (mut below, mut at) = (Vec::new(), dir);
        while !self.has_found_name(tree, at)? {
            let homes = tree.homes.as_ref().ok_or(Errno::ESTALE)?;
            let Some(parent) = homes.of(at).first().copied() else { return Ok(false) };
            if below.len() > homes.names.len() {
                return Err(Errno::EIO);
            }
            below.push(at);
            at = parent;
        }
        while let Some(child) = below.pop() {
            if !self.learn_in(tree, at, child)? {
                return Ok(false);
            }
            at = child;
        }
        Ok(true)
    }

    /// Makes the inode of a number known that a directory of the upper has.
    fn learn_in(&self, tree: &mut Tree, dir: Ino, ino: Ino) -> FsResult<bool> {
        if !self.view(tree, dir)?.upper {
            return Ok(false);
        }
        let name = self.load(tree, dir)?.iter().find(|(_, entry)| entry.ino == ino).map(|(name, _)| name.to_vec());
        match name {
            Some(name) => Ok(self.find(tree, dir, &name)?.is_some_and(|found| found.ino == ino)),
            None => Ok(false),
        }
    }

    /// Walks the upper, unless it was done before. Other requests go on between two directories.
    fn read_homes(&self) -> FsResult<()> {
        let _one = self.homes_walk.lock();
        self.tree.write().homes.get_or_insert_with(Homes::new);
        loop {
            let mut tree = self.tree.write();
            let next = tree.homes.as_mut().and_then(|homes| homes.unread.pop());
            let Some(dir) = next else { return Ok(()) };
            match self.read_home(&mut tree, dir) {
                // It has gone, or it never was where it was seen.
                Ok(()) | Err(Errno::ESTALE | Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(error) => {
                    // The next handle goes on here.
                    tree.homes.iter_mut().for_each(|homes| homes.unread.push(dir));
                    return Err(error);
                }
            }
        }
    }

    fn read_home(&self, tree: &mut Tree, dir: Ino) -> FsResult<()> {
        if self.learn_directory(tree, dir)? && self.view(tree, dir)?.upper {
            let entries: Vec<_> = self.load(tree, dir)?.iter().map(|(_, entry)| (entry.ino, entry.kind)).collect();
            tree.homes.iter_mut().for_each(|homes| homes.read(dir, &entries));
        }
        self.settle(tree, dir);
        Ok(())
    }

    /// The generation of an inode that only the upper has; `None` where the file system cannot tell, and a handle of it is
    /// stale once the kernel has forgotten the inode.
    pub(super) fn upper_generation(spot: &Spot) -> FsResult<Option<u32>> {
        let handle = match spot {
            Spot::Named(dir, name) => sys::file_handle(std::os::fd::AsFd::as_fd(dir), name)?,
            Spot::Open(file) => sys::file_handle(std::os::fd::AsFd::as_fd(file), b"")?,
        };
        Ok(handle.map(|handle| crc32(&handle)))
    }
}

/// CRC-32 (IEEE 802.3). Two handles of one inode number differ in a generation of 32 bits, which it always tells apart.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_ne!(crc32(&[1, 0, 0, 0, 7, 0, 0, 0]), crc32(&[1, 0, 0, 0, 8, 0, 0, 0]));
    }

    #[test]
    fn homes_are_counted_by_name() {
        let (dir, other, file) = (Ino(2), Ino(3), Ino(9));
        let mut homes = Homes::new();
        // Seen while the walk has not come to the directory yet, and then again by the walk.
        homes.add(file, Kind::File, dir);
        assert_eq!(homes.unread.pop(), Some(Ino::ROOT));
        homes.read(dir, &[(file, Kind::File), (file, Kind::File), (other, Kind::Directory)]);
        assert_eq!(homes.unread, [other]);
        homes.add(file, Kind::File, other);
        homes.remove(file, dir);
        assert_eq!(homes.of(file), [dir, other]);
        homes.remove(file, dir);
        homes.remove(file, dir);
        assert_eq!(homes.of(file), [other]);
        homes.remove(file, other);
        assert!(homes.of(file).is_empty());
    }
}
