//! Holding back all changes for a while, so that the union can be read as it is at one moment.

use std::sync::OnceLock;

use fuser::{INodeNo, Notifier};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::union::Ino;

/// What every change passes. Who holds it must ask nothing of the mount.
#[derive(Default)]
pub struct Gate {
    changes: RwLock<()>,
    notifier: OnceLock<Notifier>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// A change on its way.
pub(super) type Pass<'a> = RwLockReadGuard<'a, ()>;

/// No change is under way, and none begins as long as this is there.
#[derive(Debug)]
pub struct Held<'a> {
    _changes: RwLockWriteGuard<'a, ()>,
}

impl Gate {
    /// To be called before the first request is answered.
    pub(super) fn flush_by(&self, notifier: Notifier) {
        self.notifier.get_or_init(|| notifier);
    }

    pub(super) fn pass(&self) -> Pass<'_> {
        self.changes.read()
    }

    /// Waits for the changes that are under way, and keeps others waiting.
    #[must_use]
    pub fn hold(&self) -> Held<'_> {
        Held { _changes: self.changes.write() }
    }

    /// Has the kernel write out what it has gathered of a file, up to this length: to the end of one that grows it might
    /// never come. It must not be held: that waits for changes.
    pub fn flush(&self, file: Ino, length: u64) {
        // No length at all would be to the end.
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        if length > 0
            && let Some(notifier) = self.notifier.get()
        {
            // It fails for an inode that the kernel has just forgotten: that has no pages.
            // error: there is none for a live mount, and one that has ended has nothing gathered.
            notifier.inval_inode(INodeNo(file.0), 0, length).unwrap_or_default();
        }
    }
}
