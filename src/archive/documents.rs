//! The small files of an archive, which say what is in it.

use std::io::{self, Read};

use super::checked_reader::ExactReader;
use crate::error::{Context as _, Error, Result};
use crate::id::{DiffId, Digester};
use crate::tarball::{decompress_within, size_text};

/// How large documents may be: real ones have some thousand bytes, and take up to ten times as much once they are
/// understood.
#[derive(Debug, Clone, Copy)]
pub struct DocumentLimits {
    /// Bytes of one.
    pub one: u64,
    /// Bytes of all of an archive together, each as often as it is named.
    pub all: u64,
    /// Images, and names that they get, together: each becomes a file of the store.
    pub names: usize,
}

impl Default for DocumentLimits {
    fn default() -> Self {
        Self { one: 4 << 20, all: 48 << 20, names: 10_000 }
    }
}

impl DocumentLimits {
    /// For an archive that may be one which was taken with other limits than the default ones, and of which no name is
    /// taken.
    #[must_use]
    pub const fn of_copy() -> Self {
        Self { one: 16 << 20, all: 256 << 20, names: usize::MAX }
    }

    /// Whether there may be so many images and names.
    pub(super) fn take_names(self, archive: &str, names: impl Iterator<Item = usize>) -> Result<()> {
        if names.fold(0, |sum: usize, names| sum.saturating_add(names).saturating_add(1)) <= self.names {
            return Ok(());
        }
        let why = format!("has more than {} images and names (`--limit names=` allows more)", self.names);
        Err(Error::bad_archive(archive, why))
    }

    /// Why a document is refused.
    #[must_use]
    pub fn too_large(self) -> String {
        let limit = size_text(self.one);
        format!("is too large for a document: it has more than {limit} bytes (`--limit document=` allows more)")
    }
}

/// The small files of an archive, which say what is in it.
pub trait Documents {
    /// The content of a member; `None` when there is none of this name.
    ///
    /// # Errors
    /// When it cannot be read, or is too large to be a document.
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Why there is nothing of a name that is needed, as a clause.
    fn why_missing(&self) -> &'static str {
        "is missing"
    }

    /// Whether a member of this name is there.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn has(&self, name: &str) -> Result<bool> {
        Ok(self.document(name)?.is_some())
    }

    /// The diffID of the layer that a member is, which is read for it; `None` when there is none of this name.
    ///
    /// # Errors
    /// When it cannot be read.
    fn diff_id(&self, _name: &str) -> Result<Option<DiffId>> {
        Ok(None)
    }
}

/// Reads a member's content that was announced with `size` bytes into memory.
pub(super) fn read_document(
    archive: &str,
    limits: DocumentLimits,
    name: &str,
    size: u64,
    source: impl Read,
) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::BadArchive {
        archive: archive.to_owned(),
        entry: Some(name.to_owned()),
        why: why.to_owned(),
    };
    if size > limits.one {
        return Err(bad(&limits.too_large()));
    }
    // At once, since what grows leaves gaps behind.
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    match ExactReader::new(source, size).read_to_end(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(bad("is cut short")),
        read => read.doing("read", archive).map(|_| bytes),
    }
}

/// Reads a layer for its diffID.
pub(super) fn diff_id_of(archive: &str, name: &str, ratio: u64, source: Box<dyn Read + '_>) -> Result<DiffId> {
    let failed = |error| super::read_failure(archive, Some(name), error);
    let (_, mut tar) = decompress_within(source, ratio).map_err(failed)?;
    let mut digester = Digester::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match tar.read(&mut buffer) {
            Ok(0) => return Ok(DiffId(digester.finish())),
            Ok(count) => digester.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
