//! In which mount namespace a live mount is to be seen.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::fuse;
use crate::mount::live::LiveRecord;
use crate::mount::task::{Action, Order};

/// Where a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// In the mount namespace of this process.
    Here,
    /// In that of its server, which is another one.
    WithServer,
    /// In neither: it was unmounted, and its server ends when the last process that uses it does, or is about to.
    Nowhere,
}

/// Where the mount of a living server is.
///
/// # Errors
/// When the kernel's lists of mounts cannot be read.
pub(crate) fn placed(record: &LiveRecord) -> Result<Placed> {
    let is_it = |mount: fuse::Mount| {
        mount.is_ours()
            && mount.mountpoint == record.mountpoint
            && record.device.as_deref().is_none_or(|device| mount.device() == device)
    };
    if fuse::mounts()?.into_iter().any(is_it) {
        Ok(Placed::Here)
    } else if record.device.is_some() && fuse::mounts_of(record.pid)?.into_iter().any(is_it) {
        Ok(Placed::WithServer)
    } else {
        Ok(Placed::Nowhere)
    }
}

/// What is mounted over the mount of a living server, if anything is.
///
/// # Errors
/// As [`placed`].
pub(crate) fn covering(record: &LiveRecord, place: Placed) -> Result<Option<fuse::Mount>> {
    let mounts = if place == Placed::WithServer { fuse::mounts_of(record.pid)? } else { fuse::mounts()? };
    let mut here: Vec<_> = mounts.into_iter().filter(|mount| mount.mountpoint == record.mountpoint).collect();
    let Some(top) = here.pop() else { return Ok(None) };
    let is_it = |mount: &fuse::Mount| record.device.as_deref() == Some(mount.device());
    Ok(Some(top).filter(|top| !is_it(top) && here.iter().any(is_it)))
}

impl Placed {
    /// A path by which this process finds the root of the mount.
    pub(crate) fn path(self, record: &LiveRecord) -> PathBuf {
        match self {
            Self::WithServer => {
                let root = PathBuf::from(format!("/proc/{}/root", record.pid));
                root.join(record.mountpoint.strip_prefix("/").unwrap_or(&record.mountpoint))
            }
            Self::Here | Self::Nowhere => record.mountpoint.clone(),
        }
    }

    /// Something that is to be done to the mount, which is registered at `dir`.
    pub(crate) fn order(self, record: &LiveRecord, dir: &Path, action: Action) -> Order {
        Order {
            mountpoint: record.mountpoint.as_path().into(),
            device: record.device.clone(),
            namespace_of: (self == Self::WithServer).then_some(record.pid),
            live: Some(dir.into()),
            action,
        }
    }
}
