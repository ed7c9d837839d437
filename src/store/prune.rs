//! What can go: the one plan by which `df` counts and `prune` removes.
//!
//! The plan reads only the records that say what is needed, so damaged objects go like others. If an image or container
//! stays and its damage hides what it needs, everything that it may need stays.

use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::lock::{Settled, try_lock};
use super::references::References;
use super::{Store, file, names_in, now};
use crate::error::{Context as _, Error, Result};
use crate::id::{ContainerId, DiffId, ImageId};
use crate::sys::fs;

/// A container that was never mounted may be about to be, for so many seconds.
const NEW: u64 = 60;

/// What may go in addition to unreferenced objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneScope {
    /// All images that no container needs, and not only those without a name.
    pub all: bool,
    /// Containers that are not mounted, with what was written in them.
    pub containers: bool,
}

/// What can go, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Containers that are not mounted.
    pub containers: Vec<ContainerId>,
    /// Images.
    pub images: Vec<ImageId>,
    /// Layers that nothing needs once those are gone.
    pub layers: Vec<DiffId>,
    /// What belongs to nothing.
    pub leftovers: Vec<PathBuf>,
}

impl Store {
    /// Gives all references, and for each scope what could go, at one moment.
    ///
    /// # Errors
    /// When a directory of the store cannot be read.
    pub fn plans<const N: usize>(&self, scopes: [PruneScope; N]) -> Result<(References, [Plan; N])> {
        let hold = self.hold()?;
        let references = self.references(&hold)?;
        let leftovers = self.leftovers(&hold, &references)?;
        let mut idle = Vec::new();
        for container in references.containers.keys() {
            if self.is_idle(&references, *container)? {
                idle.push(*container);
            }
        }
        let plans = scopes.map(|scope| plan(&references, scope, &idle, &leftovers));
        Ok((references, plans))
    }

    /// Removes images, and what no reference needs then; not containers.
    ///
    /// # Errors
    /// When the store cannot be changed.
    pub fn prune(&self, scope: PruneScope) -> Result<()> {
        let staging = self.stage_removal()?;
        let guard = self.lock()?;
        let references = self.references(&guard)?;
        let leftovers = self.leftovers(&guard, &references)?;
        let plan = plan(&references, PruneScope { containers: false, ..scope }, &[], &leftovers);
        // Names first: at no moment one is the name of nothing.
        for (id, image) in references.images.iter().filter(|(id, _)| plan.images.binary_search(id).is_ok()) {
            for name in &image.names {
                staging.move_to_trash(&self.name_path(name))?;
            }
            staging.move_to_trash(&self.image_dir(*id))?;
        }
        self.sync_dir(&self.root.join("images/names"))?;
        self.sync_dir(&self.root.join("images"))?;
        self.sweep(&guard, &staging)?;
        let (tmp, mnt) = (self.root.join("tmp"), self.root.join("mnt"));
        // Directories in them have owners, or something mounted on them, and were looked at.
        for path in plan.leftovers.iter().filter(|path| !path.starts_with(&mnt)) {
            if !path.starts_with(&tmp) || is_file(path)? {
                staging.move_to_trash(path)?;
            }
        }
        drop(guard);
        staging.finish()
    }

    /// All that belongs to a container.
    ///
    /// # Errors
    /// When a directory of the store cannot be read.
    pub fn container_paths(&self, container: ContainerId) -> Result<Vec<PathBuf>> {
        let hex = container.hex();
        let mut paths: Vec<PathBuf> =
            ["containers", "diff", "layers", "mnt"].iter().map(|dir| self.root.join(dir).join(&hex)).collect();
        for name in names_in(&self.root.join("containers/names"))? {
            let path = self.container_name_path(&name);
            if file::read(&path)?.is_some_and(|id| id.trim_ascii_end() == hex.as_bytes()) {
                paths.push(path);
            }
        }
        Ok(paths)
    }

    /// All that belongs to an image, but for its layers.
    #[must_use]
    pub fn image_paths(&self, references: &References, image: ImageId) -> Vec<PathBuf> {
        let names = references.images.get(&image).into_iter().flat_map(|image| &image.names);
        names.map(|name| self.name_path(name)).chain([self.image_dir(image)]).collect()
    }

    /// All that belongs to a layer.
    #[must_use]
    pub fn layer_paths(&self, layer: DiffId) -> Vec<PathBuf> {
        let parts = ["json", "index", "split"].map(|extension| self.layer_path(layer, extension));
        parts.into_iter().chain([self.diff_dir(&layer.hex())]).collect()
    }

    /// Whether a server, or the kernel, has the container.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn is_held(&self, container: ContainerId) -> Result<bool> {
        Ok(self.is_locked(container)? || self.has_overlay(container)?)
    }

    fn is_locked(&self, container: ContainerId) -> Result<bool> {
        let path = self.root.join("containers").join(container.hex()).join("lock");
        match file::open(&path) {
            Ok(Some(file)) => Ok(!try_lock(&file, FlockOperation::NonBlockingLockShared).doing("lock", &path)?),
            // No server can hold what is no file.
            Ok(None) | Err(Error::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_idle(&self, references: &References, container: ContainerId) -> Result<bool> {
        let record = references.containers.get(&container).and_then(Option::as_ref);
        let is_new = record.is_some_and(|record| now().saturating_sub(record.created) < NEW);
        let mount = self.root.join("containers").join(container.hex()).join("mount.json");
        Ok(!self.is_held(container)? && (!is_new || fs::is_there(&mount).doing("read", &mount)?))
    }

    fn leftovers(&self, settled: &dyn Settled, references: &References) -> Result<Vec<PathBuf>> {
        let mut leftovers = self.strays(settled)?;
        leftovers.extend(self.dead(settled)?.into_iter().map(|(dir, _)| dir));
        let tmp = self.root.join("tmp");
        for path in names_in(&tmp)?.into_iter().map(|name| tmp.join(name)) {
            if is_file(&path)? {
                leftovers.push(path);
            }
        }
        let names = self.root.join("images/names");
        leftovers.extend(references.dangling_names.keys().map(|file| names.join(file)));
        Ok(leftovers)
    }
}

/// Whether a file is there, and not a directory.
pub(super) fn is_file(path: &Path) -> Result<bool> {
    Ok(fs::found(path).doing("read", path)?.is_some_and(|there| there.is_file()))
}

fn plan(references: &References, scope: PruneScope, idle: &[ContainerId], leftovers: &[PathBuf]) -> Plan {
    let containers = if scope.containers { idle.to_vec() } else { Vec::new() };
    // Both are in the order of their ids.
    let stays = |container: ContainerId| containers.binary_search(&container).is_err();
    // A container that cannot be asked may be made from any image; a name that cannot be read may be any image's.
    let is_asked = references.containers.iter().all(|(id, record)| record.is_some() || !stays(*id));
    let goes = |image: &super::ReferencedImage| {
        let is_unnamed = image.names.is_empty() && references.damaged_names.is_empty();
        is_asked && (scope.all || is_unnamed) && !image.containers.iter().any(|container| stays(*container))
    };
    let images: Vec<ImageId> = references.images.iter().filter(|(_, image)| goes(image)).map(|(id, _)| *id).collect();
    let layers = references.unneeded(|image| images.binary_search(&image).is_err(), stays);
    Plan { layers, images, containers, leftovers: leftovers.to_vec() }
}
