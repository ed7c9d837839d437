//! What a mount does otherwise than by default.

use rustix::mount::MountPropagationFlags;
use serde::{Deserialize, Serialize};

use super::ids::Ids;

/// What `-o` options of overlayfs, fuse-overlayfs and mount(8) change about a mount. All of it is off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// `fsync` waits for nothing: what was written reaches the disk when the disk's own file system writes it.
    pub volatile: bool,
    /// POSIX access lists are neither shown, nor taken, nor looked at: only modes count.
    pub without_access_lists: bool,
    /// What it shows is a layer of the kernel's overlayfs: marks of overlayfs in it have the names under which overlayfs takes them
    /// for content.
    pub under_overlay: bool,
    /// How owners are shown.
    pub ids: Ids,
    /// The bits of [`MountPropagationFlags`] that the mount gets; 0 leaves it as it is.
    pub propagation: u32,
    /// Options for the kernel's security module, as `context=LABEL`: it takes them or refuses the mount.
    pub labels: Vec<String>,
}

impl Behaviour {
    /// The propagation type, if one was asked for.
    pub(super) fn propagation(&self) -> Option<MountPropagationFlags> {
        Some(MountPropagationFlags::from_bits_retain(self.propagation)).filter(|flags| !flags.is_empty())
    }
}
