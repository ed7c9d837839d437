//! Holding back all changes for a while, so that the union can be read as it is at one moment.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What every change passes. Who holds it must ask nothing of the mount.
#[derive(Debug, Default)]
pub struct Gate {
    changes: RwLock<()>,
}

/// A change on its way.
pub(super) type Pass<'a> = RwLockReadGuard<'a, ()>;

/// No change is under way, and none begins as long as this is there.
#[derive(Debug)]
pub struct Held<'a> {
    _changes: RwLockWriteGuard<'a, ()>,
}

impl Gate {
    pub(super) fn pass(&self) -> Pass<'_> {
        self.changes.read()
    }

    /// Waits for the changes that are under way, and keeps others waiting.
    #[must_use]
    pub fn hold(&self) -> Held<'_> {
        Held { _changes: self.changes.write() }
    }
}
