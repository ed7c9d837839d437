//! docker-archive: `manifest.json`, an array of images (the format of `docker save`; see also
//! containers-image's `docker-archive:`).

use serde::Deserialize;

use super::members::{DocumentLimits, Documents, normal_name};
use super::plan::{Blob, Plan, join, named_digest, required};
use crate::error::{Error, Result};
use crate::id::ImageName;

const MANIFEST: &str = "manifest.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn plans(archive: &str, documents: &dyn Documents, limits: DocumentLimits) -> Result<Option<Vec<Plan>>> {
    let Some(manifest) = documents.document(MANIFEST)? else { return Ok(None) };
    let bad = |why: String| Error::BadArchive { archive: archive.to_owned(), entry: Some(MANIFEST.to_owned()), why };
    let items: Vec<Item> = match serde_json::from_slice(&manifest) {
        // A root file system may have a file of this name.
        Err(_) if !manifest.trim_ascii_start().starts_with(b"[") => return Ok(None),
        items => items.map_err(|error| bad(format!("is no manifest: {error}")))?,
    };
    // Before they are understood, which takes several times the room.
    limits.take_names(archive, items.iter().map(|item| item.repo_tags.as_ref().map_or(0, Vec::len)))?;
    let plan = |item: Item| {
        let config_name = normal_name(item.config.as_bytes());
        let digest = named_digest(&config_name).map(|digest| Blob { digest, size: None });
        let config = required(archive, documents, &config_name, digest)?;
        let layers = item.layers.unwrap_or_default();
        let layers = layers.iter().map(|name| normal_name(name.as_bytes()));
        // Only in `blobs/` does a layer's name say what its bytes are: elsewhere it may be its diffID.
        let blob = |name: &str| Some(name).filter(|name| name.starts_with("blobs/")).and_then(named_digest);
        let layers = layers.map(|name| (name.clone(), blob(&name).map(|digest| Blob { digest, size: None }))).collect();
        let names = item.repo_tags.unwrap_or_default();
        let names = names
            .iter()
            .map(|name| name.parse::<ImageName>().map_err(|error| bad(error.to_string())))
            .collect::<Result<_>>()?;
        join(archive, &config_name, config, layers, names)
    };
    items.into_iter().map(plan).collect::<Result<_>>().map(Some)
}
