//! A bounded cache of open files, so that a union of a million files runs at `ulimit -n 1024`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::durable::Unsure;
use super::errno::FsResult;
use super::types::Ino;

/// What a descriptor is open on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The directory of a layer, counted from the base.
    Layer(u32),
    /// A lower file, for reading.
    LowerData(Ino),
    /// A directory of the upper.
    UpperDir(Ino),
    /// A file of the upper, for reading and writing.
    UpperData(Ino),
}

/// The cache. A descriptor that is in use stays open when it is dropped from the cache.
#[derive(Debug)]
pub(super) struct Descriptors {
    /// Files that lost their descriptor before an `fsync`.
    pub(super) unsure: Unsure,
    capacity: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Counts uses: the least recently used has the lowest.
    clock: u64,
    entries: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    descriptor: Arc<OwnedFd>,
    used: u64,
    /// Something was written by it since the last `fsync`.
    written: bool,
}

impl Descriptors {
    /// Keeps at most `capacity` descriptors.
    pub(super) fn new(capacity: usize) -> Self {
        Self { unsure: Unsure::default(), capacity: capacity.max(16), open: Mutex::default() }
    }

    /// How many descriptors a process of this limit may well spend on the cache: half of them.
    pub(super) fn capacity_of_process() -> usize {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
        usize::try_from(limit / 2).unwrap_or(512).min(4096)
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The cached descriptor, or a new one from `open`, which is called without any lock held.
    pub(super) fn get(&self, key: Key, open: impl FnOnce() -> FsResult<OwnedFd>) -> FsResult<Arc<OwnedFd>> {
        if let Some(descriptor) = self.cached(key) {
            return Ok(descriptor);
        }
        let descriptor = Arc::new(open()?);
        self.put(key, descriptor.clone());
        Ok(descriptor)
    }

    pub(super) fn cached(&self, key: Key) -> Option<Arc<OwnedFd>> {
        let mut open = self.open.lock();
        open.clock += 1;
        let clock = open.clock;
        let entry = open.entries.get_mut(&key)?;
        entry.used = clock;
        Some(entry.descriptor.clone())
    }

    /// A file is about to be written to, by the descriptor of [`Descriptors::get`].
    pub(super) fn writes(&self, ino: Ino) {
        let mut open = self.open.lock();
        match open.entries.get_mut(&Key::UpperData(ino)) {
            Some(entry) => entry.written = true,
            None => {
                drop(open);
                self.unsure.closed(ino);
            }
        }
    }

    /// A file is about to be flushed by its descriptor.
    pub(super) fn flushes(&self, ino: Ino) {
        if let Some(entry) = self.open.lock().entries.get_mut(&Key::UpperData(ino)) {
            entry.written = false;
        }
    }

    pub(super) fn put(&self, key: Key, descriptor: Arc<OwnedFd>) {
        let mut open = self.open.lock();
        open.clock += 1;
        let clock = open.clock;
        let replaced = open.entries.insert(key, Entry { descriptor, used: clock, written: false });
        // Of two that were opened at once one goes: what it was told may not be told to the other.
        if replaced.as_ref().is_some_and(|replaced| replaced.written)
            && let Some(entry) = open.entries.get_mut(&key)
        {
            entry.written = true;
        }
        let mut dropped = Vec::new();
        if open.entries.len() > self.capacity {
            // A quarter at a time, so that the search for the oldest costs little per descriptor.
            let mut ages: Vec<u64> = open.entries.values().map(|entry| entry.used).collect();
            let quarter = ages.len() / 4;
            let (_, limit, _) = ages.select_nth_unstable(quarter);
            let limit = *limit;
            dropped.extend(open.entries.extract_if(|_, entry| entry.used < limit));
        }
        drop(open);
        for (key, entry) in &dropped {
            if let (Key::UpperData(ino), true) = (key, entry.written) {
                self.unsure.closed(*ino);
            }
        }
        // Closed here, without the lock: the last close of a file can take long.
        drop((replaced, dropped));
    }

    pub(super) fn remove(&self, key: Key) -> Option<Arc<OwnedFd>> {
        let removed = self.open.lock().entries.remove(&key);
        removed.map(|entry| entry.descriptor)
    }
}
