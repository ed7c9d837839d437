//! The OCI image layout: `index.json`, and blobs that are named by their digests (OCI `image-layout.md`,
//! `image-index.md`, `manifest.md`; Docker's manifests of version 2, schema 2 have the same fields).

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::config::ImageConfig;
use super::members::Documents;
use super::plan::{Blob, Plan, join, required};
use super::platform::Platform;
use crate::error::{Error, Result};
use crate::id::{Digest, ImageName};

const INDEX: &str = "index.json";
/// An index may name an index, which may name another; more is no archive that any tool writes.
const DEPTH: usize = 8;
/// Names under which tools keep an image's full name, best first.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    size: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    platform: Option<DescribedPlatform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct DescribedPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// An index has `manifests`, a manifest has `config` and `layers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

struct Reader<'a> {
    archive: &'a str,
    documents: &'a dyn Documents,
    platform: &'a Platform,
}

pub(super) fn plans(archive: &str, documents: &dyn Documents, platform: &Platform) -> Result<Option<Vec<Plan>>> {
    let Some(bytes) = documents.document(INDEX)? else { return Ok(None) };
    let reader = Reader { archive, documents, platform };
    let Some(manifests) = reader.parse(INDEX, &bytes)?.manifests else {
        return Err(reader.bad(INDEX, "is no image index".into()));
    };
    let mut plans = Vec::new();
    // One name may stand for the same image on several platforms; things with different names are different.
    let mut groups: Vec<Vec<Descriptor>> = Vec::new();
    let mut places: HashMap<Option<ImageName>, usize> = HashMap::new();
    for descriptor in manifests.into_iter().filter(is_image) {
        let place = *places.entry(name(&descriptor)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) if descriptor.platform.is_some() => group.push(descriptor),
            _ => groups.push(vec![descriptor]),
        }
    }
    for group in groups {
        let name = group.iter().find_map(name);
        let manifest = reader.choose(INDEX, group)?;
        plans.push(reader.manifest(manifest, name, DEPTH)?);
    }
    Ok(Some(plans))
}

impl Reader<'_> {
    fn bad(&self, entry: &str, why: String) -> Error {
        Error::BadArchive { archive: self.archive.to_owned(), entry: Some(entry.to_owned()), why }
    }

    fn parse(&self, entry: &str, bytes: &[u8]) -> Result<Document> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| self.bad(entry, format!("cannot be understood: {error}")))?;
        // Tools would differ in what it is (CVE-2021-41190).
        if document.manifests.is_some() && (document.config.is_some() || document.layers.is_some()) {
            return Err(self.bad(entry, "is an index and a manifest in one".into()));
        }
        Ok(document)
    }

    /// The one that is for the wanted platform. One that does not say for which it is must be alone.
    fn choose(&self, entry: &str, offered: Vec<Descriptor>) -> Result<Descriptor> {
        let fits = |descriptor: &&Descriptor| {
            let platform = descriptor.platform.as_ref().filter(|platform| !platform.os.is_empty());
            platform.is_none_or(|platform| {
                let DescribedPlatform { os, architecture, variant } = platform.clone();
                let variant = variant.filter(|variant| !variant.is_empty());
                self.platform.accepts(&Platform { os, architecture, variant })
            })
        };
        if let Some(descriptor) = offered.iter().find(fits) {
            return Ok(descriptor.clone());
        }
        let offered: Vec<String> = offered
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref())
            .map(|platform| format!("{}/{}", platform.os, platform.architecture))
            .collect();
        Err(self.bad(entry, format!("has no image for {}, only for {}", self.platform, offered.join(", "))))
    }

    fn blob(&self, entry: &str, descriptor: &Descriptor) -> Result<(String, Blob)> {
        let digest: Digest = descriptor.digest.parse().map_err(|error| self.bad(entry, format!("{error}")))?;
        Ok((format!("blobs/sha256/{}", digest.hex()), Blob { digest, size: Some(descriptor.size) }))
    }

    fn manifest(&self, descriptor: Descriptor, name: Option<ImageName>, depth: usize) -> Result<Plan> {
        let (member, blob) = self.blob(INDEX, &descriptor)?;
        let bytes = required(self.archive, self.documents, &member, Some(blob))?;
        let document = self.parse(&member, &bytes)?;
        let is_index = |media_type: &str| media_type.contains(".index.") || media_type.contains(".list.");
        let types = [&descriptor.media_type, &document.media_type];
        let types = types.map(|media_type| media_type.as_deref().filter(|word| !word.is_empty()));
        if types.into_iter().flatten().any(|media_type| is_index(media_type) != document.manifests.is_some()) {
            let kind = if document.manifests.is_some() { "an index" } else { "no index" };
            let [said, is] = types.map(|media_type| media_type.unwrap_or("nothing"));
            return Err(self.bad(&member, format!("is {kind}, was named as {said} and says that it is {is}")));
        }
        if let Some(manifests) = document.manifests {
            let Some(depth) = depth.checked_sub(1) else {
                return Err(self.bad(&member, "is an index too deep in other indexes".into()));
            };
            let chosen = self.choose(&member, manifests.into_iter().filter(is_image).collect())?;
            return self.manifest(chosen, name, depth);
        }
        let (Some(config), Some(layers)) = (document.config, document.layers) else {
            let kind = descriptor.media_type.unwrap_or_default();
            return Err(
                self.bad(&member, format!("is neither an image manifest nor an index {kind}").trim_end().into())
            );
        };
        let (config_name, blob) = self.blob(&member, &config)?;
        let config = required(self.archive, self.documents, &config_name, Some(blob))?;
        let layers = layers
            .iter()
            .map(|layer| self.blob(&member, layer).map(|(name, blob)| (name, Some(blob))))
            .collect::<Result<_>>()?;
        let plan = join(self.archive, &config_name, config, layers, name.into_iter().collect())?;
        self.check_platform(&config_name, &plan.config)?;
        Ok(plan)
    }

    /// An index need not say for which platform an image is; its config does.
    fn check_platform(&self, entry: &str, config: &[u8]) -> Result<()> {
        let config = ImageConfig::parse(config).map_err(|why| self.bad(entry, why))?;
        match config.platform() {
            Some(offered) if offered.os != self.platform.os => {
                Err(self.bad(entry, format!("is an image for {offered}, not for {}", self.platform)))
            }
            _ => Ok(()),
        }
    }
}

/// Not what is only said about an image: signatures and attestations that builders put beside it.
fn is_image(descriptor: &Descriptor) -> bool {
    let unknown = descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
    let about = descriptor.annotations.as_ref().is_some_and(|all| all.contains_key("vnd.docker.reference.type"));
    !unknown && !about
}

/// The name that the archive gives, if it is more than a tag.
fn name(descriptor: &Descriptor) -> Option<ImageName> {
    let annotations = descriptor.annotations.as_ref()?;
    let names = NAMES.iter().filter_map(|key| annotations.get(*key));
    names.filter(|name| name.contains([':', '/'])).find_map(|name| name.parse().ok())
}
