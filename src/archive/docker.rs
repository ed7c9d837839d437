//! docker-archive: `manifest.json`, an array of images (the format of `docker save`; see also
//! containers-image's `docker-archive:`).

use serde::Deserialize;

use super::blob::{Blob, BlobDigest};
use super::members::normal_name;
use super::plan::{Plan, Plans, Reader, named_digest};
use crate::error::Result;
use crate::id::{Digest, ImageName};
use crate::json;

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Item {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Also says whether there is such a document, which may name no image.
pub(super) fn plans(reader: &Reader<'_>) -> Result<(bool, Option<Plans>)> {
    let Some(manifest) = reader.top(MANIFEST)? else { return Ok((false, None)) };
    // A root file system may have a file of this name.
    if !manifest.trim_ascii_start().starts_with(b"[") {
        return Ok((false, None));
    }
    let parsed = json::from_slice::<Vec<Item>>(&manifest).map_err(|error| error.to_string());
    let has_config = |item: &Item| !item.config.is_empty();
    let items = match parsed {
        Ok(items) if items.iter().all(has_config) => items,
        _ if !reader.is_image && !speaks_of_images(&manifest) => return Ok((false, None)),
        Ok(_) => return Err(reader.bad(MANIFEST, "is no manifest: an image in it has no Config")),
        Err(error) => return Err(reader.bad(MANIFEST, format!("is no manifest: {error}"))),
    };
    if items.is_empty() {
        return Ok((true, None));
    }
    // Before they are understood, which takes several times the room.
    let names = |item: &Item| if reader.wanted.names { item.repo_tags.len() } else { 0 };
    reader.wanted.limits.take_names(reader.archive, items.iter().map(names))?;
    let images = items.into_iter().map(|item| plan(reader, item)).collect::<Result<_>>()?;
    Ok((true, Some(Plans { images, notes: Vec::new() })))
}

/// Whether something that cannot be understood was meant as a manifest.
fn speaks_of_images(manifest: &[u8]) -> bool {
    let text = manifest.to_ascii_lowercase();
    let has = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
    has(b"\"config\"") && has(b"\"layers\"")
}

fn plan(reader: &Reader<'_>, item: Item) -> Result<Plan> {
    let config_name = normal_name(item.config.as_bytes());
    // Only in `blobs/` does a name say what the bytes are: elsewhere a layer's may be its diffID, and a config's any.
    let blob = |name: &str| BlobDigest::of_member(name).map(|digest| Blob { digest, size: None });
    let config = reader.required(&config_name, blob(&config_name))?;
    let layers = item.layers.iter().map(|name| normal_name(name.as_bytes()));
    let layers = layers.map(|name| (name.clone(), blob(&name))).collect();
    let names = item.repo_tags.iter().filter(|_| reader.wanted.names);
    let names = names
        .map(|name| name.parse::<ImageName>().map_err(|error| reader.bad(MANIFEST, error.to_string())))
        .collect::<Result<_>>()?;
    let is_named = blob(&config_name).is_some() || named_digest(&config_name) == Some(Digest::of(&config));
    let plan = reader.join(&config_name, config, layers, names)?;
    Ok(Plan { config_name: Some(config_name).filter(|_| !is_named), ..plan })
}
