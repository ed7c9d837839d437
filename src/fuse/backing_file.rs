//! A file that is registered with the kernel, so that the kernel reads and writes it itself.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::BackingId;

use crate::sys;

/// A registered file. The kernel has it open until this is dropped.
///
/// A [`BackingId`] closes its file at the descriptor of the worker that registered it, and when that worker has broken off
/// (`workers.rs`) it leaves the file open in the kernel. So the file is closed at a descriptor that the mount has to its end.
#[derive(Debug)]
pub(super) struct BackingFile {
    id: Option<BackingId>,
    device: Arc<OwnedFd>,
}

impl BackingFile {
    pub(super) const fn new(id: BackingId, device: Arc<OwnedFd>) -> Self {
        Self { id: Some(id), device }
    }

    /// What an `open` is answered with. There is one until this is dropped.
    pub(super) const fn id(&self) -> Option<&BackingId> {
        self.id.as_ref()
    }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            // error: the connection has ended, and with it the kernel has closed all of them.
            sys::close_backing_file(&*self.device, id.into_raw()).unwrap_or_default();
        }
    }
}
