//! A layer's directory becomes what its index says again, with what was unpacked anew beside it.
//!
//! Each file is put into place by one rename, so that it is the old one or the new one at every moment, and what was
//! there before is moved aside, never written to: a program that has it open keeps the old file. No link is followed. What
//! cannot be put right whole is left as it is.

mod description;
mod kept_times;
mod names;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::{Errno, Result};

use kept_times::KeptTimes;

use super::difference::{Change, Difference, joined};
use super::disk::Walk;
use super::path_filter::{PathFilter, path_and_above};
use super::{Failure, Modes};
use crate::index::{Child, Index, Kind, Node, NodeId};
use crate::sys::{call, is_want};
use crate::whiteout;

const BUFFER: usize = 256 << 10;

/// Mends one layer's directory.
pub struct Mend<'a> {
    index: &'a Index,
    walk: Walk,
    staged: Walk,
    aside: BorrowedFd<'a>,
    wanted: &'a PathFilter,
    modes: Modes,
    /// Names given in `aside` so far.
    made: u64,
    /// Of files with several names: the good one, of which all others were made names; `None` when there is none.
    good: HashMap<NodeId, Option<Good>>,
    /// The times that directories of the layer had before something in them was changed.
    times: KeptTimes,
}

/// The device and number of a file.
type Inode = (u64, u64);

/// A name at which a file is as it should be.
#[derive(Clone, PartialEq, Eq)]
struct Good {
    path: Vec<u8>,
    inode: Inode,
}

impl std::fmt::Debug for Mend<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mend").field("index", self.index).finish_non_exhaustive()
    }
}

/// What stands at a path of the layer.
enum Entry<'a> {
    Node(NodeId, Node<'a>),
    /// A whiteout or the mark of an opaque directory.
    Marker,
}

fn split(path: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let name = parts.pop().filter(|name| !name.is_empty())?;
    Some((name, parts))
}

impl<'a> Mend<'a> {
    /// Of the directory `dir`, from the directory `staged` which the same tar was unpacked into: the content of the
    /// files that are `wanted` is in it, and all have the `modes` of the store. What is replaced goes into `aside`, all on one file system.
    ///
    /// # Errors
    /// When the directories cannot be opened.
    pub fn new(
        index: &'a Index,
        dir: BorrowedFd<'_>,
        staged: BorrowedFd<'_>,
        aside: BorrowedFd<'a>,
        wanted: &'a PathFilter,
        modes: Modes,
    ) -> std::result::Result<Self, Failure> {
        let failed = |error| Failure::write("open", b"", error);
        let (walk, staged) = (Walk::new(dir).map_err(failed)?, Walk::new(staged).map_err(failed)?);
        Ok(Self {
            index,
            walk,
            staged,
            aside,
            wanted,
            modes,
            made: 0,
            good: HashMap::new(),
            times: KeptTimes::default(),
        })
    }

    /// Takes away what is not in the layer, and puts what is missing or something else in its place. Gives the
    /// paths at which it could do something.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put(&mut self, differences: &[Difference]) -> std::result::Result<BTreeSet<Vec<u8>>, Failure> {
        // Taken twice it would be the old one again.
        let mut done = BTreeSet::new();
        self.each(differences, |mend, difference| {
            let Some((name, dirs)) = split(&difference.path) else { return Ok(false) };
            let is_done = path_and_above(&difference.path).any(|path| done.contains(path));
            let is_mended = match difference.change {
                Change::Extra => mend.set_aside(&dirs, name),
                Change::Mode | Change::Owner | Change::Time | Change::Xattr => Ok(false),
                _ if is_done => Ok(false),
                _ => mend.restore(&difference.path),
            }?;
            if is_mended {
                done.insert(difference.path.clone());
            }
            Ok(is_mended)
        })?;
        Ok(done)
    }

    /// Takes all content whose digest is not known from what was unpacked.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put_what_has_no_digest(&mut self) -> std::result::Result<(), Failure> {
        for id in (0..self.index.node_count()).map(NodeId) {
            let Some(node) = self.index.node(id) else { continue };
            let has_content = node.meta().is_some_and(|meta| meta.kind == Kind::File && meta.size > 0);
            if has_content
                && node.digest().is_none()
                && let Some(path) = self.index.path(id).map(|path| path.join(&b'/'))
            {
                self.restore(&path).map_err(|error| Failure::write("restore", &path, error))?;
            }
        }
        let failed = |error| Failure::write("restore", whiteout::DUPLICATES, error);
        let (from, to) = (self.staged.open(&[]).map_err(failed)?, self.open_to_change(&[]).map_err(failed)?);
        match self.place(from.as_fd(), whiteout::DUPLICATES, &to, whiteout::DUPLICATES) {
            Err(Errno::NOENT) => self.set_aside(&[], whiteout::DUPLICATES).map(drop),
            placed => placed,
        }
        .map_err(failed)?;
        self.staged.forget();
        Ok(())
    }

    fn each(
        &mut self,
        differences: &[Difference],
        mut mend: impl FnMut(&mut Self, &Difference) -> Result<bool>,
    ) -> std::result::Result<usize, Failure> {
        let mut count = 0usize;
        for difference in differences {
            match mend(self, difference) {
                Ok(is_mended) => count = count.saturating_add(usize::from(is_mended)),
                // Something on the way is no directory: that must be put right first, and it is a difference too.
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
                Err(error) => return Err(Failure::write("restore", &difference.path, error)),
            }
        }
        Ok(count)
    }

    fn entry(&self, path: &[u8]) -> Option<Entry<'a>> {
        let (name, dirs) = split(path)?;
        let mut parent = NodeId::ROOT;
        for part in dirs {
            parent = match self.index.lookup(parent, part)? {
                Child::Node(id) => id,
                Child::Whiteout => return None,
            };
        }
        match self.index.lookup(parent, name) {
            Some(Child::Node(id)) => Some(Entry::Node(id, self.index.node(id)?)),
            _ => whiteout::is_reserved(name).then_some(Entry::Marker),
        }
    }

    /// Whether what was unpacked has all of this.
    fn can_be_restored(&self, path: &[u8], id: NodeId) -> bool {
        let mut todo = vec![(path.to_vec(), id)];
        while let Some((path, id)) = todo.pop() {
            let Some(meta) = self.index.node(id).and_then(|node| node.meta()) else { return false };
            match meta.kind {
                Kind::File if meta.size > 0 && !self.wanted.has(&path) => return false,
                Kind::Directory => {
                    let children = self.index.children(id).filter_map(|child| match child.target {
                        Child::Node(id) => Some((joined(&[&path], child.name), id)),
                        Child::Whiteout => None,
                    });
                    todo.extend(children);
                }
                _ => {}
            }
        }
        true
    }

    fn restore(&mut self, path: &[u8]) -> Result<bool> {
        let (id, node) = match self.entry(path) {
            None => return Ok(false),
            Some(Entry::Marker) => return self.take(path).map(|()| true),
            Some(Entry::Node(id, node)) => (id, node),
        };
        if node.kind() == Some(Kind::Directory) {
            if !self.can_be_restored(path, id) {
                return Ok(false);
            }
            return self.restore_tree(path, id).map(|()| true);
        }
        if self.index.names(id).nth(1).is_none() {
            let can_be = self.can_be_restored(path, id);
            return if can_be { self.take(path).map(|()| true) } else { Ok(false) };
        }
        let known = self.good.get(&id).cloned();
        // Its directory may have been put aside.
        if let Some(Some(good)) = &known
            && is_still(self.inode(&good.path), good.inode)?
        {
            return self.link(good, path).map(|()| true);
        }
        let names = self.paths(id);
        let good = if known == Some(None) { None } else { self.good_name(&names, &node)? };
        let good = match good {
            Some(good) => good,
            None if !self.can_be_restored(path, id) => {
                self.good.insert(id, None);
                return Ok(false);
            }
            None => {
                self.take(path)?;
                Good { path: path.to_vec(), inode: self.inode(path)? }
            }
        };
        for other in names.iter().filter(|other| **other != good.path) {
            match self.link(&good, other) {
                // Its directory is to be put right first.
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
                linked => linked?,
            }
        }
        self.good.insert(id, Some(good));
        Ok(true)
    }

    /// Makes a directory with all that is in it.
    fn restore_tree(&mut self, path: &[u8], id: NodeId) -> Result<()> {
        let mut todo = vec![(path.to_vec(), id)];
        while let Some((path, id)) = todo.pop() {
            let Some(node) = self.index.node(id) else { continue };
            if node.kind() != Some(Kind::Directory) {
                self.restore(&path)?;
                continue;
            }
            let Some((name, dirs)) = split(&path) else { continue };
            let new = self.new_name();
            call::mkdirat(self.aside, &*new, Mode::RWXU)?;
            let dir = self.open_to_change(&dirs)?;
            // The new one is to have the times of the one that was there.
            // error: of a damaged directory there is no time to keep
            if let Some(stat) = readable(call::statat(&*dir, name, AtFlags::SYMLINK_NOFOLLOW))?
                && Kind::from_mode(stat.st_mode) == Some(Kind::Directory)
            {
                self.times.keep(path.clone(), &stat);
            }
            self.place(self.aside, &new, &dir, name)?;
            if node.is_opaque() {
                self.take_if_there(&joined(&[&path], whiteout::OPAQUE))?;
            }
            for child in self.index.children(id) {
                // What is in the layer may have a whiteout beside it.
                self.take_if_there(&joined(&[&path], &whiteout::on_disk(child.name).0))?;
                if let Child::Node(id) = child.target {
                    todo.push((joined(&[&path], child.name), id));
                }
            }
        }
        Ok(())
    }

    /// Puts what was unpacked at `path` there.
    fn take(&mut self, path: &[u8]) -> Result<()> {
        let (name, dirs) = split(path).ok_or(Errno::INVAL)?;
        let (from, to) = (self.staged.open(&dirs)?, self.open_to_change(&dirs)?);
        self.place(from.as_fd(), name, &to, name)
    }

    /// As [`Mend::take`], of a mark that another one may stand for.
    fn take_if_there(&mut self, path: &[u8]) -> Result<()> {
        match self.take(path) {
            Err(Errno::NOENT) => Ok(()),
            taken => taken,
        }
    }

    /// Makes `path` one more name of the file at `good`.
    fn link(&mut self, good: &Good, path: &[u8]) -> Result<()> {
        let ((from_name, from), (name, to)) = split(&good.path).zip(split(path)).ok_or(Errno::INVAL)?;
        let from: Rc<OwnedFd> = self.walk.open(&from)?;
        let to = self.open_to_change(&to)?;
        let there = call::statat(&*to, name, AtFlags::SYMLINK_NOFOLLOW);
        // A rename between two names of one file does nothing, and would leave a name behind.
        if is_still(there.map(|stat| (stat.st_dev, stat.st_ino)), good.inode)? {
            return Ok(());
        }
        let new = self.new_name();
        call::linkat(&*from, from_name, self.aside, &*new, AtFlags::empty())?;
        self.place(self.aside, &new, &to, name)
    }

    fn new_name(&mut self) -> Vec<u8> {
        self.made = self.made.saturating_add(1);
        format!("mend.{}", self.made).into_bytes()
    }

    fn set_aside(&mut self, dirs: &[&[u8]], name: &[u8]) -> Result<bool> {
        let dir = self.open_to_change(dirs)?;
        let new = self.new_name();
        self.walk.forget();
        match call::renameat(&*dir, name, self.aside, &*new) {
            Err(Errno::NOENT) => Ok(false),
            moved => moved.map(|()| true),
        }
    }

    /// Moves something to where it belongs. What was there is where it was, or aside.
    fn place(&mut self, from: BorrowedFd<'_>, from_name: &[u8], to: &OwnedFd, name: &[u8]) -> Result<()> {
        match call::renameat_with(from, from_name, to, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {}
            moved => return moved,
        }
        self.walk.forget();
        match call::renameat_with(from, from_name, to, name, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            moved => return moved,
        }
        // A file system that cannot exchange two names.
        match call::renameat(from, from_name, to, name) {
            Err(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                let old = self.new_name();
                call::renameat(to, name, self.aside, &*old)?;
                call::renameat(from, from_name, to, name)
            }
            moved => moved,
        }
    }
}
/// What could be read; `None` where what is there is damaged: not there, of another kind, or lost by the disk.
fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_want(error) => Err(error),
        // error: a damaged file is what is to be mended
        Err(_) => Ok(None),
    }
}

/// Whether a path is still the file that it was.
fn is_still(found: Result<(u64, u64)>, was: (u64, u64)) -> Result<bool> {
    match found {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
        found => Ok(found? == was),
    }
}
