//! Making what was staged a part of the store: all of an import, or nothing of it.

use std::path::{Path, PathBuf};

use super::layer::LayerRecord;
use super::lock::{Guard, sync_dir};
use super::staging::Staging;
use super::{ImageRecord, Store, json, now};
use crate::error::{Context as _, Result};
use crate::id::{DiffId, Digest, ImageId, ImageName};
use crate::index::Index;

/// A layer that is complete in its staging directory.
#[derive(Debug)]
pub struct StagedLayer {
    dir: PathBuf,
    record: LayerRecord,
}

/// An image to be published.
#[derive(Debug)]
pub struct NewImage {
    /// The config's bytes, as they came.
    pub config: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<DiffId>,
    /// The names it gets; who had one of them before loses it.
    pub names: Vec<ImageName>,
}

impl StagedLayer {
    /// The layer's files, in a directory that [`StagedLayer::new`] is given.
    pub const DIFF: &str = "diff";
    /// The layer's tar without the files' content.
    pub const SPLIT: &str = "split";

    /// Completes the layer in `dir`, which has its `diff` and `split`, with its index and its record.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(dir: PathBuf, mut record: LayerRecord, index: &Index) -> Result<Self> {
        record.created = now();
        write(&dir.join("index"), index.as_bytes())?;
        write(&dir.join("json"), &json(&record)?)?;
        Ok(Self { dir, record })
    }

    /// What is known of it.
    #[must_use]
    pub const fn record(&self) -> &LayerRecord {
        &self.record
    }
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content).doing("write", path)
}

impl Store {
    /// Makes layers and images visible, after all their bytes are on the disk.
    ///
    /// A layer that has come into the store meanwhile is left as it is.
    ///
    /// # Errors
    /// When the disk refuses; then no image was published, and at most whole layers.
    pub fn publish(&self, staging: Staging, layers: &[StagedLayer], images: &[NewImage]) -> Result<Vec<ImageId>> {
        let mut staged = Vec::new();
        for (number, image) in images.iter().enumerate() {
            let dir = staging.dir().join(format!("image-{number}"));
            std::fs::create_dir(&dir).doing("create", &dir)?;
            let known = |diff_id| layers.iter().find(|layer| layer.record.diff_id == diff_id);
            let size = |diff_id| known(diff_id).map_or_else(|| self.layer(diff_id), |layer| Ok(layer.record.clone()));
            let size =
                image.layers.iter().map(|layer| size(*layer).map(|record| record.content_bytes)).sum::<Result<_>>()?;
            let record = ImageRecord { layers: image.layers.clone(), size, imported: now() };
            write(&dir.join("config"), &image.config)?;
            write(&dir.join("record.json"), &json(&record)?)?;
            staged.push((ImageId(Digest::of(&image.config)), dir, &image.names));
        }
        if !layers.is_empty() || !images.is_empty() {
            self.sync()?;
        }
        let guard = self.lock()?;
        let mut new = Vec::new();
        for layer in layers {
            if !self.layer_path(layer.record.diff_id, "json").exists() {
                self.place_layer(&guard, &staging, layer)?;
                new.push(layer);
            }
        }
        if !new.is_empty() {
            sync_dir(&self.root.join("diff"))?;
            sync_dir(&self.root.join("layers"))?;
            for layer in &new {
                let path = self.layer_path(layer.record.diff_id, "json");
                std::fs::rename(layer.dir.join("json"), &path).doing("put into place", &path)?;
            }
            sync_dir(&self.root.join("layers"))?;
        }
        let mut ids = Vec::new();
        for (id, dir, names) in staged {
            let place = self.image_dir(id);
            // One that is damaged is replaced.
            if self.image(id).is_err() {
                set_aside(&staging, &place)?;
                std::fs::rename(&dir, &place).doing("put into place", &place)?;
                sync_dir(&self.root.join("images"))?;
            }
            for name in names {
                self.set_name(&guard, name, id)?;
            }
            ids.push(id);
        }
        drop(guard);
        drop(staging);
        Ok(ids)
    }

    /// Moves a layer's files to where its record will say they are.
    fn place_layer(&self, _: &Guard<'_>, staging: &Staging, layer: &StagedLayer) -> Result<()> {
        let diff_id = layer.record.diff_id;
        let diff = self.diff_dir(&diff_id.hex());
        set_aside(staging, &diff)?;
        std::fs::rename(layer.dir.join(StagedLayer::DIFF), &diff).doing("put into place", &diff)?;
        for extension in ["index", "split"] {
            let path = self.layer_path(diff_id, extension);
            std::fs::rename(layer.dir.join(extension), &path).doing("put into place", &path)?;
        }
        Ok(())
    }
}

/// Moves away what stands where no record says that anything is: the rest of a process that died.
pub(super) fn set_aside(staging: &Staging, path: &Path) -> Result<()> {
    let aside = staging.dir().join(format!("aside-{}", Digest::of(path.as_os_str().as_encoded_bytes()).hex()));
    match std::fs::rename(path, aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).doing("move away", path),
        _ => Ok(()),
    }
}
