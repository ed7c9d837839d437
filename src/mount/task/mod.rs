//! What is done to a live mount by a short-lived process, since it may have to wait for the mount's server.
//!
//! A process that waits in the kernel for what a FUSE server has to write cannot be killed (`folio_wait_writeback`,
//! mm/page-writeback.c). If it were the server itself, or held the server's `/dev/fuse` or one of its locks, then
//! a kill of the server would end nothing. So the server never waits for its own mount, and a command that unmounts
//! can give up: both start this program once more, as [`MOUNT_TASK`], with an [`Order`] on standard input.
//!
//! - [`process`]: the process
//! - [`write_out`]: one that stays, for single files
//! - [`start`]: starting it, and waiting for it

mod process;
mod start;
mod write_out;

use serde::{Deserialize, Serialize};

use crate::mount::serve_spec::PathBytes;

pub use process::mount_task;
pub(crate) use start::{Task, run};
pub(crate) use write_out::Writer;

/// The hidden command by which this program becomes such a process.
pub const MOUNT_TASK: &str = "mount-task";

/// What is to be done, and to which mount: a line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) mountpoint: PathBytes,
    /// Its `major:minor`; unknown of a server of an earlier version.
    pub(crate) device: Option<String>,
    /// A process in the mount namespace that has the mount, if that is another one than the caller's.
    pub(crate) namespace_of: Option<u32>,
    /// Its registration, by which its server is asked what is lost; none when the server itself gives the order.
    pub(crate) live: Option<PathBytes>,
    pub(crate) action: Action,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// All that was written goes to the server, then the mount ends for everybody, whichever other mount namespace has a
    /// copy of it. Nothing is done while a process of its own mount namespace uses it.
    End,
    /// The same, and what uses it gets errors from then on.
    EndInUse,
    /// As [`Action::EndInUse`], but what was not written yet is lost.
    Abort,
    /// It vanishes, and ends when its last user does.
    Detach,
    /// All that was written goes to the server; [`Outcome::Busy`] when it does, but is not all there yet.
    Flush,
    /// What the kernel has gathered of single files goes to the server: of each that a line ([`File`]) names, which is answered
    /// by a line with an error number, or 0. It goes on until there is no more input.
    WriteOut,
    /// From now on each write waits until the server has it and may say that there is no room; or does not any more.
    Synchronous(bool),
}

/// A file for [`Action::WriteOut`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct File {
    number: u64,
    generation: u32,
    from: i64,
    path: PathBytes,
}

/// How it went: a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// What the server could not bring to the rw layer, as a clause.
    Done {
        lost: Option<String>,
    },
    /// It is not there, or no longer.
    Gone,
    /// A process has a file open in it, or works there.
    Busy,
    /// Something else is mounted over it.
    Covered,
    Failed {
        message: String,
        code: u8,
    },
}
