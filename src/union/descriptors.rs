//! A bounded cache of open files, so that a union of a million files runs at `ulimit -n 1024`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

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
    capacity: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Counts uses: the least recently used has the lowest.
    clock: u64,
    entries: HashMap<Key, (Arc<OwnedFd>, u64)>,
}

impl Descriptors {
    /// Keeps at most `capacity` descriptors.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(16), open: Mutex::default() }
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
        let (descriptor, used) = open.entries.get_mut(&key)?;
        *used = clock;
        Some(descriptor.clone())
    }

    pub(super) fn put(&self, key: Key, descriptor: Arc<OwnedFd>) {
        let mut open = self.open.lock();
        open.clock += 1;
        let clock = open.clock;
        let replaced = open.entries.insert(key, (descriptor, clock));
        let mut dropped = Vec::new();
        if open.entries.len() > self.capacity {
            // A quarter at a time, so that the search for the oldest costs little per descriptor.
            let mut ages: Vec<u64> = open.entries.values().map(|(_, used)| *used).collect();
            let quarter = ages.len() / 4;
            let (_, limit, _) = ages.select_nth_unstable(quarter);
            let limit = *limit;
            dropped.extend(open.entries.extract_if(|_, (_, used)| *used < limit));
        }
        drop(open);
        // Closed here, without the lock: the last close of a file can take long.
        drop((replaced, dropped));
    }

    pub(super) fn remove(&self, key: Key) -> Option<Arc<OwnedFd>> {
        let removed = self.open.lock().entries.remove(&key);
        removed.map(|(descriptor, _)| descriptor)
    }
}
