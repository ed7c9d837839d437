//! How much a tar may ask for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much a tar may ask for; one that asks for more is refused. Clones share what is left of `total`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one tar, with the holes of its sparse files, which cost each reader time.
    pub layer: u64,
    /// Bytes of the same that all tars together may still have, and the holes of sparse members of the archive that they
    /// are in.
    pub total: Arc<AtomicU64>,
    /// How many times as large as it came compressed one stream may be, once it is larger than some hundred megabytes.
    pub ratio: u64,
    /// Entries in one tar, with the directories above them that have none of their own.
    pub entries: u64,
    /// Bytes of a path or of a link's target.
    pub path: usize,
    /// Directories on the way to an entry.
    pub depth: usize,
    /// Bytes of names and values of one entry's extended attributes.
    pub xattrs: usize,
    /// Bytes of the paths, links and extended attributes of all entries: they are in memory until the tar ends.
    pub index: u64,
    /// Bytes of the extended headers (PAX, GNU long names) of one entry, and of all global ones together.
    pub headers: u64,
    /// Pieces of data in one sparse file: each takes 16 bytes of memory.
    pub extents: usize,
    /// Bytes of holes of sparse members that are hashed, per tar; later files with holes are not refused, but
    /// have no digest in the index: a hole of 8 EiB costs a tar nothing, and hashing it would never end.
    pub hashed_holes: u64,
}

impl Default for Limits {
    /// What takes all images that people make.
    fn default() -> Self {
        Self {
            layer: 64 << 30,
            total: Arc::new(AtomicU64::new(256 << 30)),
            ratio: 100,
            entries: 4_000_000,
            path: 4096,
            depth: 2048,
            xattrs: 1 << 20,
            index: 1 << 30,
            headers: 1 << 20,
            extents: 1 << 20,
            hashed_holes: 4 << 30,
        }
    }
}

impl Limits {
    /// For what is packed here or was unpacked before, with whatever limits: only the hashing of holes ends.
    #[must_use]
    pub fn of_own() -> Self {
        Self {
            layer: u64::MAX,
            total: Arc::new(AtomicU64::new(u64::MAX)),
            ratio: u64::MAX,
            entries: u64::MAX,
            path: usize::MAX,
            depth: usize::MAX,
            xattrs: usize::MAX,
            index: u64::MAX,
            headers: u64::MAX,
            extents: usize::MAX,
            ..Self::default()
        }
    }

    /// For an untrusted tar that may be a copy of a known one, of so many bytes and entries, which was imported with other
    /// limits than the default ones.
    #[must_use]
    pub fn of_copy(bytes: u64, entries: u64) -> Self {
        /// How many times as much as by default may be asked for by a single entry, where that takes only memory.
        const MORE: u16 = 16;
        let default = Self::default();
        let (layer, more) = (default.layer.max(bytes), usize::from(MORE));
        Self {
            layer,
            total: Arc::new(AtomicU64::new(layer.max(default.total.load(Ordering::Relaxed)))),
            // Those that are known are without the directories that have none.
            entries: default.entries.max(entries.saturating_mul(u64::from(MORE))),
            path: default.path.saturating_mul(more),
            depth: default.depth.saturating_mul(more),
            xattrs: default.xattrs.saturating_mul(more),
            index: default.index.saturating_mul(u64::from(MORE)),
            headers: default.headers.saturating_mul(u64::from(MORE)),
            extents: default.extents.saturating_mul(more),
            ..default
        }
    }

    /// Looks whether a sparse member of an archive may be of `size` bytes, of which the archive has `data`. Its holes are
    /// taken from `total` each time that the member is read: they cost the archive nothing.
    ///
    /// # Errors
    /// When `layer` or what is left of `total` is less.
    pub fn sparse_member(&self, size: u64, data: u64) -> Result<(), Refusal> {
        if size > self.layer {
            return Err(Refusal::limit("layer", format!("has more than {} bytes", size_text(self.layer))));
        }
        self.spend(size.saturating_sub(data))
    }

    /// Takes so many bytes of what all tars together may have.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), Refusal> {
        let take = |left: u64| left.checked_sub(bytes);
        match self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(Refusal::limit("total", "unpacks to more bytes, with the layers before it, than are allowed"))
            }
        }
    }
}

/// Why something is refused, as a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The clause.
    pub why: String,
    /// The limit, by its name in [`Limits`], that could be raised.
    pub limit: Option<&'static str>,
}

impl Refusal {
    pub(super) fn limit(limit: &'static str, why: impl Into<String>) -> Self {
        Self { why: why.into(), limit: Some(limit) }
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self { why, limit: None }
    }
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

// So that a reader can refuse to go on: it goes as the source of an I/O error.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for std::io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::other(refusal)
    }
}

/// The refusal that an I/O error is, if it is one.
#[must_use]
pub fn refusal_of(error: &std::io::Error) -> Option<&Refusal> {
    error.get_ref().and_then(|source| source.downcast_ref())
}

/// A number of bytes as it is written on the command line: `64g`.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    let units = [(40, "t"), (30, "g"), (20, "m"), (10, "k")];
    let unit = units.iter().find(|(shift, _)| bytes >> shift != 0 && (bytes >> shift) << shift == bytes);
    unit.map_or_else(|| bytes.to_string(), |(shift, letter)| format!("{}{letter}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_may_have_directories_that_no_record_counts() {
        let most = Limits::default().entries;
        assert_eq!(Limits::of_copy(0, 1000).entries, most);
        assert!(Limits::of_copy(0, most).entries >= most * 10);
    }
}
