//! Making what was staged a part of the store: all of an import, or nothing of it.

use std::path::{Path, PathBuf};

use super::image::NameRecord;
use super::layer::LayerRecord;
use super::lock::Guard;
use super::placement::Placement;
use super::staging::Staging;
use super::{ImageRecord, Store, file, json, now};
use crate::error::{Context as _, Result, readable};
use crate::id::{DiffId, Digest, ImageId, ImageName};
use crate::index::Index;
use crate::sys::fs;

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
    /// The names it gets; an image that had one of them before loses it.
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

    /// Its tree.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn index(&self) -> Result<Index> {
        let path = self.dir.join("index");
        let bytes = file::read(&path)?.ok_or_else(|| crate::Error::corrupt(&path, "is missing"))?;
        Index::decode(bytes).map_err(|error| crate::Error::corrupt(path, error.to_string()))
    }

    /// Its tar without the files' content.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_split(&self) -> Result<std::fs::File> {
        let path = self.dir.join(Self::SPLIT);
        file::open(&path)?.ok_or_else(|| crate::Error::corrupt(path, "is missing"))
    }

    /// What is known of it.
    #[must_use]
    pub const fn record(&self) -> &LayerRecord {
        &self.record
    }
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).doing("write", path)
}

/// An image that is complete in its staging directory, and its names beside it, each with its place.
struct StagedImage {
    id: ImageId,
    dir: PathBuf,
    names: Vec<(PathBuf, PathBuf)>,
}

impl Store {
    /// Makes layers and images visible, after all their bytes are on the disk: one barrier for all of them.
    ///
    /// A layer that has come into the store meanwhile is left as it is.
    ///
    /// # Errors
    /// When the disk refuses; then the store is as it was, but for layers that another process uses already.
    pub fn publish(&self, staging: Staging, layers: &[StagedLayer], images: &[NewImage]) -> Result<Vec<ImageId>> {
        let staged: Vec<StagedImage> = images
            .iter()
            .enumerate()
            .map(|(number, image)| self.stage_image(&staging, number, image, layers))
            .collect::<Result<_>>()?;
        if !layers.is_empty() || !images.is_empty() {
            self.sync(&staging)?;
        }
        let guard = self.lock()?;
        let mut placement = Placement::new(&staging);
        if let Err(error) = self.place(&guard, &mut placement, layers, &staged) {
            placement.take_back();
            return Err(error);
        }
        drop(guard);
        drop(staging);
        Ok(staged.iter().map(|image| image.id).collect())
    }

    fn stage_image(
        &self,
        staging: &Staging,
        number: usize,
        image: &NewImage,
        layers: &[StagedLayer],
    ) -> Result<StagedImage> {
        let dir = staging.dir().join(format!("image-{number}"));
        fs::create_dir(&dir).doing("create", &dir)?;
        let known = |diff_id| layers.iter().find(|layer| layer.record.diff_id == diff_id);
        let size = |diff_id| known(diff_id).map_or_else(|| self.layer(diff_id), |layer| Ok(layer.record.clone()));
        let size =
            image.layers.iter().map(|layer| size(*layer).map(|record| record.content_bytes)).sum::<Result<_>>()?;
        let record = ImageRecord { layers: image.layers.clone(), size, imported: now() };
        write(&dir.join("config"), &image.config)?;
        write(&dir.join("record.json"), &json(&record)?)?;
        let id = ImageId(Digest::of(&image.config));
        let mut names = Vec::new();
        for (which, name) in image.names.iter().enumerate() {
            let path = staging.dir().join(format!("name-{number}-{which}"));
            write(&path, &json(&NameRecord { name: name.clone(), image: id })?)?;
            names.push((path, self.name_path(name)));
        }
        Ok(StagedImage { id, dir, names })
    }

    /// Each kind of record is on the disk before one that names it: layers, images, names. However many there are, it
    /// is one flush for each.
    fn place(
        &self,
        _: &Guard<'_>,
        placement: &mut Placement<'_>,
        layers: &[StagedLayer],
        images: &[StagedImage],
    ) -> Result<()> {
        let mut new: Vec<&StagedLayer> = Vec::new();
        for layer in layers {
            let diff_id = layer.record.diff_id;
            let record = self.layer_path(diff_id, "json");
            if fs::is_there(&record).doing("read", &record)? {
                continue;
            }
            // What stands there without a record is the rest of a process that died.
            placement.put_part(diff_id, layer.dir.join(StagedLayer::DIFF), self.diff_dir(&diff_id.hex()))?;
            for extension in ["index", "split"] {
                placement.put_part(diff_id, layer.dir.join(extension), self.layer_path(diff_id, extension))?;
            }
            new.push(layer);
        }
        if !new.is_empty() {
            self.sync_dir(&self.root.join("diff"))?;
            self.sync_dir(&self.root.join("layers"))?;
            for layer in new {
                let diff_id = layer.record.diff_id;
                placement.put_record(diff_id, layer.dir.join("json"), self.layer_path(diff_id, "json"))?;
            }
            self.sync_dir(&self.root.join("layers"))?;
        }
        let mut has_new = false;
        for image in images {
            // One that is damaged is replaced.
            if readable(self.image(image.id))?.is_none() {
                placement.put(image.dir.clone(), self.image_dir(image.id))?;
                has_new = true;
            }
        }
        if has_new {
            self.sync_dir(&self.root.join("images"))?;
        }
        let names: Vec<_> = images.iter().flat_map(|image| &image.names).collect();
        for (from, to) in &names {
            placement.put(from.clone(), to.clone())?;
        }
        if !names.is_empty() {
            self.sync_dir(&self.root.join("images/names"))?;
        }
        Ok(())
    }
}
