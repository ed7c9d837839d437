//! Which directories' attributes the kernel may be about to take for true although they have changed since.
//!
//! When an operation changes a directory's entries, the kernel drops what it knows of the directory's attributes
//! (fs/fuse/dir.c, `fuse_dir_changed`), but not an answer of before the change that another thread of its own still
//! holds: that would then be valid for ever. An invalidation by the server outdates such answers too (`attr_version`).
//! It costs a system call, so it is sent only if an answer has been given since the last one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;

use crate::union::Ino;

/// Directories that are told apart; more only share.
const PLACES: u64 = 1024;

/// Which directories' attributes the kernel may have got since their last invalidation.
pub(super) struct AttrInvalidation {
    /// Answers that are being made up. Of which inode is known only at their end.
    under_way: AtomicUsize,
    /// In each place the directory of which nothing was answered since its last invalidation.
    silent: Vec<Mutex<Option<Ino>>>,
    notifier: OnceLock<Notifier>,
}

/// An answer with attributes that is being made up.
pub(super) struct Answer<'a>(&'a AttrInvalidation);

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, SeqCst);
    }
}

impl Answer<'_> {
    /// The attributes of this directory are in it.
    pub(super) fn has(&self, directory: Ino) {
        if let Some(mut silent) = self.0.place(directory).map(Mutex::lock) {
            *silent = None;
        }
    }
}

impl AttrInvalidation {
    pub(super) fn new() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            silent: (0..PLACES).map(|_| Mutex::new(None)).collect(),
            notifier: OnceLock::new(),
        }
    }

    /// To be called before the first request is answered.
    pub(super) fn invalidate_by(&self, notifier: Notifier) {
        self.notifier.get_or_init(|| notifier);
    }

    /// To be called before attributes are looked at, and kept until they have been sent.
    pub(super) fn answer(&self) -> Answer<'_> {
        self.under_way.fetch_add(1, SeqCst);
        Answer(self)
    }

    /// To be called after a directory has changed, before the reply to the request that changed it.
    pub(super) fn changed(&self, directory: Ino) {
        // Held while the kernel is told: the next change may rely on it.
        let Some(mut silent) = self.place(directory).map(Mutex::lock) else { return };
        if *silent == Some(directory) && self.under_way.load(SeqCst) == 0 {
            return;
        }
        *silent = Some(directory);
        self.outdate(directory);
    }

    /// Outdates all answers about an inode's attributes and ACLs that the kernel has had so far.
    pub(super) fn outdate(&self, ino: Ino) {
        if let Some(notifier) = self.notifier.get() {
            // It fails for an inode that the kernel has just forgotten. A negative offset spares the data.
            // error: there is none for a live mount; without the mount nothing is cached.
            notifier.inval_inode(INodeNo(ino.0), -1, 0).unwrap_or_default();
        }
    }

    fn place(&self, directory: Ino) -> Option<&Mutex<Option<Ino>>> {
        self.silent.get(usize::try_from(directory.0 % PLACES).ok()?)
    }
}
