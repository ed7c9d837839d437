//! Which format an archive's documents have, and what they say is to be imported.

use std::cell::Cell;

use super::documents::Documents;
use super::plan::{Plans, Reader, Wanted, no_documents};
use super::{docker, legacy, oci};
use crate::error::{Error, Result};
use crate::id::DiffId;

/// Reads the documents of an archive; `None` when nothing says that it is one, so that it may be a root file system.
/// `look_like_image` says that its members have the names of one.
///
/// # Errors
/// [`Error::BadArchive`] that names the document or member that is missing, damaged or not what it should be.
pub fn plans(
    archive: &str,
    documents: &dyn Documents,
    wanted: &Wanted,
    look_like_image: bool,
) -> Result<Option<Plans>> {
    let documents = Limited { documents, archive, left: Cell::new(wanted.limits.all) };
    let mut reader = Reader { archive, documents: &documents, wanted, is_image: look_like_image };
    reader.is_image = look_like_image || reader.has_layout()?;
    let (has_manifest, mut plans) = docker::plans(&reader)?;
    if plans.is_none() {
        plans = oci::plans(&reader)?;
    }
    if plans.is_none() && !has_manifest {
        plans = legacy::plans(&reader)?;
    }
    let Some(plans) = plans else {
        let missing = documents.why_missing();
        return match reader.is_image {
            false => Ok(None),
            true if has_manifest => Err(Error::bad_archive(archive, "has no image in it")),
            true if missing != "is missing" => Err(reader.bad(docker::MANIFEST, missing)),
            true => Err(no_documents(archive)),
        };
    };
    wanted.limits.take_names(archive, plans.images.iter().map(|plan| plan.names.len()))?;
    Ok(Some(plans))
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

    fn has(&self, name: &str) -> Result<bool> {
        self.documents.has(name)
    }

    fn diff_id(&self, name: &str) -> Result<Option<DiffId>> {
        self.documents.diff_id(name)
    }
}
