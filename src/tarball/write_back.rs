//! What is written goes to the disk while the tar still comes: at the end there is less to wait for.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::sys;
use crate::sys::call;

/// Bytes of a file after which the disk begins to write it.
const LARGE: u64 = 4 << 20;
/// Bytes of other files after which the disk writes all there is. It costs a call for each small file to say it of that one.
const MANY: u64 = 64 << 20;
/// What waits for the disk at most. When there is more, it has enough to do.
const WAITING: usize = 8;

/// What the disk is to write.
enum Begin {
    File(OwnedFd),
    /// All of the file system that this file is of.
    All(OwnedFd),
}

/// Tells the thread that starts the write-back which bytes were written.
pub(super) struct WriteBack {
    to_disk: SyncSender<Begin>,
    /// Bytes of the file at hand that were told of.
    begun: u64,
    /// Bytes of all files that nothing was told of.
    rest: u64,
}

impl WriteBack {
    /// Starts the thread that lets the disk write, which may take as long as the disk takes. The unpacking thread does not wait
    /// for it, also not to report an error. It ends after this.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start() -> io::Result<Self> {
        let (to_disk, begins) = sync_channel(WAITING);
        std::thread::Builder::new().name("write back".into()).spawn(move || run(begins))?;
        Ok(Self { to_disk, begun: 0, rest: 0 })
    }

    /// So many bytes of a file are written by now.
    pub(super) fn wrote(&mut self, file: &OwnedFd, stored: u64) {
        if stored.saturating_sub(self.begun) >= LARGE {
            self.begun = stored;
            self.tell(file, Begin::File);
        }
    }

    /// A file has all its bytes, of which so many are written.
    pub(super) fn end(&mut self, file: &OwnedFd, stored: u64) {
        self.rest = self.rest.saturating_add(stored.saturating_sub(self.begun));
        self.begun = 0;
        if self.rest >= MANY {
            self.rest = 0;
            self.tell(file, Begin::All);
        }
    }

    fn tell(&self, file: &OwnedFd, begin: impl FnOnce(OwnedFd) -> Begin) {
        // error: what cannot be begun is written at the end
        if let Ok(file) = file.try_clone() {
            #[expect(clippy::let_underscore_must_use, reason = "as above: the disk has enough to do")]
            let _ = self.to_disk.try_send(begin(file));
        }
    }
}

fn run(begins: Receiver<Begin>) {
    for begin in begins {
        match begin {
            Begin::File(file) => sys::start_write_back(&file),
            // error: the flush at the end fails too, since each open file knows which errors it has told of
            Begin::All(file) => drop(call::syncfs(file)),
        }
    }
}
