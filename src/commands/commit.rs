//! `commit`: the rw layer of a container becomes a layer, and with it an image.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::id::{DiffId, ImageId, ImageName};
use crate::image::{Document, Setting, Step};
use crate::index::Time;
use crate::mount::access::{Access, access, check_recorded_loss};
use crate::mount::kernel;
use crate::mount::packing::{Wish, mounted_layer};
use crate::pack::rw_layer::pack;
use crate::pack::staged::packed_layer;
use crate::rw_layer;
use crate::store::{Container, Lease, NewImage, StagedLayer, Store};
use crate::timestamp::latest_mtime;

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
    /// Whether the changes of a mounted container go on while its layer is packed.
    pub live: bool,
}

/// Makes an image of a container: its image with one more layer, of what the container has changed. A container that
/// has changed nothing gives an image with the same layers. In a mounted one changes wait until the layer is packed.
///
/// # Errors
/// [`Error::InUse`] while another process has the container; when data written to it are lost, until `umount` has
/// reported that; what keeps a layer from being packed.
pub fn commit(store: &Store, request: &Commit) -> Result<ImageId> {
    crate::sys::raise_descriptor_limit();
    let container = store.find_container(&request.container)?;
    let latest = latest_mtime()?;
    let parent = store.image(container.record.image)?;
    let mut document = Document::of(parent.id, &parent.config)?;
    document.apply(&request.settings)?;
    document.set_comment(request.message.clone());
    let mut layers = container.record.layers.clone();
    let missing = |layer| Error::corrupt(format!("image {}", parent.id), format!("its layer {layer} is missing"));
    let lease = |layer: &DiffId| store.lease(*layer)?.ok_or_else(|| missing(*layer));
    // A mounted container may be gone before its image is there.
    let _leases: Vec<Lease> = layers.iter().map(lease).collect::<Result<_>>()?;

    let staging = store.stage()?;
    let dir = staging.dir().join("layer");
    // Held to the end, so that the container is neither mounted nor removed meanwhile.
    let (layer, _access) = match access_alone(store, &container, request.live)? {
        Access::Locked(lock) => {
            check_recorded_loss(&container)?;
            (stage(store, &container, dir, latest)?, Some(Access::Locked(lock)))
        }
        Access::Mounted(root) => {
            let wish = Wish { live: request.live, latest: latest.map(|latest| latest.sec), is_written: false };
            (mounted_layer(store, &container, root, dir, wish)?, None)
        }
        Access::Overlay(overlay) => {
            (kernel::layer(store, &container, &overlay, dir, latest, request.live)?, Some(Access::Overlay(overlay)))
        }
    };
    layers.extend(layer.as_ref().map(|layer| layer.record().diff_id));
    let config = document.finish(&layers, &[Step { by: "layerctl commit", has_layer: layer.is_some() }])?;
    let image = NewImage { config, layers, names: request.names.clone() };
    let staged: Vec<StagedLayer> = layer.into_iter().collect();
    let ids = store.publish(staging, &staged, &[image])?;
    ids.into_iter().next().ok_or_else(|| Error::Unsupported("no image was made".into()))
}

/// The way to the tree. That of an overlay which is to be made read-only is for one process at a time.
fn access_alone(store: &Store, container: &Container, live: bool) -> Result<Access> {
    loop {
        match access(store, container)? {
            Access::Overlay(overlay) if !live && !overlay.record.command && !overlay.has_lock() => {
                drop(overlay);
                drop(kernel::wait_for_lock(container)?);
            }
            access => return Ok(access),
        }
    }
}

/// The layer of what a container has changed; none when that is nothing.
fn stage(store: &Store, container: &Container, dir: PathBuf, latest: Option<Time>) -> Result<Option<StagedLayer>> {
    let union = &rw_layer::read(store, container)?;
    let (layer, is_changed) =
        packed_layer(dir, "the rw layer", |out| pack(union, out, Path::new("a layer's tar"), latest))?;
    Ok(Some(layer).filter(|_| is_changed))
}
