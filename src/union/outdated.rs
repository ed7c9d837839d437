//! The result of an operation, with the inode whose attributes the kernel has to ask for again.

use super::errno::FsResult;
use super::types::Ino;

/// The result of an operation that may change attributes which its reply does not have. The kernel keeps attributes for
/// ever, so the result can only be taken out by telling it, or by saying that no kernel knows the union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Outdated<T> {
    result: T,
    ino: Option<Ino>,
}

impl<T> Outdated<FsResult<T>> {
    /// `changed` says whether attributes have changed that the reply does not have. An operation that fails may have
    /// changed some.
    pub(super) fn new(ino: Ino, result: FsResult<T>, changed: bool) -> Self {
        // error: it goes on with the result.
        let ino = (changed || result.is_err()).then_some(ino);
        Self { result, ino }
    }
}

impl<T> Outdated<T> {
    /// The result, after `tell` was called for the inode whose attributes the kernel must ask for again.
    pub fn tell(self, tell: impl FnOnce(Ino)) -> T {
        if let Some(ino) = self.ino {
            tell(ino);
        }
        self.result
    }

    /// The result, where no kernel knows the union.
    pub fn untold(self) -> T {
        self.result
    }
}
