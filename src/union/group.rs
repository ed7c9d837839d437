//! The copy-up of a file of several names: the copy gets all of them, or none.
//!
//! It gets its names out of the link journal, one by one, and leaves that at the end. What fails on the way is undone at
//! once. If that fails too, the names that it has got so far are not shown, the next change that is made anywhere
//! in the union undoes them first, and no change is made before that; or the next union that opens the directory ends
//! what was begun ([`Union::finish_groups`]). No program's data have come to the copy until then.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::AtFlags;
use rustix::io::Errno as Raw;

use super::Union;
use super::copy_up::named;
use super::disk_dir::{open_directory, read_directory, remove_tree};
use super::errno::{Errno, FsResult};
use super::tree::Tree;
use super::types::Ino;
use super::upper::{Mark, Spot, Upper, parse_origin, preserving_times};
use crate::index::Kind;
use crate::sys::call;
use crate::whiteout;

/// What the names in the journal begin with. Those of earlier versions lack it: what is left under such a one may have
/// been written to, and is never undone.
const JOURNALLED: &str = "g";

impl Union {
    /// Gives the finished copy at `temporary` these names.
    pub(super) fn name_group(
        &self,
        tree: &mut Tree,
        ino: Ino,
        temporary: &[u8],
        names: &[(Ino, Vec<u8>)],
    ) -> FsResult<()> {
        let upper = self.upper()?;
        let links = Self::unseen(tree, Ino::ROOT, upper.root.as_fd(), || upper.private(whiteout::LINKS))?;
        let journalled = journalled(ino);
        let disk = named(upper.work()?, temporary)?.stat()?.st_ino;
        call::renameat(upper.work()?, temporary, &links, &*journalled)?;
        let done = self.link_all(tree, &links, &journalled, names);
        done.inspect_err(|_| {
            // error: it is undone later, and the first error is told.
            if self.undo_group(tree, ino).is_err() {
                tree.unfinished.insert(ino, disk);
            }
        })
    }

    /// Gives a copy in the journal its names, and takes it out.
    fn link_all(&self, tree: &mut Tree, links: &OwnedFd, journalled: &[u8], names: &[(Ino, Vec<u8>)]) -> FsResult<()> {
        let copy = named(links, journalled)?;
        for (parent, name) in names {
            self.copy_up_parent(tree, *parent)?;
            let dir = self.upper_dir(tree, *parent)?;
            self.mark_impure(tree, *parent)?;
            let link = || match call::linkat(links, journalled, &dir, &**name, AtFlags::empty()) {
                Err(Raw::EXIST) if is_same(&copy, &Spot::Named(dir.clone(), (&**name).into()))? => Ok(()),
                done => Ok(done?),
            };
            Self::unseen(tree, *parent, dir.as_fd(), || preserving_times(dir.as_fd(), link))?;
        }
        Ok(call::unlinkat(links, journalled, AtFlags::empty())?)
    }

    /// Takes all names from a copy in the journal, and then the copy itself away.
    fn undo_group(&self, tree: &mut Tree, ino: Ino) -> FsResult<()> {
        let links = self.upper()?.private(whiteout::LINKS)?;
        let copy = named(&links, &journalled(ino))?;
        for (dir, name) in self.lowers.visible_names(ino) {
            if !self.is_alive(tree, &dir)? || !tree.nodes.contains_key(&dir.ino) {
                continue;
            }
            let dir = self.upper_dir(tree, dir.ino)?;
            if is_same(&copy, &Spot::Named(dir.clone(), (&*name).into()))? {
                preserving_times(dir.as_fd(), || Ok(call::unlinkat(&dir, &*name, AtFlags::empty())?))?;
            }
        }
        match call::unlinkat(&links, &*journalled(ino), AtFlags::empty()) {
            Ok(()) | Err(Raw::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Undoes what could not be undone before. To be called before anything is changed.
    pub(super) fn undo_unfinished(&self, tree: &mut Tree) -> FsResult<()> {
        while let Some(ino) = tree.unfinished.keys().next().copied() {
            self.undo_group(tree, ino)?;
            tree.unfinished.remove(&ino);
        }
        Ok(())
    }

    /// Gives the copies that the last union has left in the journal all their names; where that cannot be, none.
    pub(super) fn finish_groups(&self, tree: &mut Tree, upper: &Upper) -> FsResult<()> {
        let links = match open_directory(upper.root.as_fd(), whiteout::LINKS) {
            Err(Errno::ENOENT) => return Ok(()),
            links => links?,
        };
        for entry in read_directory(links.as_fd())?.entries {
            let undoable = ino_of(&entry.name);
            match (self.journalled_origin(upper, &named(&links, &entry.name)?)?, undoable) {
                (Some(ino), undoable) => {
                    let names = self.union_names(tree, ino)?;
                    match (self.link_all(tree, &links, &entry.name, &names), undoable) {
                        (Err(_), Some(ino)) => self.undo_group(tree, ino)?,
                        (done, _) => done?,
                    }
                    for (parent, _) in names {
                        tree.drop_listing(parent);
                    }
                }
                // The file system has no place for marks, or these are not the lowers that it was made over.
                (None, Some(ino)) => self.undo_group(tree, ino)?,
                (None, None) => remove_tree(links.as_fd(), &entry.name)?,
            }
        }
        Ok(())
    }

    /// The lower inode that a file in the link journal is a copy of.
    fn journalled_origin(&self, upper: &Upper, spot: &Spot) -> FsResult<Option<Ino>> {
        let Some(text) = upper.mark(spot, Mark::Origin)? else { return Ok(None) };
        Ok(parse_origin(&text).and_then(|_| self.origin(&text, Kind::File)))
    }
}

/// Whether a name is there and is one of this file's.
fn is_same(file: &Spot, name: &Spot) -> FsResult<bool> {
    match name.stat() {
        Ok(there) => {
            let file = match file.stat() {
                Err(Errno::ENOENT) => return Ok(false),
                file => file?,
            };
            Ok((there.st_dev, there.st_ino) == (file.st_dev, file.st_ino))
        }
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn journalled(ino: Ino) -> Vec<u8> {
    format!("{JOURNALLED}{:x}", ino.0).into_bytes()
}

fn ino_of(journalled: &[u8]) -> Option<Ino> {
    let digits = std::str::from_utf8(journalled).ok()?.strip_prefix(JOURNALLED)?;
    u64::from_str_radix(digits, 16).ok().map(Ino)
}
