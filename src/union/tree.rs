//! What the union remembers of its upper half: nodes, listings, and the references to inodes.
//!
//! A lower inode that nothing has changed needs no memory here at all. All maps but the moved
//! directories shrink again when the kernel forgets.

use std::collections::btree_map::{BTreeMap, Entry as Slot};
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::change_time::ChangeTimes;
use super::handles::Homes;
use super::lowers::LowerDir;
use super::types::Ino;
use crate::index::Kind;

/// An inode of the upper that is known.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The names that are known, each with the directory it is in.
    pub(super) names: Vec<(Ino, Box<[u8]>)>,
    /// Of a directory: the lower directory it is merged with.
    pub(super) lower: Option<Arc<LowerDir>>,
    /// The data are still those of the lower file of this number.
    pub(super) metacopy: bool,
    /// Keeps a file that has no known name.
    pub(super) orphan: Option<Orphan>,
    /// How many known nodes are in this directory.
    pub(super) pins: usize,
    /// It stays known: its lower directory is not found by its name.
    pub(super) moved: bool,
    /// Of a directory: what new entries inherit, when it is known.
    pub(super) inherits: Option<Inherits>,
    /// Of an inode that only the upper has: tells it from others of its number, where the file system can.
    pub(super) generation: Option<u32>,
}

/// What a directory hands on to new entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inherits {
    /// Its group, because it is set-group-id.
    pub(super) group: bool,
    /// A default ACL, which takes the place of the umask.
    pub(super) acl: bool,
}

/// How a file without names is kept.
#[derive(Debug, Clone)]
pub(super) enum Orphan {
    /// By an open descriptor.
    Open(Arc<OwnedFd>),
    /// By a name in the private directory for orphans: there were too many descriptors.
    Parked,
}

impl Node {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            names: Vec::new(),
            lower: None,
            metacopy: false,
            orphan: None,
            pins: 0,
            moved: false,
            inherits: None,
            generation: None,
        }
    }
}

/// One entry of an upper directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UpperEntry {
    pub(super) ino: Ino,
    pub(super) kind: Kind,
}

/// What an upper directory has, kept in step with the disk. Only the union writes there.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By the hash of the name, which is the entry's place when the directory is read.
    entries: BTreeMap<(u64, Box<[u8]>), UpperEntry>,
    pub(super) whiteouts: HashSet<Box<[u8]>>,
    pub(super) opaque: bool,
    /// Some entry has an origin.
    pub(super) impure: bool,
    /// How many names the directory itself has: 2 and its subdirectories, when it is known.
    pub(super) nlink: Option<u32>,
    used: u64,
}

impl Listing {
    /// The listing of a directory that has no entries yet.
    pub(super) fn empty(opaque: bool) -> Self {
        Self { opaque, ..Self::default() }
    }

    pub(super) fn get(&self, hash: u64, name: &[u8]) -> Option<UpperEntry> {
        // Two names of one hash are next to each other.
        self.entries
            .range((hash, Box::default())..)
            .take_while(|((found, _), _)| *found == hash)
            .find(|((_, found), _)| **found == *name)
            .map(|(_, entry)| *entry)
    }

    pub(super) fn insert(&mut self, hash: u64, name: &[u8], entry: UpperEntry) {
        let is_directory = entry.kind == Kind::Directory;
        match self.entries.entry((hash, name.into())) {
            Slot::Occupied(mut slot) => {
                if slot.insert(entry).kind == Kind::Directory || is_directory {
                    self.nlink = None;
                }
            }
            Slot::Vacant(slot) => {
                slot.insert(entry);
                if is_directory {
                    self.nlink = self.nlink.and_then(|nlink| nlink.checked_add(1));
                }
            }
        }
    }

    pub(super) fn remove(&mut self, hash: u64, name: &[u8]) -> Option<UpperEntry> {
        let removed = self.entries.remove(&(hash, name.into()));
        if removed.is_some_and(|entry| entry.kind == Kind::Directory) {
            self.nlink = None;
        }
        removed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries whose hash is greater than `after`.
    pub(super) fn after(&self, after: u64) -> impl Iterator<Item = (u64, &[u8], UpperEntry)> {
        let from = (after.saturating_add(1), Box::default());
        self.entries.range(from..).map(|((hash, name), entry)| (*hash, &**name, *entry))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], UpperEntry)> {
        self.entries.iter().map(|((_, name), entry)| (&**name, *entry))
    }
}

/// More entries than this, in all listings, are not kept but for the directories in use.
const LISTED_MAX: usize = 100_000;

/// All that is remembered; behind one lock.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: HashMap<Ino, Node>,
    /// Lower inodes that have lost their last name, while the kernel still knows them; and removed
    /// directories.
    pub(super) gone: HashSet<Ino>,
    /// How many visible names a lower file of several names has, where that was counted.
    pub(super) links: HashMap<Ino, u32>,
    /// Lower files of several names of which only some may have the copy that was to be made, and that copy's inode
    /// number on disk: see [`super::group`].
    pub(super) unfinished: HashMap<Ino, u64>,
    /// Inode numbers on disk of directories that could not be taken away.
    pub(super) hidden: HashSet<u64>,
    /// How many orphans are kept by a descriptor.
    pub(super) open_orphans: usize,
    /// Which directories have an inode, from the first file handle on that needs it.
    pub(super) homes: Option<Homes>,
    pub(super) ctimes: ChangeTimes,
    listings: HashMap<Ino, Listing>,
    listed: usize,
    clock: u64,
}

impl Tree {
    pub(super) fn listing(&self, dir: Ino) -> Option<&Listing> {
        self.listings.get(&dir)
    }

    pub(super) fn listing_mut(&mut self, dir: Ino) -> Option<&mut Listing> {
        self.listings.get_mut(&dir)
    }

    /// Remembers a listing; others that were not used for long may go for it, though none of `keep`.
    pub(super) fn put_listing(&mut self, dir: Ino, mut listing: Listing) {
        self.clock += 1;
        listing.used = self.clock;
        self.listed = self.listed.saturating_add(listing.len());
        self.listings.insert(dir, listing);
        if self.listed > LISTED_MAX {
            self.trim();
        }
    }

    /// Keeps the listings that were used last, up to half of what may be kept, and at least a few:
    /// one operation uses up to four directories.
    fn trim(&mut self) {
        let mut ages: Vec<(u64, Ino, usize)> =
            self.listings.iter().map(|(dir, listing)| (listing.used, *dir, listing.len())).collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = 0usize;
        for (number, (_, dir, length)) in ages.into_iter().enumerate() {
            kept = kept.saturating_add(length);
            if number >= 8 && kept > LISTED_MAX / 2 {
                self.listings.remove(&dir);
                kept = kept.saturating_sub(length);
            }
        }
        self.listed = kept;
    }

    pub(super) fn touch(&mut self, dir: Ino) {
        self.clock += 1;
        if let Some(listing) = self.listings.get_mut(&dir) {
            listing.used = self.clock;
        }
    }

    pub(super) fn drop_listing(&mut self, dir: Ino) {
        if let Some(listing) = self.listings.remove(&dir) {
            self.listed = self.listed.saturating_sub(listing.len());
        }
    }

    /// Says that `ino` has the name `name` in `parent`.
    pub(super) fn add_name(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        if node.names.iter().any(|(dir, known)| *dir == parent && **known == *name) {
            return;
        }
        node.names.push((parent, name.into()));
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.pins += 1;
        }
    }

    /// Says that `ino` no longer has that name.
    pub(super) fn remove_name(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        let before = node.names.len();
        node.names.retain(|(dir, known)| *dir != parent || **known != *name);
        if node.names.len() == before {
            return;
        }
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.pins = parent.pins.saturating_sub(1);
        }
        if let Some(homes) = &mut self.homes {
            homes.remove(ino, parent);
        }
    }
}

/// How often the kernel refers to each inode (its `nlookup`).
#[derive(Debug)]
pub(super) struct References {
    shards: [Mutex<HashMap<Ino, u64>>; 16],
}

impl References {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    fn shard(&self, ino: Ino) -> Option<&Mutex<HashMap<Ino, u64>>> {
        self.shards.get((ino.0 % 16) as usize)
    }

    pub(super) fn add(&self, ino: Ino) {
        if let Some(shard) = self.shard(ino) {
            let mut shard = shard.lock();
            let count = shard.entry(ino).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    /// Takes `count` away and says whether none is left.
    pub(super) fn remove(&self, ino: Ino, count: u64) -> bool {
        let Some(shard) = self.shard(ino) else { return true };
        let mut shard = shard.lock();
        let Some(left) = shard.get_mut(&ino) else { return true };
        *left = left.saturating_sub(count);
        let none = *left == 0;
        if none {
            shard.remove(&ino);
            // A walk of a million files is not to stay in memory.
            if shard.capacity() > 1024 && shard.len() < shard.capacity() / 8 {
                shard.shrink_to_fit();
            }
        }
        none
    }

    pub(super) fn has(&self, ino: Ino) -> bool {
        self.shard(ino).is_some_and(|shard| shard.lock().contains_key(&ino))
    }
}

/// One lock per inode, for work that takes long: copying data up.
#[derive(Debug, Default)]
pub(super) struct InodeLocks {
    held: Mutex<HashSet<Ino>>,
    freed: Condvar,
}

/// The lock of one inode; it is freed when dropped.
#[derive(Debug)]
pub(super) struct InodeLock<'a> {
    locks: &'a InodeLocks,
    ino: Ino,
}

impl InodeLocks {
    pub(super) fn lock(&self, ino: Ino) -> InodeLock<'_> {
        let mut held = self.held.lock();
        while !held.insert(ino) {
            self.freed.wait(&mut held);
        }
        InodeLock { locks: self, ino }
    }

    /// The lock, if no thread has it.
    pub(super) fn try_lock(&self, ino: Ino) -> Option<InodeLock<'_>> {
        self.held.lock().insert(ino).then(|| InodeLock { locks: self, ino })
    }
}

impl Drop for InodeLock<'_> {
    fn drop(&mut self) {
        self.locks.held.lock().remove(&self.ino);
        self.locks.freed.notify_all();
    }
}

/// Places of names when a directory is read: the same for a name as long as the union is open.
#[derive(Debug, Default)]
pub(super) struct NameHash(std::hash::RandomState);

impl NameHash {
    /// 61 bits, never 0. The key is random, so that a program cannot craft names that collide.
    pub(super) fn of(&self, name: &[u8]) -> u64 {
        (self.0.hash_one(name) >> 3).max(1)
    }
}
