//! What is known of an image, and of a layer.

use serde_json::{Value, json};

use super::{lower_dirs, text};
use crate::error::{Error, Result, readable};
use crate::id::{ChainId, DiffId, ImageId};
use crate::image::ImageConfig;
use crate::store::Store;
use crate::timestamp::rfc3339;

pub(super) fn image(store: &Store, id: ImageId) -> Result<Value> {
    let image = store.image(id)?;
    let corrupt = |why| Error::corrupt(format!("image {id}"), why);
    let config = ImageConfig::parse(&image.config).map_err(corrupt)?;
    let process = ImageConfig::process(&image.config).map_err(corrupt)?;
    let names = store.image_names()?;
    let names: Vec<_> = names.into_iter().filter(|(_, image)| *image == id).map(|(name, _)| name).collect();
    Ok(json!({
        "Id": id,
        "RepoTags": names,
        "Created": config.created,
        "Imported": rfc3339(image.record.imported),
        "Author": config.author,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.record.size,
        "Config": process,
        "RootFS": { "Type": "layers", "Layers": image.record.layers },
        "ChainID": ChainId::of(&image.record.layers),
        "GraphDriver": { "Name": "layerctl", "Data": { "LowerDir": lower_dirs(store, &image.record.layers) } },
    }))
}

pub(super) fn layer(store: &Store, layer: DiffId) -> Result<Value> {
    let record = store.layer(layer)?;
    let mut images = Vec::new();
    for id in store.images()? {
        if readable(store.image(id))?.is_some_and(|image| image.record.layers.contains(&layer)) {
            images.push(id);
        }
    }
    Ok(json!({
        "Id": layer,
        "Created": rfc3339(record.created),
        "Size": record.content_bytes,
        "TarSize": record.size,
        "Entries": record.entries,
        "Blob": record.blob,
        "Path": text(&store.diff_dir(&layer.hex())),
        "Images": images,
    }))
}
