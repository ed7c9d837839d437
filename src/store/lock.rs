//! The one lock of the store: a process holds it while it changes names, and no longer.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{Store, file};
use crate::error::{Context as _, Error, Result};
use crate::sys::{call, fs};

/// Proof that this process has the lock alone, and may change names. The lock is free again when this is dropped or the
/// process ends.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    store: &'a Store,
    _lock: File,
}

/// Proof that no process changes names meanwhile, for a caller that only reads them.
#[derive(Debug)]
pub(super) struct Hold {
    _lock: Option<File>,
}

/// Either proof: while it exists, no record changes, so that the caller sees all records as they are at one moment.
pub(super) trait Settled {}
impl Settled for Guard<'_> {}
impl Settled for Hold {}

impl Store {
    /// Keeps names from being changed; needs no right to write.
    pub(super) fn hold(&self) -> Result<Hold> {
        let path = self.root.join("lock");
        // Without the file, no process has ever changed a name.
        let Some(lock) = file::open(&path)? else { return Ok(Hold { _lock: None }) };
        call::flock(&lock, FlockOperation::LockShared).doing("lock", &path)?;
        Ok(Hold { _lock: Some(lock) })
    }

    pub(super) fn lock(&self) -> Result<Guard<'_>> {
        if !self.writable {
            let root = self.root.display();
            return Err(Error::Unsupported(format!(
                "{root}: a newer layerctl has made this store read-only for this one"
            )));
        }
        let path = self.root.join("lock");
        let lock = file::open_or_create(&path)?.ok_or(Errno::NOENT).doing("open", &path)?;
        call::flock(&lock, FlockOperation::LockExclusive).doing("lock", &path)?;
        Ok(Guard { store: self, _lock: lock })
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_dir(&self, dir: &Path) -> Result<()> {
        if !self.durable {
            return Ok(());
        }
        File::open(dir).and_then(|dir| dir.sync_all()).doing("flush", dir)
    }
}

impl Guard<'_> {
    /// Replaces a record, durably and at once: no reader ever sees half of it.
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<()> {
        // Only the holder of the lock writes here, so one name serves all, and the file of a dead process is overwritten.
        let temporary = self.store.root.join("tmp/record");
        let mut file = file::rewrite(&temporary)?;
        file.write_all(content).doing("write", &temporary)?;
        if self.store.durable {
            file.sync_all().doing("flush", &temporary)?;
        }
        fs::rename(&temporary, path).doing("put into place", path)?;
        path.parent().map_or(Ok(()), |dir| self.store.sync_dir(dir))
    }
}

/// Takes the lock of a file if nothing else has it, and says whether that was so.
pub(super) fn try_lock(file: &File, operation: FlockOperation) -> rustix::io::Result<bool> {
    match call::flock(file, operation) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        locked => locked.map(|()| true),
    }
}
