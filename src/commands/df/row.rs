//! The rows of `df`.

use crate::id::{ContainerId, DiffId, ImageId, ImageName};
use crate::store::Usage;

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
