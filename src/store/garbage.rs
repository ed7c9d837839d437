//! Garbage: layers that no image and no container refers to, and what a process that died has left in places where only a
//! record can say that it belongs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::lock::{Guard, Settled, try_lock};
use super::{Staging, Store, file, names_in};
use crate::error::{Context as _, Error, Result};
use crate::id::{ContainerId, DiffId};
use crate::sys::fs;

impl Store {
    /// Moves those layers away that no image, container or living process needs.
    pub(super) fn remove_unused(&self, guard: &Guard<'_>, staging: &Staging) -> Result<Vec<DiffId>> {
        let unneeded = self.references(guard)?.unneeded(|_| true, |_| true);
        let mut removed = Vec::new();
        let mut done = Ok(());
        for layer in unneeded {
            match self.remove_layer_record(staging, layer) {
                Ok(true) => removed.push(layer),
                Ok(false) => {}
                Err(error) => done = done.and(Err(error)),
            }
        }
        // No record is to be found after a power cut without what it names.
        if !removed.is_empty() {
            self.sync_dir(&self.root.join("layers"))?;
        }
        for layer in &removed {
            let parts = ["index", "split"].map(|extension| self.layer_path(*layer, extension));
            for path in parts.into_iter().chain([self.diff_dir(&layer.hex())]) {
                staging.move_to_trash(&path)?;
            }
        }
        done.map(|()| removed)
    }

    /// Whether nothing keeps the layer; then its record is gone.
    fn remove_layer_record(&self, staging: &Staging, layer: DiffId) -> Result<bool> {
        let record = self.layer_path(layer, "json");
        match file::open(&record) {
            Ok(Some(file)) => {
                let is_free = try_lock(&file, FlockOperation::NonBlockingLockExclusive).doing("lock", &record)?;
                if is_free {
                    fs::remove_file(&record).doing("remove", &record)?;
                }
                Ok(is_free)
            }
            // The record is no regular file, so no process can hold a lease by it.
            Err(Error::Corrupt { .. }) => staging.move_to_trash(&record).map(|()| true),
            opened => opened.map(|_| false),
        }
    }

    /// Moves all away that has no record. Records are made only under the lock that the caller holds here.
    pub(super) fn sweep(&self, guard: &Guard<'_>, staging: &Staging) -> Result<()> {
        let mut done = self.remove_unused(guard, staging).map(drop);
        for path in self.strays(guard)? {
            let removed = if path.starts_with(self.root.join("mnt")) {
                remove_mountpoint(&path)
            } else {
                staging.move_to_trash(&path)
            };
            done = done.and(removed);
        }
        done
    }

    /// What stands where only a record can say that it belongs, and has none.
    pub(super) fn strays(&self, _: &dyn Settled) -> Result<Vec<PathBuf>> {
        let is_there = |path: PathBuf| fs::is_there(&path).doing("read", &path);
        let is_layer = |hex: &str| is_there(self.root.join("layers").join(format!("{hex}.json")));
        let is_container = |hex: &str| is_there(self.root.join("containers").join(hex));
        let mut strays = Vec::new();
        for hex in names_in(&self.root.join("diff"))? {
            if !is_layer(&hex)? && !is_container(&hex)? {
                strays.push(self.diff_dir(&hex));
            }
        }
        for name in names_in(&self.root.join("layers"))? {
            let belongs = match name.split_once('.') {
                Some((hex, _)) => is_layer(hex)?,
                None => is_container(&name)?,
            };
            if !belongs {
                strays.push(self.root.join("layers").join(name));
            }
        }
        for name in names_in(&self.root.join("containers/names"))? {
            let path = self.container_name_path(&name);
            let id = match file::read(&path) {
                Err(Error::Corrupt { .. }) => None,
                read => read?,
            };
            let id = id.and_then(|hex| String::from_utf8(hex).ok());
            let id = id.and_then(|hex| hex.trim_end().parse::<ContainerId>().ok());
            let belongs = match id {
                Some(id) => is_container(&id.hex())?,
                None => false,
            };
            if !belongs {
                strays.push(path);
            }
        }
        for hex in names_in(&self.root.join("mnt"))? {
            if !is_container(&hex)? {
                strays.push(self.root.join("mnt").join(hex));
            }
        }
        Ok(strays)
    }
}

/// Removes a container's mountpoint, but never its content: should something be mounted there, it is not ours to remove.
pub(super) fn remove_mountpoint(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        removed => removed.doing("remove", path),
    }
}
