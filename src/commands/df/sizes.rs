//! The size of each thing in a store. Files that several have, by hard links, count for the first one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::Result;
use crate::id::{ContainerId, DiffId, ImageId};
use crate::store::{Meter, Plan, References, Store, Usage};

/// What each thing takes.
pub(super) struct Sizes {
    pub(super) layers: BTreeMap<DiffId, Usage>,
    pub(super) images: BTreeMap<ImageId, Usage>,
    pub(super) containers: BTreeMap<ContainerId, Usage>,
    pub(super) leftovers: Usage,
}

impl Sizes {
    /// Measures all that `references` has found, and what belongs to nothing.
    pub(super) fn measure(store: &Store, references: &References, leftovers: &[PathBuf]) -> Result<Self> {
        let mut meter = Meter::default();
        let mut sizes = Self {
            layers: BTreeMap::new(),
            images: BTreeMap::new(),
            containers: BTreeMap::new(),
            leftovers: Usage::default(),
        };
        for layer in &references.layers {
            sizes.layers.insert(*layer, meter.measure_all(&store.layer_paths(*layer))?);
        }
        for image in references.images.keys() {
            sizes.images.insert(*image, meter.measure_all(&store.image_paths(references, *image))?);
        }
        for container in references.containers.keys() {
            sizes.containers.insert(*container, meter.measure_all(&store.container_paths(*container)?)?);
        }
        sizes.leftovers = meter.measure_all(leftovers)?;
        Ok(sizes)
    }

    pub(super) fn layer(&self, layer: &DiffId) -> Usage {
        self.layers.get(layer).copied().unwrap_or_default()
    }

    pub(super) fn image(&self, image: &ImageId) -> Usage {
        self.images.get(image).copied().unwrap_or_default()
    }

    pub(super) fn container(&self, container: &ContainerId) -> Usage {
        self.containers.get(container).copied().unwrap_or_default()
    }

    /// The images and layers of a plan.
    pub(super) fn images_of(&self, plan: &Plan) -> Usage {
        let layers = plan.layers.iter().map(|layer| self.layer(layer));
        layers.chain(plan.images.iter().map(|image| self.image(image))).sum()
    }

    /// The containers of a plan.
    pub(super) fn containers_of(&self, plan: &Plan) -> Usage {
        plan.containers.iter().map(|container| self.container(container)).sum()
    }
}
