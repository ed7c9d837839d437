//! The documents of an OCI layout, and what tells an image from something else that is kept like one: signatures,
//! attestations, lists of parts, charts (OCI `manifest.md`, "Guidelines for Artifact Usage").

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::image::Platform;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Descriptor {
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) media_type: String,
    pub(super) annotations: BTreeMap<String, String>,
    platform: Option<DescribedPlatform>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct DescribedPlatform {
    os: String,
    architecture: String,
    variant: String,
}

/// An index has `manifests`, a manifest has `config` and `layers`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Document {
    pub(super) media_type: String,
    artifact_type: String,
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
}

/// What the config of an image is named as. The last one is what registries of old said of everything.
const CONFIGS: [&str; 3] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",
];
/// What the names of layers begin with.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.",
    "application/octet-stream",
    "application/vnd.docker.container.image.rootfs.",
];

impl Descriptor {
    /// For which machine it says that it is.
    pub(super) fn platform(&self) -> Option<Platform> {
        let DescribedPlatform { os, architecture, variant } = self.platform.clone()?;
        let is_said = !os.is_empty() || !architecture.is_empty();
        is_said.then_some(Platform { os, architecture, variant: Some(variant).filter(|variant| !variant.is_empty()) })
    }

    /// Why it names no image, where it says so, as a clause.
    pub(super) fn why_no_image(&self) -> Option<String> {
        if let Some(kind) = self.annotations.get("vnd.docker.reference.type") {
            return Some(format!("is no image: it is an {kind} of one"));
        }
        if self.platform.as_ref().is_some_and(|platform| platform.os == "unknown") {
            return Some("is no image: it is for the platform unknown".into());
        }
        let media_type = &self.media_type;
        let is_known = media_type.is_empty() || ["manifest", ".index."].iter().any(|word| media_type.contains(word));
        if !is_known || media_type.contains(".artifact.") {
            return Some(format!("is no image: its type is {media_type}"));
        }
        None
    }
}

/// Why a manifest is none of an image, as a clause.
pub(super) fn why_no_image(document: &Document) -> Option<String> {
    let Document { media_type, artifact_type, config, layers, manifests } = document;
    if manifests.is_some() {
        return None;
    }
    let is_config = |media_type: &str| media_type.is_empty() || CONFIGS.contains(&media_type);
    if media_type.contains(".artifact.") || !is_config(artifact_type) {
        let kind = if artifact_type.is_empty() { media_type } else { artifact_type };
        return Some(format!("is no image: it is an artifact of the type {kind}"));
    }
    if let Some(config) = config.as_ref().filter(|config| !is_config(&config.media_type)) {
        return Some(format!("is no image: its config is of the type {}", config.media_type));
    }
    let is_layer = |layer: &Descriptor| {
        let media_type = layer.media_type.as_str();
        media_type.is_empty() || LAYERS.iter().any(|start| media_type.starts_with(start))
    };
    let layers = layers.as_deref().unwrap_or_default();
    let other = layers.first().filter(|_| !layers.iter().any(is_layer))?;
    Some(format!("is no image: its layers are of the type {}", other.media_type))
}
