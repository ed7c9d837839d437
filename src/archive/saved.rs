//! The documents of an archive that is written. The same images give the same bytes.
//!
//! An archive as Docker writes it since 25 has both: [`oci_manifest`] and [`oci_index`] make it an OCI layout (OCI
//! `image-layout.md`), [`docker_manifest`] and [`repositories`] a docker-archive, and both name the same blobs.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::blob::Blob;
use crate::id::{DiffId, ImageId, ImageName};
use crate::tarball::Codec;

/// What makes a directory or tar an OCI layout, and its content.
pub const OCI_LAYOUT: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// An image as it goes into an archive.
#[derive(Debug, Clone)]
pub struct SavedImage {
    /// Its id: the digest of its config.
    pub id: ImageId,
    /// Bytes of its config.
    pub config_size: u64,
    /// The names that the archive gives it.
    pub names: Vec<ImageName>,
    /// Lowest first.
    pub layers: Vec<SavedLayer>,
}

/// A layer as it goes into an archive.
#[derive(Debug, Clone, Copy)]
pub struct SavedLayer {
    /// The layer.
    pub diff_id: DiffId,
    /// Its tar, perhaps compressed.
    pub blob: Blob,
    /// How.
    pub codec: Codec,
}

/// The name of a blob in an OCI layout.
#[must_use]
pub fn blob_name(blob: &Blob) -> String {
    blob.digest.member()
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size })
}

fn layer_descriptor(layer: &SavedLayer) -> Value {
    let media_type = match layer.codec {
        Codec::None => "application/vnd.oci.image.layer.v1.tar",
        Codec::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Codec::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    descriptor(media_type, &layer.blob)
}

/// The manifest of an image.
#[must_use]
pub fn oci_manifest(image: &SavedImage) -> Vec<u8> {
    let config = Blob { digest: image.id.0.into(), size: Some(image.config_size) };
    let layers: Vec<Value> = image.layers.iter().map(layer_descriptor).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, &config),
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

/// `index.json`: each image's manifest, once for each of its names.
#[must_use]
pub fn oci_index(images: &[(&SavedImage, Blob)]) -> Vec<u8> {
    let mut manifests = Vec::new();
    for (image, manifest) in images {
        if image.names.is_empty() {
            manifests.push(descriptor(MANIFEST_TYPE, manifest));
        }
        for name in &image.names {
            let mut named = descriptor(MANIFEST_TYPE, manifest);
            if let Some(fields) = named.as_object_mut() {
                let annotations = json!({
                    "io.containerd.image.name": name,
                    "org.opencontainers.image.ref.name": name.tag(),
                });
                fields.insert("annotations".into(), annotations);
            }
            manifests.push(named);
        }
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests });
    index.to_string().into_bytes()
}

/// `manifest.json`: `member` says where an image's config (`None`) and its layers are. `with_sources` adds what each
/// layer's blob is.
#[must_use]
pub fn docker_manifest(
    images: &[SavedImage],
    with_sources: bool,
    member: &dyn Fn(&SavedImage, Option<&SavedLayer>) -> String,
) -> Vec<u8> {
    let items = images.iter().map(|image| {
        let layers: Vec<String> = image.layers.iter().map(|layer| member(image, Some(layer))).collect();
        let names = if image.names.is_empty() { Value::Null } else { json!(image.names) };
        let mut item = json!({ "Config": member(image, None), "RepoTags": names, "Layers": layers });
        if let Some(fields) = item.as_object_mut().filter(|_| with_sources) {
            let sources = image.layers.iter().map(|layer| (layer.diff_id.to_string(), layer_descriptor(layer)));
            fields.insert("LayerSources".into(), sources.collect::<Map<_, _>>().into());
        }
        item
    });
    items.collect::<Value>().to_string().into_bytes()
}

/// `repositories`, by which Docker found its images before it knew `manifest.json`; `None` when none has a name.
#[must_use]
pub fn repositories(images: &[SavedImage]) -> Option<Vec<u8>> {
    let mut repositories: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for image in images {
        let top = image.layers.last().map_or_else(|| image.id.hex(), |layer| layer.diff_id.hex());
        for name in &image.names {
            repositories.entry(name.repository()).or_default().insert(name.tag(), top.clone());
        }
    }
    Some(json!(repositories).to_string().into_bytes()).filter(|_| !repositories.is_empty())
}
