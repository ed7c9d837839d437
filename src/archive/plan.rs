//! What an archive's documents say is to be imported.

use std::cell::Cell;

use super::config::ImageConfig;
use super::members::{DocumentLimits, Documents};
use super::{Platform, docker, oci};
use crate::error::{Error, Result};
use crate::id::{DiffId, Digest, ImageName};

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The config's bytes, as they came.
    pub config: Vec<u8>,
    /// The names that the archive gives it.
    pub names: Vec<ImageName>,
    /// Lowest first.
    pub layers: Vec<PlannedLayer>,
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

/// The name of some bytes by what they are (OCI `descriptor.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Their sha256.
    pub digest: Digest,
    /// How many they are, where that was said.
    pub size: Option<u64>,
}

impl Blob {
    /// Compares with what has been read; the difference as a clause.
    ///
    /// # Errors
    /// When it is something else.
    pub fn check(&self, digest: Digest, size: u64) -> std::result::Result<(), String> {
        if let Some(announced) = self.size.filter(|announced| *announced != size) {
            return Err(format!("has {size} bytes and not {announced}"));
        }
        if digest != self.digest {
            return Err(format!("has the digest {digest} and not {}", self.digest));
        }
        Ok(())
    }
}

/// Reads the documents of an archive; `None` when it has none, so that it may be a root file system.
///
/// # Errors
/// [`Error::BadArchive`] that names the document or member that is missing, damaged or not what it should be.
pub fn plans(
    archive: &str,
    documents: &dyn Documents,
    limits: DocumentLimits,
    platform: &Platform,
) -> Result<Option<Vec<Plan>>> {
    let documents = Limited { documents, archive, left: Cell::new(limits.all) };
    let plans = match docker::plans(archive, &documents, limits)? {
        Some(plans) => Some(plans),
        None => oci::plans(archive, &documents, platform)?,
    };
    limits.take_names(archive, plans.iter().flatten().map(|plan| plan.names.len()))?;
    if plans.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::bad_archive(archive, "has no image in it"));
    }
    Ok(plans)
}

/// Documents of which no more is given than an archive of images can need: one of some kilobytes can name one of
/// megabytes thousands of times.
struct Limited<'a> {
    documents: &'a dyn Documents,
    archive: &'a str,
    left: Cell<u64>,
}

impl Documents for Limited<'_> {
    fn why_missing(&self) -> &'static str {
        self.documents.why_missing()
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = self.documents.document(name)? else { return Ok(None) };
        let left = self.left.get().checked_sub(bytes.len() as u64);
        self.left.set(left.ok_or_else(|| {
            Error::bad_archive(self.archive, "has too many documents (`--limit documents=` allows more)")
        })?);
        Ok(Some(bytes))
    }
}

/// Joins a config's diffIDs with the members that are its layers.
pub(super) fn join(
    archive: &str,
    config_name: &str,
    config: Vec<u8>,
    members: Vec<(String, Option<Blob>)>,
    names: Vec<ImageName>,
) -> Result<Plan> {
    let bad = |why: String| Error::BadArchive { archive: archive.to_owned(), entry: Some(config_name.to_owned()), why };
    let parsed = ImageConfig::parse(&config).map_err(bad)?;
    let diff_ids = parsed.diff_ids();
    if diff_ids.len() != members.len() {
        return Err(bad(format!("names {} layers, and the manifest names {}", diff_ids.len(), members.len())));
    }
    let layers = diff_ids.iter().zip(members);
    let layers = layers.map(|(diff_id, (member, blob))| PlannedLayer { diff_id: *diff_id, member, blob }).collect();
    Ok(Plan { config, names, layers })
}

/// Reads a document that must be there, and checks it if it has a digest.
pub(super) fn required(archive: &str, documents: &dyn Documents, name: &str, blob: Option<Blob>) -> Result<Vec<u8>> {
    let bad = |why: String| Error::BadArchive { archive: archive.to_owned(), entry: Some(name.to_owned()), why };
    let bytes = documents.document(name)?.ok_or_else(|| bad(documents.why_missing().into()))?;
    if let Some(blob) = blob {
        blob.check(Digest::of(&bytes), bytes.len() as u64).map_err(bad)?;
    }
    Ok(bytes)
}

/// The digest that a member's name promises: `blobs/sha256/HEX`, `HEX.json`, `HEX.tar`, `sha256:HEX`.
#[must_use]
pub fn named_digest(member: &str) -> Option<Digest> {
    let name = member.strip_prefix("blobs/sha256/").or_else(|| member.strip_prefix("sha256:")).unwrap_or(member);
    let name = name.strip_suffix(".json").or_else(|| name.strip_suffix(".tar")).unwrap_or(name);
    Digest::from_hex(name).ok()
}
