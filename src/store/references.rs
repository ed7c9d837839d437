//! The references in the store: which image has which names, containers and layers. Removal, `prune`, `df` and `verify` share
//! this one answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::image::NameRecord;
use super::lock::Settled;
use super::{ContainerRecord, ImageRecord, Store, file, names_in, read_json};
use crate::error::{Error, Result};
use crate::id::{ContainerId, DiffId, Digest, ImageId, ImageName};
use crate::json;

/// An image, and what refers to it.
#[derive(Debug, Clone, Default)]
pub struct ReferencedImage {
    /// Its names.
    pub names: Vec<ImageName>,
    /// The containers that are made from it.
    pub containers: Vec<ContainerId>,
    /// Its layers; `None` when its damage hides them.
    pub layers: Option<Vec<DiffId>>,
}

/// Everything in the store that needs something or is needed.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// The images.
    pub images: BTreeMap<ImageId, ReferencedImage>,
    /// The containers; `None` for a record that cannot be read.
    pub containers: BTreeMap<ContainerId, Option<ContainerRecord>>,
    /// The layers that have a record.
    pub layers: BTreeSet<DiffId>,
    /// Names of images that are not there, by the files they are in.
    pub dangling_names: BTreeMap<String, ImageName>,
    /// Files of names that cannot be read.
    pub damaged_names: BTreeSet<String>,
}

/// What is read of a config: it says the same of the layers as the record.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RootFs {
    diff_ids: Option<Vec<DiffId>>,
}

/// The layers that an image's config names; `None` when it is damaged or missing.
pub(super) fn config_layers(id: ImageId, config: Option<&[u8]>) -> Option<Vec<DiffId>> {
    let config = config.filter(|config| Digest::of(config) == id.0)?;
    Some(json::from_slice::<Config>(config).ok()?.rootfs.diff_ids.unwrap_or_default())
}

impl Store {
    /// Finds all references.
    ///
    /// # Errors
    /// When something cannot be read; a damaged record stands in the answer as what it is.
    pub(super) fn references(&self, settled: &dyn Settled) -> Result<References> {
        self.collect_references(settled, |error| matches!(error, Error::Corrupt { .. }))
    }

    /// As [`Store::references`], for a report on damage: a record that the disk cannot read is damaged.
    pub(super) fn references_with_damage(&self, settled: &dyn Settled) -> Result<References> {
        self.collect_references(settled, Error::is_damage)
    }

    fn collect_references(&self, _: &dyn Settled, is_damage: impl Fn(&Error) -> bool) -> Result<References> {
        let mut references = References { layers: self.layers()?.into_iter().collect(), ..References::default() };
        for id in self.images()? {
            let dir = self.image_dir(id);
            let config = match file::read(&dir.join("config")) {
                // No digest is that of nothing.
                Err(error) if is_damage(&error) => Some(Vec::new()),
                read => read?,
            };
            let layers = match read_json::<ImageRecord>(&dir.join("record.json")) {
                Ok(Some(record)) => Some(record.layers),
                // An image is published whole, so without both it is on its way out.
                Ok(None) if config.is_none() => Some(Vec::new()),
                Err(error) if !is_damage(&error) => return Err(error),
                Ok(None) | Err(_) => config_layers(id, config.as_deref()),
            };
            references.images.insert(id, ReferencedImage { layers, ..ReferencedImage::default() });
        }
        let names = self.root.join("images/names");
        for file in names_in(&names)? {
            match read_json(&names.join(&file)) {
                Ok(None) => {}
                Err(error) if !is_damage(&error) => return Err(error),
                Err(_) => {
                    references.damaged_names.insert(file);
                }
                Ok(Some(NameRecord { name, image })) => match references.images.get_mut(&image) {
                    Some(image) => image.names.push(name),
                    None => {
                        references.dangling_names.insert(file, name);
                    }
                },
            }
        }
        for name in names_in(&self.root.join("containers"))? {
            let Ok(id) = name.parse::<ContainerId>() else { continue };
            let record = match self.container(id) {
                Ok(container) => Some(container.record),
                Err(Error::NotFound { .. }) => None,
                Err(error) if is_damage(&error) => None,
                Err(error) => return Err(error),
            };
            if let Some(image) = record.as_ref().and_then(|record| references.images.get_mut(&record.image)) {
                image.containers.push(id);
            }
            references.containers.insert(id, record);
        }
        Ok(references)
    }
}

impl References {
    /// The layers that are needed when only these images and containers stay; `None` when one of them is so damaged that it
    /// may need any.
    #[must_use]
    pub fn needed(
        &self,
        image_stays: impl Fn(ImageId) -> bool,
        container_stays: impl Fn(ContainerId) -> bool,
    ) -> Option<BTreeSet<DiffId>> {
        let mut needed = BTreeSet::new();
        for (_, image) in self.images.iter().filter(|(id, _)| image_stays(**id)) {
            needed.extend(image.layers.as_ref()?);
        }
        for (_, record) in self.containers.iter().filter(|(id, _)| container_stays(**id)) {
            needed.extend(&record.as_ref()?.layers);
        }
        Some(needed)
    }

    /// The layers that nothing needs when only these images and containers stay.
    #[must_use]
    pub fn unneeded(
        &self,
        image_stays: impl Fn(ImageId) -> bool,
        container_stays: impl Fn(ContainerId) -> bool,
    ) -> Vec<DiffId> {
        let Some(needed) = self.needed(image_stays, container_stays) else { return Vec::new() };
        self.layers.iter().filter(|layer| !needed.contains(layer)).copied().collect()
    }
}
