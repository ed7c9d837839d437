//! `commit`: the rw layer of a container becomes a layer, and with it an image.

use std::path::PathBuf;

use super::image_config::{Document, Setting, Step};
use super::pack::pack;
use super::packed_layer::packed_layer;
use super::timestamp::latest_mtime;
use crate::error::{Context as _, Error, Result};
use crate::id::{ImageId, ImageName};
use crate::index::Time;
use crate::store::{NewImage, StagedLayer, Store};
use crate::union::Union;

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The container, by its name or id.
    pub container: String,
    /// Names for the image.
    pub names: Vec<ImageName>,
    /// What `history` shows beside it.
    pub message: Option<String>,
    /// What is set in the config.
    pub settings: Vec<Setting>,
}

/// Makes an image of a container: its image with one more layer, of what the container has changed. A container that
/// has changed nothing gives an image with the same layers.
///
/// # Errors
/// [`Error::InUse`] while it is mounted; what keeps a layer from being packed.
pub fn commit(store: &Store, request: &Commit) -> Result<ImageId> {
    let container = store.find_container(&request.container)?;
    let latest = latest_mtime()?;
    // Held to the end, so that the container is neither mounted nor removed meanwhile.
    let _lock = container.lock()?;
    let parent = store.image(container.record.image)?;
    let mut document = Document::of(parent.id, &parent.config)?;
    document.apply(&request.settings);
    document.set_comment(request.message.clone());

    let union = Union::open(store.stack(&container)?).doing("open", container.upper())?;
    let staging = store.stage()?;
    let dir = staging.dir().join("layer");
    let layer = stage(&union, dir, latest)?;
    drop(union);

    let mut layers = container.record.layers.clone();
    layers.extend(layer.as_ref().map(|layer| layer.record().diff_id));
    let config = document.finish(&layers, &[Step { by: "layerctl commit", has_layer: layer.is_some() }])?;
    let image = NewImage { config, layers, names: request.names.clone() };
    let staged: Vec<StagedLayer> = layer.into_iter().collect();
    let ids = store.publish(staging, &staged, &[image])?;
    ids.into_iter().next().ok_or_else(|| Error::Unsupported("no image was made".into()))
}

/// The layer of what the union changes; none when that is nothing.
fn stage(union: &Union, dir: PathBuf, latest: Option<Time>) -> Result<Option<StagedLayer>> {
    let (layer, is_changed) = packed_layer(dir, "the rw layer", |out| pack(union, out, latest))?;
    Ok(Some(layer).filter(|_| is_changed))
}
