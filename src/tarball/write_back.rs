//! Large files go to the disk while the tar still comes: at the end there is less to wait for.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::sys;

/// Files that wait for the disk to begin. When there are more, it has enough to do.
const WAITING: usize = 8;

/// Who tells of large files.
pub(super) struct WriteBack(SyncSender<OwnedFd>);

/// Who lets the disk begin, for a thread of its own: that may take as long as the disk takes.
pub(super) struct Writer(Receiver<OwnedFd>);

impl WriteBack {
    pub(super) fn new() -> (Self, Writer) {
        let (sender, receiver) = sync_channel(WAITING);
        (Self(sender), Writer(receiver))
    }

    /// Lets the disk begin to write a file. Where that cannot be done it is written at the end.
    pub(super) fn begin(&self, file: &OwnedFd) {
        if let Ok(file) = file.try_clone() {
            let _ = self.0.try_send(file);
        }
    }
}

impl Writer {
    pub(super) fn run(self) {
        for file in self.0 {
            sys::start_write_back(&file);
        }
    }
}
