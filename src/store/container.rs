//! Containers: a rw layer over an image's chain, and whether it is mounted.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::garbage::remove_mountpoint;
use super::lock::try_lock;
use super::network::Network;
use super::{OverlayMount, file, read_json};
use crate::error::{Context as _, Error, Result};
use crate::id::{ContainerId, DiffId, ImageId, ImageName};
use crate::sys::fs;

/// A process that asks for a container's state holds its lock for an instant: only a lock that stays taken is a server's.
const PROBE: Duration = Duration::from_millis(1);
const PROBES: u32 = 20;

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRecord {
    /// Its name.
    pub name: String,
    /// The image it was made from.
    pub image: ImageId,
    /// The name by which the image was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_name: Option<ImageName>,
    /// The image's layers, lowest first.
    pub layers: Vec<DiffId>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The names that its commands find.
    #[serde(default, skip_serializing_if = "Network::is_default")]
    pub network: Network,
}

/// The latest mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountRecord {
    /// Where.
    pub mountpoint: PathBuf,
    /// The server's process.
    pub pid: u32,
    /// Since when, in seconds since 1970.
    pub started: u64,
    /// Whether it takes no changes.
    pub read_only: bool,
    /// Whether it is there for a command, and ends with it.
    #[serde(default)]
    pub command: bool,
    /// The name under `run/` of what the server registered.
    pub live: String,
    /// Whether the server has ended in order.
    pub ended: bool,
    /// What was written and could not be brought to the rw layer, as a clause, until `umount` has said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// What a mount by overlayfs has in place of a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<OverlayMount>,
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Never mounted.
    Created,
    /// Mounted, with a living server.
    Running,
    /// Was mounted.
    Exited,
    /// Its server was killed.
    Dead,
}

/// A container of the store.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id: the name of its rw layer under `diff/`.
    pub id: ContainerId,
    /// What is known of it.
    pub record: ContainerRecord,
    pub(super) root: PathBuf,
}

/// What a container is to be.
#[derive(Debug, Clone, Default)]
pub struct NewContainer {
    /// Its name; the beginning of its id when none is given.
    pub name: Option<String>,
    /// The image's name or id, as [`Store::find_image`](super::Store::find_image) takes it.
    pub image: String,
    /// The names that its commands find.
    pub network: Network,
}

impl ContainerState {
    /// The word for it, as Docker's `State.Status` has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// Docker's rule for the names of containers.
pub(super) fn check_name(name: &str) -> Result<()> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.len() <= 128 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(inner) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{name:?} is no name for a container: letters, digits, and after the first also . _ - are allowed"
    )))
}

impl Container {
    /// Its directory in the store.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.root.join("containers").join(self.id.hex())
    }

    /// Its rw layer.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.root.join("diff").join(self.id.hex())
    }

    /// Where it is mounted when no place is named.
    #[must_use]
    pub fn default_mountpoint(&self) -> PathBuf {
        self.root.join("mnt").join(self.id.hex())
    }

    /// The file with the messages that its server could send to no client.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// The first 12 digits of its id.
    #[must_use]
    pub fn short_id(&self) -> String {
        self.id.hex().get(..12).unwrap_or_default().to_owned()
    }

    /// Where live mounts are registered.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Takes the container for a server: free again when that process ends, however it ends.
    ///
    /// # Errors
    /// [`Error::InUse`] when another server, or the kernel, has it; [`Error::NotFound`] when it was removed meanwhile.
    pub fn lock(&self) -> Result<File> {
        let lock = self.lock_record()?;
        self.check_no_overlay().map(|()| lock)
    }

    /// The same of one that the kernel may have mounted.
    ///
    /// # Errors
    /// As [`Container::lock`].
    pub fn lock_record(&self) -> Result<File> {
        let path = self.dir().join("lock");
        let Some(file) = file::open_or_create(&path)? else {
            return Err(Error::NotFound { kind: "container", name: self.record.name.clone() });
        };
        let mut tries = 0..PROBES;
        loop {
            if try_lock(&file, FlockOperation::NonBlockingLockExclusive).doing("lock", &path)? {
                break;
            }
            match tries.next() {
                Some(_) => std::thread::sleep(PROBE),
                None => return Err(self.in_use()),
            }
        }
        // A process that removes the container holds the lock until it is gone; then this file is no longer the one at `path`.
        let record = self.dir().join("record.json");
        if !fs::is_there(&record).doing("read", &record)? {
            return Err(Error::NotFound { kind: "container", name: self.record.name.clone() });
        }
        Ok(file)
    }

    /// Removes the mountpoint that it has when no place is named.
    ///
    /// # Errors
    /// When it is there, is empty and cannot be removed.
    pub fn remove_default_mountpoint(&self) -> Result<()> {
        remove_mountpoint(&self.default_mountpoint())
    }

    /// Whether a process has locked it.
    pub(super) fn is_locked(&self) -> Result<bool> {
        let path = self.dir().join("lock");
        // Without the file no server has ever had it.
        match file::open(&path)? {
            Some(file) => Ok(!try_lock(&file, FlockOperation::NonBlockingLockShared).doing("lock", &path)?),
            None => Ok(false),
        }
    }

    /// That it is mounted, as an error.
    #[must_use]
    pub fn in_use(&self) -> Error {
        let by = match self.mount() {
            Ok(Some(mount)) => format!("mounted at {}", mount.mountpoint.display()),
            // error: it is an error already, and only says less
            Ok(None) | Err(_) => "a server has it".to_owned(),
        };
        Error::InUse { kind: "container", name: self.record.name.clone(), by }
    }

    /// Its latest mount, if it was ever mounted.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn mount(&self) -> Result<Option<MountRecord>> {
        read_json(&self.dir().join("mount.json"))
    }

    /// How it is now.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn state(&self) -> Result<ContainerState> {
        // In this order: a server ends its record before it lets go of the lock.
        let held = self.is_locked()?;
        Ok(match self.mount()? {
            None => ContainerState::Created,
            Some(mount) if mount.ended => ContainerState::Exited,
            Some(mount) if mount.overlay.is_some() => self.overlay_state(&mount, held)?,
            Some(_) if held => ContainerState::Running,
            Some(_) => ContainerState::Dead,
        })
    }
}
