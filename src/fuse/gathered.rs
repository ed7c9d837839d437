//! Having the kernel write out what it has gathered of a file, which the union does not have yet.
//!
//! That waits for requests of this server, and a process that waits for it in the kernel cannot be killed. A server that waited
//! itself would stay for ever when it is killed meanwhile, and its mount with it. So another process waits, that holds nothing
//! of the server ([`WriteOut`]).

use std::io;
use std::sync::OnceLock;

use crate::union::Ino;

/// A part of a file that the kernel may have gathered: from an offset to the end.
#[derive(Debug, Clone, Copy)]
pub struct Gathered<'a> {
    /// The file.
    pub ino: Ino,
    /// Its generation, as the kernel was told.
    pub generation: u32,
    /// In bytes.
    pub from: i64,
    /// A path to it from the root of the mount, if one is known.
    pub path: &'a [u8],
}

/// Has it written out, and returns when that is done.
pub type WriteOut = Box<dyn Fn(&Gathered<'_>) -> io::Result<()> + Send + Sync>;

/// The means to have that done, which the process behind the mount provides.
#[derive(Default)]
pub struct Gatherer(OnceLock<WriteOut>);

impl std::fmt::Debug for Gatherer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gatherer").finish_non_exhaustive()
    }
}

impl Gatherer {
    pub(super) fn write_out_by(&self, write_out: WriteOut) {
        self.0.get_or_init(|| write_out);
    }

    /// Has the kernel write out what it has gathered of a file. No change may be held back ([`super::Freeze`]): that waits
    /// for changes.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn write_out(&self, gathered: &Gathered<'_>) -> io::Result<()> {
        self.0.get().map_or_else(|| Err(io::ErrorKind::Unsupported.into()), |write_out| write_out(gathered))
    }
}
