//! The images and containers that use each layer, found in one pass over them.

use std::collections::{BTreeMap, BTreeSet};

use super::row::DfLayer;
use super::sizes::Sizes;
use crate::id::{DiffId, ImageId};
use crate::store::References;

#[derive(Default)]
struct UsersOfLayer {
    images: Vec<ImageId>,
    containers: usize,
}

/// Which images and how many containers have each layer.
pub(super) struct Users(BTreeMap<DiffId, UsersOfLayer>);

impl Users {
    pub(super) fn of(references: &References) -> Self {
        let mut users: BTreeMap<DiffId, UsersOfLayer> = BTreeMap::new();
        for (id, image) in &references.images {
            // An image may have a layer several times.
            for layer in image.layers.iter().flatten().collect::<BTreeSet<_>>() {
                users.entry(*layer).or_default().images.push(*id);
            }
        }
        for record in references.containers.values().flatten() {
            for layer in record.layers.iter().collect::<BTreeSet<_>>() {
                let count = &mut users.entry(*layer).or_default().containers;
                *count = count.saturating_add(1);
            }
        }
        Self(users)
    }

    pub(super) fn images_with(&self, layer: &DiffId) -> usize {
        self.0.get(layer).map_or(0, |users| users.images.len())
    }

    /// The row of each layer of the store.
    pub(super) fn layers(mut self, references: &References, sizes: &Sizes) -> Vec<DfLayer> {
        let row = |id: &DiffId| {
            let users = self.0.remove(id).unwrap_or_default();
            DfLayer { id: *id, images: users.images, containers: users.containers, usage: sizes.layer(id) }
        };
        references.layers.iter().map(row).collect()
    }
}
