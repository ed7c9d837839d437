//! Rename: files, and directories that live below or are merged, onto anything.
//!
//! A directory keeps its lower part by a mark that names it, so nothing below it is copied. A directory
//! that has none is made opaque before it comes to a place where it would find one. All marks and
//! whiteouts are written before the one rename that counts, and mean nothing until then.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::RenameFlags;

use super::copy_up::{make_node, named};
use super::disk_dir::remove_tree;
use super::errno::{Errno, FsResult};
use super::lookup::{Found, upper_ino};
use super::tree::{Node, Tree, UpperEntry};
use super::types::{Ino, RenameMode};
use super::upper::{Mark, Spot};
use super::{Union, check_name, check_new_name};
use crate::index::{Kind, Meta};
use crate::sys::call;

/// A name in a directory.
pub(super) type Place<'a> = (Ino, &'a [u8]);

impl Union {
    /// Gives what is at `from` the name `to`.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST` for [`RenameMode::NoReplace`], `ENOTEMPTY`, `EISDIR`, `ENOTDIR`; `EPERM` for a name
    /// that starts with `.wh.`; `EXDEV` for a directory of the lowers when the upper's file system cannot keep
    /// extended attributes, and for one that is a mount point only.
    pub fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> FsResult<()> {
        self.upper()?;
        check_name(from.1)?;
        check_new_name(to.1)?;
        loop {
            let mut tree = self.tree.write();
            let source = self.find(&mut tree, from.0, from.1)?.ok_or(Errno::ENOENT)?;
            let target = self.find(&mut tree, to.0, to.1)?;
            match (mode, target) {
                (RenameMode::NoReplace, Some(_)) => return Err(Errno::EEXIST),
                (RenameMode::Exchange, None) => return Err(Errno::ENOENT),
                (_, Some(target)) if target.ino == source.ino => return Ok(()),
                _ => {}
            }
            let both = [Some(source), target.filter(|_| mode == RenameMode::Exchange)];
            // A mark would have to name it, and other unions of these layers do not have it.
            if both.iter().flatten().any(|found| found.kind == Kind::Directory && found.ino.is_mount_point()) {
                return Err(Errno::EXDEV);
            }
            let below = both.into_iter().flatten().find(|found| !found.upper);
            if let Some(found) = below {
                drop(tree);
                // Without the lock: this may copy data. Then look again.
                self.copy_up(found.ino)?;
                continue;
            }
            return match (mode, target) {
                (RenameMode::Exchange, Some(target)) => self.exchange(&mut tree, from, source, to, target),
                _ => self.replace(&mut tree, from, source, to, target, mode),
            };
        }
    }

    fn replace(
        &self,
        tree: &mut Tree,
        from: Place<'_>,
        source: Found,
        to: Place<'_>,
        target: Option<Found>,
        mode: RenameMode,
    ) -> FsResult<()> {
        if let Some(target) = target {
            match (source.kind, target.kind) {
                (Kind::Directory, Kind::Directory) => self.check_empty(tree, target)?,
                (Kind::Directory, _) => return Err(Errno::ENOTDIR),
                (_, Kind::Directory) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
        self.copy_up_parent(tree, from.0)?;
        self.copy_up_parent(tree, to.0)?;
        self.prepare_move(tree, source, to)?;
        let (from_dir, to_dir) = (self.upper_dir(tree, from.0)?, self.upper_dir(tree, to.0)?);
        let markers = match target {
            Some(Found { ino, kind: Kind::Directory, upper: true }) => {
                let listing = self.load(tree, ino)?;
                listing.opaque || !listing.whiteouts.is_empty()
            }
            _ => false,
        };
        // The device takes the place of a whiteout, in the same step where that is possible.
        let leaves_device = mode == RenameMode::Whiteout;
        if !leaves_device || markers {
            self.hide(tree, from.0, from.1)?;
        }
        if let Some(target) = target.filter(|target| target.upper) {
            self.detach(tree, target.ino, to.0, to.1)?;
        }
        if markers {
            self.replace_marked(tree, from, to, (&from_dir, &to_dir))?;
        } else {
            let flags = if leaves_device { RenameFlags::WHITEOUT } else { RenameFlags::empty() };
            call::renameat_with(&from_dir, from.1, &to_dir, to.1, flags)?;
        }
        self.moved(tree, from, source, to, &to_dir)?;
        if let Some(target) = target {
            if target.kind == Kind::Directory {
                tree.gone.insert(target.ino);
                if let Some(listing) = tree.listing_mut(to.0) {
                    listing.nlink = None;
                }
            } else if !target.upper {
                self.lower_lost_name(tree, target.ino)?;
            }
            self.settle(tree, target.ino);
        }
        if leaves_device {
            if markers {
                let meta = Meta { kind: Kind::CharDevice, mode: 0, ..Meta::implied_directory() };
                make_node(from_dir.as_fd(), from.1, &meta)?;
            }
            match named(&from_dir, from.1).and_then(|device| Ok((device.stat()?, Self::upper_generation(&device)?))) {
                Ok((stat, generation)) => {
                    let ino = upper_ino(stat.st_ino);
                    tree.nodes.insert(ino, Node { generation, ..Node::new(Kind::CharDevice) });
                    self.enter(tree, from.0, from.1, UpperEntry { ino, kind: Kind::CharDevice }, &from_dir)?;
                    self.settle(tree, ino);
                }
                // error: all is done, and the directory is read again when it is next asked for.
                Err(_) => tree.drop_listing(from.0),
            }
        }
        Ok(())
    }

    /// Replaces a directory that shows nothing but holds markers, which `rename(2)` would not: the two
    /// change places, and then the old one goes. Its mark says where it is to be found if that is cut
    /// short.
    fn replace_marked(
        &self,
        tree: &mut Tree,
        from: Place<'_>,
        to: Place<'_>,
        (from_dir, to_dir): (&OwnedFd, &OwnedFd),
    ) -> FsResult<()> {
        let upper = self.upper()?;
        let old = Spot::Named(self.upper_dir(tree, to.0)?, to.1.into());
        if upper.has_marks() {
            upper.set_mark(&old, Mark::Discard, &discard_text(from_dir, from.1)?)?;
        }
        let disk = old.stat()?.st_ino;
        let exchange = || call::renameat_with(from_dir, from.1, to_dir, to.1, RenameFlags::EXCHANGE);
        exchange()?;
        let temporary = upper.temporary();
        if let Err(error) = call::renameat(from_dir, from.1, upper.work()?, &*temporary) {
            // Back, and nothing has happened. If that fails too, the next union takes the old one away.
            return match exchange() {
                Ok(()) => Err(error.into()),
                // error: the rename is done then, and what is left of it is not shown.
                Err(_) => {
                    upper.clean_up(|| Err(error.into()));
                    tree.hidden.insert(disk);
                    Ok(())
                }
            };
        }
        upper.clean_up(|| remove_tree(upper.work()?.as_fd(), &temporary));
        Ok(())
    }

    fn exchange(&self, tree: &mut Tree, from: Place<'_>, source: Found, to: Place<'_>, target: Found) -> FsResult<()> {
        self.copy_up_parent(tree, from.0)?;
        self.copy_up_parent(tree, to.0)?;
        self.prepare_move(tree, source, to)?;
        self.prepare_move(tree, target, from)?;
        let (from_dir, to_dir) = (self.upper_dir(tree, from.0)?, self.upper_dir(tree, to.0)?);
        call::renameat_with(&from_dir, from.1, &to_dir, to.1, RenameFlags::EXCHANGE)?;
        for (found, old, new) in [(source, from, to), (target, to, from)] {
            tree.remove_name(found.ino, old.0, old.1);
            tree.ctimes.moved(found.ino);
            let hash = self.names.of(new.1);
            let entry = UpperEntry { ino: found.ino, kind: found.kind };
            if let Some(homes) = &mut tree.homes {
                homes.add(found.ino, found.kind, new.0);
            }
            if let Some(listing) = tree.listing_mut(new.0) {
                listing.insert(hash, new.1, entry);
            }
            tree.add_name(found.ino, new.0, new.1);
        }
        Ok(())
    }

    /// Writes the marks that an upper inode needs at its new place.
    fn prepare_move(&self, tree: &mut Tree, found: Found, to: Place<'_>) -> FsResult<()> {
        let upper = self.upper()?;
        let from_below = self.lowers.place(found.ino).is_some();
        if from_below && upper.has_marks() {
            self.mark_impure(tree, to.0)?;
        }
        if found.kind != Kind::Directory {
            return Ok(());
        }
        let merged = self.view(tree, found.ino)?.lower;
        let dir = self.upper_dir(tree, found.ino)?;
        if let Some(merged) = merged {
            if !upper.has_marks() {
                return Err(Errno::EXDEV);
            }
            self.set_origin(upper, &Spot::Open(dir), merged.ino)?;
            let root = Spot::Open(upper.root.clone());
            Self::unseen(tree, Ino::ROOT, upper.root.as_fd(), || upper.set_mark(&root, Mark::Moved, b"y"))?;
            if let Some(node) = tree.nodes.get_mut(&found.ino) {
                node.moved = true;
            }
        } else if self.lower_child(tree, to.0, to.1)? == Some(Kind::Directory) && !self.load(tree, found.ino)?.opaque {
            super::upper::preserving_times(dir.as_fd(), || upper.create_opaque(dir.as_fd()))?;
            self.load(tree, found.ino)?.opaque = true;
        }
        Ok(())
    }

    /// Takes note of a rename that is done on disk.
    fn moved(&self, tree: &mut Tree, from: Place<'_>, source: Found, to: Place<'_>, to_dir: &OwnedFd) -> FsResult<()> {
        self.lost(tree, from.0, from.1);
        tree.ctimes.moved(source.ino);
        // The new name first, so that the inode is never without one.
        self.enter(tree, to.0, to.1, UpperEntry { ino: source.ino, kind: source.kind }, to_dir)?;
        tree.remove_name(source.ino, from.0, from.1);
        Ok(())
    }
}

/// The value of a discard mark: the directory is to go when it is found at this place.
pub(super) fn discard_text(dir: &OwnedFd, name: &[u8]) -> FsResult<Vec<u8>> {
    let stat = call::fstat(dir)?;
    Ok([format!("{}/", stat.st_ino).as_bytes(), name].concat())
}

/// Takes a directory out of the way that a cut-short rename left: see [`Union::replace_marked`].
pub(super) fn finish_discard(upper: &super::upper::Upper, dir: &OwnedFd, name: &[u8]) -> FsResult<bool> {
    let spot = super::copy_up::named(dir, name)?;
    let Some(text) = upper.mark(&spot, Mark::Discard)? else { return Ok(false) };
    if text == discard_text(dir, name)? {
        remove_tree(dir.as_fd(), name)?;
        return Ok(true);
    }
    upper.remove_mark(&spot, Mark::Discard)?;
    Ok(false)
}
