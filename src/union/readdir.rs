//! Reading a directory: first the names that the lowers have, in their order, then those that only the
//! upper has.
//!
//! A name's place never changes while others come and go, and needs no open directory: a lower name's is
//! its position in the merged directory, an upper name's the hash of the name.

use super::Union;
use super::errno::{Errno, FsResult};
use super::lookup::{Found, View};
use super::tree::Tree;
use super::types::{DirEntry, Ino};
use crate::index::Kind;

/// Places from here on are those of names that only the upper has.
const UPPER_NAMES: u64 = 1 << 62;
/// The place after `..`, where the lower names begin.
const LOWER_NAMES: u64 = 2;
/// So many entries are looked up at a time.
const BATCH: usize = 512;

/// Takes one entry, or answers false for one that no longer fits.
type Take<'a> = &'a mut dyn FnMut(&DirEntry<'_>) -> bool;

/// An entry whose attributes are still to be found.
struct Listed {
    name: Vec<u8>,
    found: Found,
    next: u64,
}

/// How far a look at a directory came.
#[derive(PartialEq, Eq)]
enum Reached {
    /// Its end, or the reader has had enough.
    Done,
    /// Something that has to be read or counted first.
    Unknown,
}

impl Union {
    /// Gives the entries after `offset` (0 for the first, then [`DirEntry::next`]) to `take`, until it answers
    /// false for one that it did not take. With `plus`, entries come with their attributes, and each that is
    /// taken but `.` and `..` counts one reference.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn readdir(&self, ino: Ino, offset: u64, plus: bool, take: Take<'_>) -> FsResult<()> {
        let mut at = offset;
        {
            let tree = self.tree.read();
            if tree.gone.contains(&ino) {
                return Ok(());
            }
            let view = self.view(&tree, ino)?;
            if !self.read_dots(&tree, ino, &mut at, take)? {
                return Ok(());
            }
            if !view.upper && self.read_lower(&tree, &view, &mut at, plus, take)? == Reached::Done {
                return Ok(());
            }
        }
        let mut tree = self.tree.write();
        loop {
            let batch = self.list(&mut tree, ino, at)?;
            if batch.is_empty() {
                return Ok(());
            }
            for Listed { name, found, next } in batch {
                let attr = if plus {
                    // Makes an upper inode known.
                    self.find(&mut tree, ino, &name)?;
                    Some(self.attr(&mut tree, found.ino)?)
                } else {
                    None
                };
                if !take(&DirEntry { name: &name, ino: found.ino, kind: found.kind, next, attr }) {
                    self.settle(&mut tree, found.ino);
                    return Ok(());
                }
                if plus {
                    self.references.add(found.ino);
                }
                at = next;
            }
        }
    }

    fn read_dots(&self, tree: &Tree, ino: Ino, at: &mut u64, take: Take<'_>) -> FsResult<bool> {
        for (place, name) in [(0, &b"."[..]), (1, b"..")] {
            if *at != place {
                continue;
            }
            let dots = if place == 0 { ino } else { self.parent(tree, ino)? };
            if !take(&DirEntry { name, ino: dots, kind: Kind::Directory, next: place + 1, attr: None }) {
                return Ok(false);
            }
            *at = place + 1;
        }
        Ok(true)
    }

    /// Reads a directory that the upper does not have.
    fn read_lower(&self, tree: &Tree, view: &View, at: &mut u64, plus: bool, take: Take<'_>) -> FsResult<Reached> {
        let Some(lower) = &view.lower else { return Ok(Reached::Done) };
        let Some(first) = position(*at) else { return Ok(Reached::Done) };
        let mut reached = Reached::Done;
        self.lowers.for_each_child(lower, first, &mut |number, name, child| {
            let attr = if plus { self.attr_known(tree, child.ino)? } else { None };
            if plus && attr.is_none() {
                reached = Reached::Unknown;
                return Ok(false);
            }
            let next = place_after(number);
            if !take(&DirEntry { name, ino: child.ino, kind: child.kind, next, attr }) {
                return Ok(false);
            }
            if plus {
                self.references.add(child.ino);
            }
            *at = next;
            Ok(true)
        })?;
        Ok(reached)
    }

    /// The next entries of a directory.
    fn list(&self, tree: &mut Tree, ino: Ino, at: u64) -> FsResult<Vec<Listed>> {
        let view = self.view(tree, ino)?;
        let listing = if view.upper { Some(&*self.load(tree, ino)?) } else { None };
        let mut batch = Vec::new();
        if let (Some(lower), Some(first)) = (&view.lower, position(at)) {
            self.lowers.for_each_child(lower, first, &mut |number, name, child| {
                let upper = listing.and_then(|listing| listing.get(self.names.of(name), name));
                let hidden = listing.is_some_and(|listing| listing.whiteouts.contains(name));
                let found = match upper {
                    Some(entry) => Some(entry.into()),
                    None => (!hidden).then(|| child.into()),
                };
                if let Some(found) = found {
                    batch.push(Listed { name: name.to_vec(), found, next: place_after(number) });
                }
                Ok(batch.len() < BATCH)
            })?;
        }
        let Some(listing) = listing else { return Ok(batch) };
        for (hash, name, entry) in listing.after(at.saturating_sub(UPPER_NAMES)) {
            if batch.len() >= BATCH {
                break;
            }
            let below = view.lower.as_ref().and_then(|lower| self.lowers.child(lower, name));
            if below.is_none() {
                let next = UPPER_NAMES.checked_add(hash).ok_or(Errno::EIO)?;
                batch.push(Listed { name: name.to_vec(), found: entry.into(), next });
            }
        }
        Ok(batch)
    }
}

/// The position among the lower names at which reading goes on; `None` when it is past them.
fn position(at: u64) -> Option<u32> {
    u32::try_from(at.saturating_sub(LOWER_NAMES)).ok()
}

fn place_after(position: u32) -> u64 {
    u64::from(position) + 1 + LOWER_NAMES
}
