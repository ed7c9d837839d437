//! What nobody needs any more: layers that no image and no container refers to, and what a process that died
//! has left in places where only a record can say that it belongs.

use std::collections::BTreeSet;
use std::fs::File;

use rustix::fs::FlockOperation;

use super::lock::{Guard, flock};
use super::publish::set_aside;
use super::{ImageRecord, Staging, Store, names_in, read_json, read_optional};
use crate::error::{Context as _, Result};
use crate::id::{ContainerId, DiffId};

impl Store {
    /// Moves those layers away that no image, container or living process needs.
    pub(super) fn remove_unused(&self, guard: &Guard<'_>, staging: &Staging) -> Result<Vec<DiffId>> {
        // Who cannot be asked what it needs may need any.
        let Ok(used) = self.used_layers(guard) else { return Ok(Vec::new()) };
        let mut removed = Vec::new();
        for layer in self.layers()?.into_iter().filter(|layer| !used.contains(layer)) {
            let record = self.layer_path(layer, "json");
            let Ok(file) = File::open(&record) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            std::fs::remove_file(&record).doing("remove", &record)?;
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

    fn used_layers(&self, _: &Guard<'_>) -> Result<BTreeSet<DiffId>> {
        let mut used = BTreeSet::new();
        for id in self.images()? {
            if let Some(ImageRecord { layers, .. }) = read_json(&self.image_dir(id).join("record.json"))? {
                used.extend(layers);
            }
        }
        for container in self.containers()? {
            used.extend(container?.record.layers);
        }
        Ok(used)
    }

    /// Moves all away that has no record: who makes a record does so under the lock that is held here.
    pub(super) fn sweep(&self, guard: &Guard<'_>, staging: &Staging) -> Result<()> {
        self.remove_unused(guard, staging)?;
        let is_layer = |hex: &str| self.root.join("layers").join(format!("{hex}.json")).exists();
        let is_container = |hex: &str| self.root.join("containers").join(hex).exists();
        for hex in names_in(&self.root.join("diff"))? {
            if !is_layer(&hex) && !is_container(&hex) {
                set_aside(staging, &self.diff_dir(&hex))?;
            }
        }
        for name in names_in(&self.root.join("layers"))? {
            let belongs = match name.split_once('.') {
                Some((hex, _)) => is_layer(hex),
                None => is_container(&name),
            };
            if !belongs {
                set_aside(staging, &self.root.join("layers").join(name))?;
            }
        }
        for name in names_in(&self.root.join("containers/names"))? {
            let path = self.container_name_path(&name);
            let id = read_optional(&path)?.and_then(|hex| String::from_utf8(hex).ok());
            let id = id.and_then(|hex| hex.trim_end().parse::<ContainerId>().ok());
            if id.is_none_or(|id| !is_container(&id.hex())) {
                set_aside(staging, &path)?;
            }
        }
        for hex in names_in(&self.root.join("mnt"))?.iter().filter(|hex| !is_container(hex)) {
            // Never with its content: should something be mounted there, it is not ours to remove.
            let _ = std::fs::remove_dir(self.root.join("mnt").join(hex));
        }
        Ok(())
    }
}
