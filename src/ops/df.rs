//! `df`: what the store takes, and what of it can go.

use std::collections::BTreeMap;

use super::prune::measure;
use crate::error::Result;
use crate::id::{ContainerId, DiffId, ImageId, ImageName};
use crate::store::{Meter, Plan, PruneScope, Store, Usage};

/// One row of [`Df`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DfRow {
    /// How many there are.
    pub total: usize,
    /// How many of them are in use.
    pub active: usize,
    /// What they take.
    pub usage: Usage,
    /// What of it can go.
    pub reclaimable: Usage,
}

/// An image in [`Df`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DfImage {
    /// Its id.
    pub id: ImageId,
    /// Its names.
    pub names: Vec<ImageName>,
    /// The containers that are made from it.
    pub containers: usize,
    /// What it takes with its layers.
    pub usage: Usage,
    /// Layers that another image has too.
    pub shared: Usage,
    /// What it takes alone.
    pub unique: Usage,
}

/// A container in [`Df`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DfContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name, unless its record is damaged.
    pub name: Option<String>,
    /// Whether it is mounted.
    pub is_active: bool,
    /// What it takes.
    pub usage: Usage,
}

/// A layer in [`Df`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DfLayer {
    /// Its id.
    pub id: DiffId,
    /// The images that have it.
    pub images: Vec<ImageId>,
    /// The containers over it.
    pub containers: usize,
    /// What it takes.
    pub usage: Usage,
}

/// What the store takes, and what of it can go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Df {
    /// Images with their layers; what `prune --all` frees of them.
    pub images: DfRow,
    /// Containers; what `prune --containers` frees of them.
    pub containers: DfRow,
    /// Layers that nothing needs, and what belongs to nothing: what any `prune` frees.
    pub leftovers: DfRow,
    /// All of it; what `prune --all --containers` frees.
    pub total: DfRow,
    /// Each image.
    pub each_image: Vec<DfImage>,
    /// Each container.
    pub each_container: Vec<DfContainer>,
    /// Each layer.
    pub each_layer: Vec<DfLayer>,
}

/// Says what the store takes.
///
/// # Errors
/// When it cannot be read.
pub fn df(store: &Store) -> Result<Df> {
    super::descriptors::allow_all();
    let scope = |all, containers| PruneScope { all, containers };
    let scopes = [scope(false, false), scope(true, false), scope(false, true), scope(true, true)];
    let (reach, [least, all, stopped, most]) = store.plans(scopes)?;
    let mut meter = Meter::default();
    let mut layers: BTreeMap<DiffId, Usage> = BTreeMap::new();
    for layer in &reach.layers {
        layers.insert(*layer, measure(&mut meter, &store.layer_paths(*layer))?);
    }
    let mut images: BTreeMap<ImageId, Usage> = BTreeMap::new();
    for image in reach.images.keys() {
        images.insert(*image, measure(&mut meter, &store.image_paths(&reach, *image))?);
    }
    let mut containers: BTreeMap<ContainerId, Usage> = BTreeMap::new();
    for container in reach.containers.keys() {
        containers.insert(*container, measure(&mut meter, &store.container_paths(*container)?)?);
    }
    let leftovers = measure(&mut meter, &least.leftovers)?;

    let of_layer = |layer: &DiffId| layers.get(layer).copied().unwrap_or_default();
    let of_image = |image: &ImageId| images.get(image).copied().unwrap_or_default();
    let of_container = |container: &ContainerId| containers.get(container).copied().unwrap_or_default();
    let sum = |plan: &Plan, without: &[DiffId]| -> Usage {
        let layers = plan.layers.iter().filter(|layer| !without.contains(layer)).map(of_layer);
        layers.chain(plan.images.iter().map(of_image)).sum()
    };
    // Layers that nothing needs as it is: they are no image's.
    let unneeded = reach.unneeded(|_| true, |_| true);
    let stray: Usage = [leftovers].into_iter().chain(unneeded.iter().map(of_layer)).sum();

    let mut df = Df::default();
    for (id, image) in &reach.images {
        let has = |layer: &DiffId| {
            let others = reach.images.iter().filter(|(other, _)| *other != id);
            others.filter_map(|(_, other)| other.layers.as_ref()).any(|layers| layers.contains(layer))
        };
        let mut its: Vec<DiffId> = image.layers.clone().unwrap_or_default();
        its.sort_unstable();
        its.dedup();
        let (shared, unique): (Vec<DiffId>, Vec<DiffId>) = its.into_iter().partition(has);
        let shared: Usage = shared.iter().map(of_layer).sum();
        let unique = unique.iter().map(of_layer).chain([of_image(id)]).sum();
        df.each_image.push(DfImage {
            id: *id,
            names: image.names.clone(),
            containers: image.containers.len(),
            usage: [shared, unique].into_iter().sum(),
            shared,
            unique,
        });
    }
    for (id, record) in &reach.containers {
        let (name, is_active) = (record.as_ref().map(|record| record.name.clone()), store.is_held(*id)?);
        df.each_container.push(DfContainer { id: *id, name, is_active, usage: of_container(id) });
    }
    for id in &reach.layers {
        let has = |layers: Option<&Vec<DiffId>>| layers.is_some_and(|layers| layers.contains(id));
        let images = reach.images.iter().filter(|(_, image)| has(image.layers.as_ref())).map(|(id, _)| *id).collect();
        let over = reach.containers.values().flatten().filter(|record| record.layers.contains(id)).count();
        df.each_layer.push(DfLayer { id: *id, images, containers: over, usage: of_layer(id) });
    }
    let all_layers: Usage = layers.values().copied().sum();
    let unneeded_layers: Usage = unneeded.iter().map(of_layer).sum();
    df.images = DfRow {
        total: reach.images.len(),
        active: df.each_image.iter().filter(|image| image.containers > 0).count(),
        usage: Usage {
            bytes: all_layers.bytes.saturating_sub(unneeded_layers.bytes),
            inodes: all_layers.inodes.saturating_sub(unneeded_layers.inodes),
        },
        reclaimable: sum(&all, &unneeded),
    };
    df.images.usage += images.values().copied().sum();
    df.containers = DfRow {
        total: reach.containers.len(),
        active: df.each_container.iter().filter(|container| container.is_active).count(),
        usage: containers.values().copied().sum(),
        reclaimable: stopped.containers.iter().map(of_container).sum(),
    };
    let strays = least.leftovers.len().saturating_add(unneeded.len());
    df.leftovers = DfRow { total: strays, active: 0, usage: stray, reclaimable: stray };
    let freed = [sum(&most, &[]), leftovers].into_iter().chain(most.containers.iter().map(of_container)).sum();
    df.total = DfRow {
        total: df.images.total.saturating_add(df.containers.total).saturating_add(strays),
        active: df.images.active.saturating_add(df.containers.active),
        usage: [df.images.usage, df.containers.usage, stray].into_iter().sum(),
        reclaimable: freed,
    };
    Ok(df)
}
