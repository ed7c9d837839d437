//! Which modes a layer's files have on disk. Those that are shown are the index's.

use crate::index::Kind;

/// The modes of a layer's files on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Modes {
    /// Those of the index.
    #[default]
    Exact,
    /// Those with which their owner, also one that is not root, can read, change and remove all of it, and without set-id bits.
    Usable,
}

impl Modes {
    /// Those of a store with the feature `layer-modes`, or without it.
    #[must_use]
    pub const fn of(layer_modes: bool) -> Self {
        if layer_modes { Self::Usable } else { Self::Exact }
    }

    /// The permission bits on disk of what has `mode` in the index.
    #[must_use]
    pub const fn on_disk(self, kind: Kind, mode: u32) -> u32 {
        match (self, kind) {
            (Self::Exact, _) => mode,
            (Self::Usable, Kind::Directory) => mode & 0o777 | 0o700,
            (Self::Usable, _) => mode & 0o777 | 0o600,
        }
    }
}
