//! What an archive's documents say is to be imported.

use super::blob::{Blob, BlobDigest};
use super::documents::{DocumentLimits, Documents};
use crate::error::{Error, Result};
use crate::id::{DiffId, Digest, ImageName};
use crate::image::{ImageConfig, Platforms};
use crate::json;

/// What is wanted of an archive.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which images of an index.
    pub platforms: Platforms,
    /// Whether the names that the archive gives are wanted: one that is none does no harm otherwise.
    pub names: bool,
    /// How large documents may be.
    pub limits: DocumentLimits,
}

/// What is to be imported of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plans {
    /// The images: one at least.
    pub images: Vec<Plan>,
    /// What is passed over.
    pub notes: Vec<Note>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The config's bytes, as they came.
    pub config: Vec<u8>,
    /// The member that the config is, where its name is not that of its digest.
    pub config_name: Option<String>,
    /// The names that the archive gives it.
    pub names: Vec<ImageName>,
    /// Lowest first.
    pub layers: Vec<PlannedLayer>,
    /// Whether it is passed over when its layers are not there, and there is another image.
    pub may_be_absent: bool,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLayer {
    /// What the config says it is.
    pub diff_id: DiffId,
    /// The member of the archive.
    pub member: String,
    /// What the member must be, where the format says it.
    pub blob: Option<Blob>,
}

/// Something that an archive names, and that is no image to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The member of the archive.
    pub member: String,
    /// Why, as a clause.
    pub why: String,
}

/// An archive whose documents are read.
pub(super) struct Reader<'a> {
    pub(super) archive: &'a str,
    pub(super) documents: &'a dyn Documents,
    pub(super) wanted: &'a Wanted,
    /// Whether this is an archive of images, whatever its documents say.
    pub(super) is_image: bool,
}

/// Nothing says what is in the archive.
#[must_use]
pub fn no_documents(archive: &str) -> Error {
    Error::bad_archive(archive, "has neither a manifest.json nor an index.json")
}

impl Reader<'_> {
    pub(super) fn bad(&self, entry: &str, why: impl Into<String>) -> Error {
        Error::BadArchive { archive: self.archive.to_owned(), entry: Some(entry.to_owned()), why: why.into() }
    }

    /// Whether it says of itself that it is an OCI layout (OCI `image-layout.md`, "oci-layout file").
    pub(super) fn has_layout(&self) -> Result<bool> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[derive(Default)]
        struct Layout {
            image_layout_version: String,
        }
        let Some(bytes) = self.top("oci-layout")? else { return Ok(false) };
        let layout: Layout = json::from_slice(&bytes).unwrap_or_default();
        Ok(!layout.image_layout_version.is_empty())
    }

    /// A document that says what is in the archive. In what may be a root file system, something odd of this name is
    /// none.
    pub(super) fn top(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.documents.document(name) {
            Err(Error::BadArchive { entry: Some(_), .. }) if !self.is_image => Ok(None),
            found => found,
        }
    }

    /// Reads a document that must be there, and checks it if it has a digest.
    pub(super) fn required(&self, name: &str, blob: Option<Blob>) -> Result<Vec<u8>> {
        let bytes = self.documents.document(name)?;
        let bytes = bytes.ok_or_else(|| self.bad(name, self.documents.why_missing()))?;
        self.check(name, &bytes, blob)?;
        Ok(bytes)
    }

    pub(super) fn check(&self, name: &str, bytes: &[u8], blob: Option<Blob>) -> Result<()> {
        let Some(blob) = blob else { return Ok(()) };
        let digest = BlobDigest::of(blob.digest.algorithm(), bytes);
        blob.check(digest, bytes.len() as u64).map_err(|why| self.bad(name, why))
    }

    /// Joins a config's diffIDs with the members that are its layers.
    pub(super) fn join(
        &self,
        config_name: &str,
        config: Vec<u8>,
        members: Vec<(String, Option<Blob>)>,
        names: Vec<ImageName>,
    ) -> Result<Plan> {
        let parsed = ImageConfig::parse(&config).map_err(|why| self.bad(config_name, why))?;
        let diff_ids = parsed.diff_ids();
        if diff_ids.len() != members.len() {
            let why = format!("names {} layers, and the manifest names {}", diff_ids.len(), members.len());
            return Err(self.bad(config_name, why));
        }
        let layers = diff_ids.iter().zip(members);
        let layers = layers.map(|(diff_id, (member, blob))| PlannedLayer { diff_id: *diff_id, member, blob }).collect();
        Ok(Plan { config, config_name: None, names, layers, may_be_absent: false })
    }
}

/// The sha256 that a member's name promises: `blobs/sha256/HEX`, `HEX.json`, `HEX.tar`, `sha256:HEX`.
#[must_use]
pub fn named_digest(member: &str) -> Option<Digest> {
    let name = member.strip_prefix("blobs/sha256/").or_else(|| member.strip_prefix("sha256:")).unwrap_or(member);
    let name = name.strip_suffix(".json").or_else(|| name.strip_suffix(".tar")).unwrap_or(name);
    Digest::from_hex(name).ok()
}
