//! `df`: what the store takes, and what of it can go.

mod row;
mod sizes;
mod users;

use crate::error::Result;
use crate::store::{Plan, PruneScope, References, Store, Usage};
pub use row::{Df, DfContainer, DfImage, DfLayer, DfRow};
use sizes::Sizes;
use users::Users;

/// Says what the store takes.
///
/// # Errors
/// When it cannot be read.
pub fn df(store: &Store) -> Result<Df> {
    crate::sys::raise_descriptor_limit();
    let scope = |all, containers| PruneScope { all, containers };
    let scopes = [scope(false, false), scope(true, false), scope(false, true), scope(true, true)];
    let (references, [least, all, stopped, most]) = store.plans(scopes)?;
    let sizes = &Sizes::measure(store, &references, &least.leftovers)?;
    let users = Users::of(&references);

    let each_image = each_image(&references, sizes, &users);
    let each_container = each_container(store, &references, sizes)?;
    let each_layer = users.layers(&references, sizes);

    // Layers that nothing needs as it is: they are no image's.
    let unneeded = references.unneeded(|_| true, |_| true);
    let needed: Usage =
        sizes.layers.iter().filter(|(id, _)| unneeded.binary_search(id).is_err()).map(|(_, size)| *size).sum();
    let without = |plan: Plan| Plan {
        layers: plan.layers.into_iter().filter(|id| unneeded.binary_search(id).is_err()).collect(),
        ..plan
    };
    let images = DfRow {
        total: references.images.len(),
        active: each_image.iter().filter(|image| image.containers > 0).count(),
        usage: [needed].into_iter().chain(sizes.images.values().copied()).sum(),
        reclaimable: sizes.images_of(&without(all)),
    };
    let containers = DfRow {
        total: references.containers.len(),
        active: each_container.iter().filter(|container| container.is_active).count(),
        usage: sizes.containers.values().copied().sum(),
        reclaimable: sizes.containers_of(&stopped),
    };
    let stray: Usage = [sizes.leftovers].into_iter().chain(unneeded.iter().map(|id| sizes.layer(id))).sum();
    let strays = least.leftovers.len().saturating_add(unneeded.len());
    let leftovers = DfRow { total: strays, active: 0, usage: stray, reclaimable: stray };
    let total = DfRow {
        total: images.total.saturating_add(containers.total).saturating_add(strays),
        active: images.active.saturating_add(containers.active),
        usage: [images.usage, containers.usage, stray].into_iter().sum(),
        reclaimable: [sizes.images_of(&most), sizes.leftovers, sizes.containers_of(&most)].into_iter().sum(),
    };
    Ok(Df { images, containers, leftovers, total, each_image, each_container, each_layer })
}

fn each_image(references: &References, sizes: &Sizes, users: &Users) -> Vec<DfImage> {
    let row = |(id, image): (&_, &crate::store::ReferencedImage)| {
        let mut layers = image.layers.clone().unwrap_or_default();
        layers.sort_unstable();
        layers.dedup();
        let (shared, unique): (Vec<_>, Vec<_>) = layers.into_iter().partition(|layer| users.images_with(layer) > 1);
        let shared: Usage = shared.iter().map(|layer| sizes.layer(layer)).sum();
        let unique = unique.iter().map(|layer| sizes.layer(layer)).chain([sizes.image(id)]).sum();
        DfImage {
            id: *id,
            names: image.names.clone(),
            containers: image.containers.len(),
            usage: [shared, unique].into_iter().sum(),
            shared,
            unique,
        }
    };
    references.images.iter().map(row).collect()
}

fn each_container(store: &Store, references: &References, sizes: &Sizes) -> Result<Vec<DfContainer>> {
    let row = |(id, record): (&_, &Option<crate::store::ContainerRecord>)| {
        let (name, is_active) = (record.as_ref().map(|record| record.name.clone()), store.is_held(*id)?);
        Ok(DfContainer { id: *id, name, is_active, usage: sizes.container(id) })
    };
    references.containers.iter().map(row).collect()
}
