//! In which spelling a container's rw layer is, and how it gets the other one.
//!
//! The rw layer is made anew beside the old one, and the two change places in one step. Before it, the container's `rw.json`
//! says which directory is to come: a process that is killed in between leaves a rw layer of which it is certain what it is.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};

use super::format::OVERLAY_UPPERS;
use super::{Container, Staging, Store, json, read_json};
use crate::error::{Context as _, Result};
use crate::sys::{call, fs};

/// How a rw layer says what it hides, and what else it needs to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spelling {
    /// As this program's union writes it: names that begin with `.wh.`, marks `trusted.layerctl.*`.
    #[default]
    Aufs,
    /// As the kernel's overlayfs writes it: devices 0:0, marks `trusted.overlay.*`, an index beside it.
    Overlayfs,
}

#[derive(Debug, Serialize, Deserialize)]
struct RwRecord {
    spelling: Spelling,
    /// What is to take the place of the rw layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Next>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Next {
    spelling: Spelling,
    /// The inode number of its directory.
    inode: u64,
}

impl Container {
    fn rw_record(&self) -> PathBuf {
        self.dir().join("rw.json")
    }

    /// The directory that overlayfs has for itself.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.dir().join("work")
    }

    /// Overlayfs' index of copies of files that have several names.
    #[must_use]
    pub fn overlay_index(&self) -> PathBuf {
        self.work().join("index")
    }

    /// In which spelling its rw layer is. It stays so while the container's lock is held, or the container is mounted.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn spelling(&self) -> Result<Spelling> {
        let Some(record) = read_json::<RwRecord>(&self.rw_record())? else { return Ok(Spelling::default()) };
        let Some(next) = record.next else { return Ok(record.spelling) };
        let upper = self.upper();
        let inode = fs::symlink_metadata(&upper).doing("read", &upper)?.ino();
        Ok(if inode == next.inode { next.spelling } else { record.spelling })
    }
}

impl Store {
    /// Says that the rw layer of a container, whose lock is held, is in this spelling: one that is empty is in each.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_spelling(&self, container: &Container, spelling: Spelling) -> Result<()> {
        let guard = self.lock()?;
        if spelling == Spelling::Overlayfs {
            self.require(&guard, OVERLAY_UPPERS)?;
        }
        guard.write(&container.rw_record(), &json(&RwRecord { spelling, next: None })?)
    }

    /// Puts the directory `made` of `staging` into the place of the rw layer of a container, whose lock is held. The old one goes with
    /// `staging`, and what overlayfs had beside it.
    ///
    /// # Errors
    /// When that cannot be done; then the rw layer is the old one, or the new one.
    pub fn replace_rw_layer(
        &self,
        container: &Container,
        staging: &Staging,
        made: &Path,
        spelling: Spelling,
    ) -> Result<()> {
        let (upper, now) = (container.upper(), container.spelling()?);
        // What is to stay is on the disk before anything says that it is there.
        self.sync(staging)?;
        let inode = fs::symlink_metadata(made).doing("read", made)?.ino();
        {
            let guard = self.lock()?;
            self.require(&guard, OVERLAY_UPPERS)?;
            let next = Some(Next { spelling, inode });
            guard.write(&container.rw_record(), &json(&RwRecord { spelling: now, next })?)?;
        }
        call::renameat_with(CWD, made, CWD, &upper, RenameFlags::EXCHANGE).doing("put into place", &upper)?;
        self.sync_dir(&self.diff_dir(""))?;
        self.sync_dir(staging.dir())?;
        self.clear_overlay_work(container, staging)?;
        let guard = self.lock()?;
        guard.write(&container.rw_record(), &json(&RwRecord { spelling, next: None })?)
    }

    /// Takes away what overlayfs has beside a rw layer: what it says there is of that rw layer, and of no other.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn clear_overlay_work(&self, container: &Container, staging: &Staging) -> Result<()> {
        staging.move_to_trash(&container.work())
    }
}
