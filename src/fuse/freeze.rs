//! Holds back all changes for a while, so that the union can be read as it is at one moment.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The lock that each change takes shared. A thread that holds it must send no request to the mount, which could wait for the
/// thread itself.
#[derive(Debug, Default)]
pub struct Freeze {
    changes: RwLock<()>,
}

/// A change on its way.
pub(super) type OngoingChange<'a> = RwLockReadGuard<'a, ()>;

/// No change is under way, and none begins as long as this is there.
#[derive(Debug)]
pub struct Frozen<'a> {
    _changes: RwLockWriteGuard<'a, ()>,
}

impl Freeze {
    pub(super) fn begin_change(&self) -> OngoingChange<'_> {
        self.changes.read()
    }

    /// Waits for the changes that are under way, and keeps others waiting.
    #[must_use]
    pub fn begin(&self) -> Frozen<'_> {
        Frozen { _changes: self.changes.write() }
    }
}
