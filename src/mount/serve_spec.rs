//! What a server process is told on its standard input, and what it answers on its standard output: a line
//! of JSON each.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use crate::fuse::{Behaviour, Io};
use crate::id::{ContainerId, ImageId};
use crate::index::Trust;

/// A path of any bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PathBytes(Vec<u8>);

impl From<&Path> for PathBytes {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<PathBytes> for PathBuf {
    fn from(path: PathBytes) -> Self {
        OsString::from_vec(path.0).into()
    }
}

/// What is to be served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Source {
    /// A container of the store.
    Container {
        id: ContainerId,
        /// Whether it is removed when its mount ends.
        remove: bool,
    },
    /// The layers of an image, without a rw layer.
    Image { id: ImageId },
    /// Plain directories, nearest first.
    Directories { upper: Option<PathBytes>, lowers: Vec<PathBytes>, trust: Trust },
}

/// All that a server needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServeSpec {
    /// The store; `None` for a union of directories that has nothing to do with one, and is registered nowhere.
    pub(crate) root: Option<PathBytes>,
    pub(crate) source: Source,
    pub(crate) mountpoint: PathBytes,
    /// What `/proc/mounts` shows as the source.
    pub(crate) fsname: String,
    /// The bits of [`MountFlags`].
    pub(crate) flags: u32,
    /// By which way data go.
    pub(crate) io: Io,
    /// What is otherwise than by default.
    pub(crate) behaviour: Behaviour,
    /// Whether the mount ends when the other end of standard input is closed.
    pub(crate) tied: bool,
}

impl ServeSpec {
    pub(crate) fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags)
    }
}

/// What a server answers: whether it serves, and, of the mount of a command, how that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The mount is live.
    Ready,
    /// There is no mount.
    Failed { message: String, code: u8 },
    /// The mount of a command has ended, and what could not be brought to the rw layer, as a clause.
    Ended { lost: Option<String> },
}
