//! `fsync`, and the errors of writing that the system tells once only.
//!
//! The kernel writes a file's data later than the program, and tells what went wrong to each descriptor that was open
//! then (`errseq`, lib/errseq.c). The union has one descriptor for all writers of a file, and cannot keep all of them
//! open: with the last one, and the inode, the error may go too. So a file whose descriptor was closed while its data
//! may not all have been written is [unsure](Unsure). Its next `fsync` asks the whole file system (`syncfs`, whose errors
//! are kept with the mount, and told to a descriptor that stays open here), and what that says is kept for each file that
//! was unsure until the file's own `fsync` has told it.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::Union;
use super::errno::{Errno, FsResult};
use super::recovery;
use super::types::Ino;
use super::upper::Spot;
use crate::index::Kind;
use crate::sys::call;

/// Files whose errors of writing may not be told by their next descriptor.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    files: Mutex<Files>,
    /// Held during `syncfs`, so that a thread that waits for it finds the result recorded for its file.
    asking: Mutex<()>,
}

#[derive(Debug, Default)]
struct Files {
    /// Counts the descriptors that were closed.
    clock: u64,
    /// When the file's descriptor was closed last.
    closed: HashMap<Ino, u64>,
    /// What `syncfs` has said since.
    failed: HashMap<Ino, Errno>,
}

impl Unsure {
    /// A descriptor was closed by which the file was written to.
    pub(super) fn closed(&self, ino: Ino) {
        let mut files = self.files.lock();
        files.clock += 1;
        let clock = files.clock;
        files.closed.insert(ino, clock);
    }

    /// No program has the file open any more.
    pub(super) fn forget(&self, ino: Ino) {
        let mut files = self.files.lock();
        files.closed.remove(&ino);
        files.failed.remove(&ino);
    }

    /// What is still to be told of a file, which was just flushed; `ask` flushes the file system.
    fn settle(&self, ino: Ino, ask: impl FnOnce() -> FsResult<()>) -> FsResult<()> {
        let is_settled = |files: &Files| !files.closed.contains_key(&ino) && !files.failed.contains_key(&ino);
        if is_settled(&self.files.lock()) {
            return Ok(());
        }
        let _asking = self.asking.lock();
        let closed = {
            let files = self.files.lock();
            if files.closed.contains_key(&ino) { files.closed.clone() } else { HashMap::new() }
        };
        let answer = if closed.is_empty() { Ok(()) } else { ask() };
        let mut files = self.files.lock();
        for (file, when) in closed {
            if files.closed.get(&file) == Some(&when) {
                files.closed.remove(&file);
            }
            if let Err(error) = answer {
                files.failed.insert(file, error);
            }
        }
        files.failed.remove(&ino).map_or(Ok(()), Err)
    }

    /// An error that no `fsync` has told yet.
    fn untold(&self) -> Option<Errno> {
        self.files.lock().failed.values().next().copied()
    }
}

impl Union {
    /// Makes a file or directory durable; nothing is to be done for what is only in the lowers.
    ///
    /// # Errors
    /// As `fsync(2)`.
    pub fn fsync(&self, ino: Ino, datasync: bool) -> FsResult<()> {
        let (file, kind) = {
            let tree = self.tree.read();
            let node = tree.nodes.get(&ino);
            match node.map(|node| node.kind) {
                None => return Ok(()),
                // A removed one has nothing that could last.
                Some(Kind::Directory) if node.is_some_and(|node| node.orphan.is_some()) => return Ok(()),
                Some(Kind::Directory) => match self.spot(&tree, ino)? {
                    Spot::Open(dir) => (dir, Kind::Directory),
                    Spot::Named(..) => (self.upper_dir(&tree, ino)?, Kind::Directory),
                },
                Some(Kind::File) => (self.upper_data(&tree, ino)?, Kind::File),
                Some(_) => return Ok(()),
            }
        };
        // Before the call: what is written meanwhile may not be flushed by it.
        self.descriptors.flushes(ino);
        if datasync {
            call::fdatasync(&file)?;
        } else {
            call::fsync(&file)?;
        }
        if kind == Kind::File {
            let upper = self.upper()?;
            self.descriptors.unsure.settle(ino, || Ok(call::syncfs(&upper.syncing)?))?;
        }
        Ok(())
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// As `syncfs(2)`; and as [`Union::written`].
    pub fn sync(&self) -> FsResult<()> {
        let Some(upper) = &self.upper else { return Ok(()) };
        call::syncfs(&upper.root)?;
        self.written()
    }

    /// The same at the end of a mount, after which nothing is changed any more.
    ///
    /// # Errors
    /// As [`Union::sync`].
    pub fn end(&self) -> FsResult<()> {
        if let Some(upper) = &self.upper {
            // error: the next union that opens the directory brings into order what is left.
            recovery::close(upper).unwrap_or_default();
        }
        self.sync()
    }

    /// Whether the disk has taken, as far as is known, all that was written.
    ///
    /// # Errors
    /// One that was to be told by the `fsync` of a file, which never came.
    pub fn written(&self) -> FsResult<()> {
        self.descriptors.unsure.untold().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_system_says_is_told_to_each_file_once() {
        let unsure = Unsure::default();
        for ino in [1, 2, 3] {
            unsure.closed(Ino(ino));
        }
        unsure.forget(Ino(3));
        assert_eq!(unsure.settle(Ino(9), || panic!("not asked")), Ok(()));
        assert_eq!(unsure.settle(Ino(1), || Err(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(unsure.untold(), Some(Errno::EIO));
        assert_eq!(unsure.settle(Ino(1), || panic!("not asked")), Ok(()));
        assert_eq!(unsure.settle(Ino(3), || panic!("not asked")), Ok(()));
        assert_eq!(unsure.settle(Ino(2), || panic!("not asked")), Err(Errno::EIO));
        assert_eq!(unsure.untold(), None);
        unsure.closed(Ino(2));
        let closed_meanwhile = || {
            unsure.closed(Ino(2));
            Ok(())
        };
        assert_eq!(unsure.settle(Ino(2), closed_meanwhile), Ok(()));
        let mut asked = false;
        assert_eq!(
            unsure.settle(Ino(2), || {
                asked = true;
                Ok(())
            }),
            Ok(())
        );
        assert!(asked);
    }
}
