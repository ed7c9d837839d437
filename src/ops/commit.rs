//! `commit`: the rw layer of a container becomes a layer, and with it an image.

use std::fs::File;
use std::io::{BufWriter, Write as _, pipe};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::pack::pack;
use super::timestamp::{now, rfc3339};
use crate::error::{Context as _, Error, Result};
use crate::id::{DiffId, ImageId, ImageName};
use crate::store::{Container, LayerRecord, NewImage, StagedLayer, Store};
use crate::tarball::{Failure, Limits, Unpacked, unpack};
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
}

/// Makes an image of a container: its image with one more layer, of what the container has changed. A container that
/// has changed nothing gives an image with the same layers.
///
/// # Errors
/// [`Error::InUse`] while it is mounted; what keeps a layer from being packed.
pub fn commit(store: &Store, request: &Commit) -> Result<ImageId> {
    let container = store.find_container(&request.container)?;
    // Held to the end, so that the container is neither mounted nor removed meanwhile.
    let _lock = container.lock()?;
    let union = Arc::new(Union::open(store.stack(&container)?).doing("open", container.upper())?);
    let staging = store.stage()?;
    let dir = staging.dir().join("layer");
    let layer = stage(&union, dir)?;
    drop(union);

    let parent = store.image(container.record.image)?;
    let mut layers = container.record.layers.clone();
    layers.extend(layer.as_ref().map(|layer| layer.record().diff_id));
    let config = config(&parent.config, &layers, &container, request, layer.is_none())?;
    let image = NewImage { config, layers, names: request.names.clone() };
    let staged: Vec<StagedLayer> = layer.into_iter().collect();
    let ids = store.publish(staging, &staged, &[image])?;
    ids.into_iter().next().ok_or_else(|| Error::Unsupported("no image was made".into()))
}

/// Packs what the union changes and unpacks it again at once: as any layer, it is named by its tar.
fn stage(union: &Union, dir: std::path::PathBuf) -> Result<Option<StagedLayer>> {
    let diff = dir.join(StagedLayer::DIFF);
    std::fs::create_dir_all(&diff).doing("create", &diff)?;
    let into = File::open(&diff).doing("open", &diff)?;
    let path = dir.join(StagedLayer::SPLIT);
    let mut split = BufWriter::new(File::create(&path).doing("create", &path)?);
    let (mut reader, writer) = pipe().doing("make", "a pipe")?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut writer = BufWriter::with_capacity(1 << 18, writer);
            let is_changed = pack(union, &mut writer)?;
            writer.flush().doing("write", "a layer's tar")?;
            Ok::<_, Error>(is_changed)
        });
        let unpacked = unpack(&mut reader, into.as_fd(), &mut split, &Limits::default());
        // Who packs must not wait for a reader that has given up.
        drop(reader);
        (packing.join(), unpacked)
    });
    let Unpacked { diff_id, size, content_bytes, entries, index } = match (packed, unpacked) {
        (Ok(Ok(false)), Ok(_)) => return Ok(None),
        // A tar that cannot be unpacked is no reason to blame the pipe that then broke.
        (_, Err(failure @ Failure::Write { .. })) => return Err(failed(&diff, failure)),
        (Ok(Err(error)), _) => return Err(error),
        (_, unpacked) => unpacked.map_err(|failure| failed(&diff, failure))?,
    };
    split.flush().doing("write", &path)?;
    let record = LayerRecord { diff_id, size, content_bytes, entries, blob: None, created: 0 };
    StagedLayer::new(dir, record, &index).map(Some)
}

fn failed(diff: &Path, failure: Failure) -> Error {
    match failure {
        Failure::Write { doing, path, source } => Error::Io { doing, path: diff.join(path), source },
        failure => Error::Unsupported(format!("the rw layer cannot be packed: {failure}")),
    }
}

/// The parent's config with one more layer. What is not understood in it is kept.
fn config(
    parent: &[u8],
    layers: &[DiffId],
    container: &Container,
    request: &Commit,
    is_empty: bool,
) -> Result<Vec<u8>> {
    let broken = || Error::corrupt(format!("image {}", container.record.image), "its config is no object");
    let mut config: Value = serde_json::from_slice(parent).map_err(|_| broken())?;
    let fields = config.as_object_mut().ok_or_else(broken)?;
    let created = rfc3339(source_date_epoch().unwrap_or_else(now));
    let mut step = json!({ "created": created, "created_by": "layerctl commit" });
    if let Some(step) = step.as_object_mut() {
        step.extend(request.message.clone().map(|message| ("comment".to_owned(), message.into())));
        step.extend(Some(("empty_layer".to_owned(), true.into())).filter(|_| is_empty));
    }
    fields.insert("created".into(), created.into());
    fields.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": layers }));
    match fields.get_mut("history").and_then(Value::as_array_mut) {
        Some(history) => history.push(step),
        None => {
            fields.insert("history".into(), json!([step]));
        }
    }
    serde_json::to_vec(&config).map_err(|_| broken())
}

/// The time that a reproducible build asks for (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
fn source_date_epoch() -> Option<u64> {
    std::env::var("SOURCE_DATE_EPOCH").ok()?.parse().ok()
}
