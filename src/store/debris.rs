//! What nobody needs any more: layers that no image and no container refers to, and what a process that died
//! has left in places where only a record can say that it belongs.

use std::path::PathBuf;

use rustix::fs::FlockOperation;

use super::lock::{Guard, Settled, flock};
use super::publish::set_aside;
use super::{Staging, Store, file, names_in};
use crate::error::{Context as _, Error, Result};
use crate::id::{ContainerId, DiffId};

impl Store {
    /// Moves those layers away that no image, container or living process needs.
    pub(super) fn remove_unused(&self, guard: &Guard<'_>, staging: &Staging) -> Result<Vec<DiffId>> {
        let unneeded = self.reach(guard)?.unneeded(|_| true, |_| true);
        let mut removed = Vec::new();
        for layer in unneeded {
            let record = self.layer_path(layer, "json");
            match file::open(&record) {
                Ok(Some(file)) if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() => {
                    std::fs::remove_file(&record).doing("remove", &record)?;
                }
                // Nobody can keep a layer by what is no file.
                Err(Error::Corrupt { .. }) => set_aside(staging, &record)?,
                Ok(_) | Err(_) => continue,
            }
            removed.push(layer);
        }
        // No record is to be found after a power cut without what it names.
        if !removed.is_empty() {
            self.sync_dir(&self.root.join("layers"))?;
        }
        for layer in &removed {
            let parts = ["index", "split"].map(|extension| self.layer_path(*layer, extension));
            for path in parts.into_iter().chain([self.diff_dir(&layer.hex())]) {
                set_aside(staging, &path)?;
            }
        }
        Ok(removed)
    }

    /// Moves all away that has no record: who makes a record does so under the lock that is held here.
    pub(super) fn sweep(&self, guard: &Guard<'_>, staging: &Staging) -> Result<()> {
        self.remove_unused(guard, staging)?;
        for path in self.strays(guard)? {
            if path.starts_with(self.root.join("mnt")) {
                // Never with its content: should something be mounted there, it is not ours to remove.
                let _ = std::fs::remove_dir(path);
            } else {
                set_aside(staging, &path)?;
            }
        }
        Ok(())
    }

    /// What stands where only a record can say that it belongs, and has none.
    pub(super) fn strays(&self, _: &dyn Settled) -> Result<Vec<PathBuf>> {
        let is_layer = |hex: &str| self.root.join("layers").join(format!("{hex}.json")).exists();
        let is_container = |hex: &str| self.root.join("containers").join(hex).exists();
        let mut strays = Vec::new();
        for hex in names_in(&self.root.join("diff"))? {
            if !is_layer(&hex) && !is_container(&hex) {
                strays.push(self.diff_dir(&hex));
            }
        }
        for name in names_in(&self.root.join("layers"))? {
            let belongs = match name.split_once('.') {
                Some((hex, _)) => is_layer(hex),
                None => is_container(&name),
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
            if id.is_none_or(|id| !is_container(&id.hex())) {
                strays.push(path);
            }
        }
        for hex in names_in(&self.root.join("mnt"))?.iter().filter(|hex| !is_container(hex)) {
            strays.push(self.root.join("mnt").join(hex));
        }
        Ok(strays)
    }
}
