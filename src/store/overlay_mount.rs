//! A container whose rw layer the kernel's overlayfs writes: it has no server, and the kernel says whether it is mounted.

use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::lock::try_lock;
use super::{Container, ContainerState, MountRecord, Store, file};
use crate::error::{Context as _, Error, Result};
use crate::id::ContainerId;
use crate::sys::{self, MountLine};

/// What is known of such a mount beside what every mount has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverlayMount {
    /// Its `major:minor`; empty where it is in a command's mount namespace only, or about to be there.
    pub device: String,
    /// The name under `run/` of what the server of the image has registered.
    pub image_server: String,
    /// Whether the container goes when it is unmounted.
    #[serde(default)]
    pub remove: bool,
}

impl MountRecord {
    /// The part of a mount by overlayfs, while that has not ended in order.
    #[must_use]
    pub fn live_overlay(&self) -> Option<&OverlayMount> {
        self.overlay.as_ref().filter(|_| !self.ended)
    }
}

impl Container {
    /// Whether the kernel has this mount of the container, in whichever mount namespace.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn has_overlay(&self, mount: &MountRecord) -> Result<bool> {
        if mount.live_overlay().is_none() {
            return Ok(false);
        }
        if self.overlay_is_here(mount)? {
            return Ok(true);
        }
        let upper = self.upper();
        match sys::is_upper_in_use(&upper) {
            // A caller that may not mount can change nothing either.
            Err(Errno::PERM) => Ok(false),
            Err(Errno::NODEV) => Ok(false),
            in_use => in_use.doing("find the mount of", upper),
        }
    }

    /// Whether this mount is in the mount namespace of this process.
    ///
    /// # Errors
    /// When the list of mounts cannot be read.
    pub fn overlay_is_here(&self, mount: &MountRecord) -> Result<bool> {
        self.overlay_here(mount).map(|line| line.is_some())
    }

    /// What the kernel says of this mount in the mount namespace of this process.
    ///
    /// # Errors
    /// When the list of mounts cannot be read.
    pub fn overlay_here(&self, mount: &MountRecord) -> Result<Option<MountLine>> {
        let Some(overlay) = mount.live_overlay() else { return Ok(None) };
        let table = sys::mount_table().doing("read", "/proc/self/mountinfo")?;
        let source = self.short_id();
        Ok(table.into_iter().rfind(|line| {
            // The process that mounted it may have been killed before it wrote the device down.
            let is_device = overlay.device.is_empty() || line.device == overlay.device;
            line.mountpoint == mount.mountpoint && is_device && line.fs_type == sys::OVERLAY && line.source == source
        }))
    }

    /// Whether a process runs a command in this mount of the container: it has the container's lock.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn has_command(&self, mount: &MountRecord) -> Result<bool> {
        Ok(mount.command && mount.live_overlay().is_some() && self.is_locked()?)
    }

    pub(super) fn overlay_state(&self, mount: &MountRecord, held: bool) -> Result<ContainerState> {
        let Some(overlay) = mount.live_overlay() else { return Ok(ContainerState::Exited) };
        if !held && !self.has_overlay(mount)? {
            // Its mount namespace has ended, or the machine: nothing that was written is missing.
            return Ok(ContainerState::Exited);
        }
        let server = self.run_dir().join(&overlay.image_server).join("lock");
        Ok(if is_locked(&server)? { ContainerState::Running } else { ContainerState::Dead })
    }

    /// That no overlay has its rw layer as upper.
    pub(super) fn check_no_overlay(&self) -> Result<()> {
        match self.mount()? {
            Some(mount) if self.has_overlay(&mount)? => Err(self.in_use()),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// Whether overlayfs has the rw layer of a container; not of one that is damaged.
    pub(super) fn has_overlay(&self, container: ContainerId) -> Result<bool> {
        let container = match self.container(container) {
            Err(Error::NotFound { .. } | Error::Corrupt { .. }) => return Ok(false),
            container => container?,
        };
        match container.mount() {
            Err(Error::Corrupt { .. }) => Ok(false),
            mount => mount?.map_or(Ok(false), |mount| container.has_overlay(&mount)),
        }
    }
}

/// Whether a process has the lock at `path`.
fn is_locked(path: &Path) -> Result<bool> {
    match file::open(path)? {
        Some(file) => Ok(!try_lock(&file, FlockOperation::NonBlockingLockShared).doing("lock", path)?),
        None => Ok(false),
    }
}
