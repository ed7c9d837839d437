//! The files of an archive, by the names that its documents use.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::exact::Exact;
use super::metered::{Meter, Metered};
use crate::error::{Context as _, Error, Result};
use crate::sys;
use crate::sys::fs;
use crate::tarball::size_text;

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

/// Bytes that all names and links of an archive of images may have; a root file system's may have more.
const NAMES_LIMIT: usize = 64 << 20;
/// Bytes that a member takes beside them.
const PER_MEMBER: usize = 100;
/// A link to a link to a link is no archive that any tool writes.
const LINKS: usize = 16;

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
}

/// A member's name as documents write it: without `./` and doubled slashes.
#[must_use]
pub fn normal_name(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

/// Whether an archive of images would have a member of this name as its first one; a root file system
/// begins with other names.
#[must_use]
pub(super) fn is_archive_member(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    let is_hex = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_end = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    first == "blobs"
        || matches!(name, "oci-layout" | "repositories")
        || is_hex(first.trim_start_matches("sha256:"))
        || (!name.contains('/') && has_end(&[".json", ".tar", ".tar.gz", ".tgz", ".tar.zst"]))
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A file: where in the archive its content is.
    File {
        /// Bytes from the beginning.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// Another name of a member.
    Link(String),
}

/// What a tar's entry is; `None` when it is no file and no other name of one.
pub fn member_kind<R: Read>(name: &str, entry: &tar::Entry<'_, R>) -> Option<MemberKind> {
    let link = |symbolic| MemberKind::Link(link_target(name, entry.link_name_bytes().as_deref(), symbolic));
    match entry.header().entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous => {
            Some(MemberKind::File { offset: entry.raw_file_position(), size: entry.size() })
        }
        tar::EntryType::Symlink => Some(link(true)),
        tar::EntryType::Link => Some(link(false)),
        _ => None,
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
    match Exact::new(source, size).read_to_end(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(bad("is cut short")),
        read => read.doing("read", archive).map(|_| bytes),
    }
}

/// The members of a tar that one can seek in: only their headers are read to find them.
#[derive(Debug)]
pub struct TarMembers {
    archive: String,
    limits: DocumentLimits,
    file: Arc<File>,
    members: BTreeMap<String, MemberKind>,
    /// Whether all names are those of an archive of images, and there is one.
    look_like_archive: bool,
}

/// Reads a part of a file, wherever others read it.
#[derive(Debug)]
pub struct Part {
    file: Arc<File>,
    at: u64,
}

impl Part {
    /// All of it.
    #[must_use]
    pub const fn new(file: Arc<File>) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

impl TarMembers {
    /// Finds the members; `None` as soon as one shows that this is no archive of images but a root file
    /// system.
    ///
    /// # Errors
    /// [`Error::BadArchive`] when the tar is damaged or cut short.
    pub fn find(archive: &str, limits: DocumentLimits, file: File) -> Result<Option<Self>> {
        let length = fs::metadata_of(&file).doing("read", archive)?.len();
        let bad = |entry: Option<String>, why: String| Error::BadArchive { archive: archive.to_owned(), entry, why };
        let file = Arc::new(file);
        // What is no header is passed over, never read.
        let meter = Meter::default();
        let damaged = |error: io::Error| match (meter.failure(), error.kind()) {
            (Some(source), _) => Error::Io { doing: "read", path: archive.into(), source },
            (None, io::ErrorKind::UnexpectedEof) => bad(None, "is cut short".into()),
            _ => bad(None, format!("is a damaged tar: {error}")),
        };
        let mut tar = tar::Archive::new(Metered { source: io::BufReader::new(&*file), meter: &meter });
        let mut members = BTreeMap::new();
        let (mut has_known, mut has_unknown) = (false, false);
        let mut name_bytes = 0_usize;
        for entry in tar.entries_with_seek().map_err(damaged)? {
            let entry = match entry {
                // error: what is wrong with a root file system's tar, a layer's own reader says better
                Err(_) if (!has_known || has_unknown) && meter.failure().is_none() => return Ok(None),
                entry => entry.map_err(damaged)?,
            };
            let name = normal_name(&entry.path_bytes());
            let is_known = is_archive_member(&name);
            has_known |= is_known;
            // The top directory has no name.
            has_unknown |= !is_known && !name.is_empty();
            let kind = match member_kind(&name, &entry) {
                Some(kind) => kind,
                None if entry.header().entry_type().is_dir() => {
                    meter.headers();
                    continue;
                }
                // Devices and the like.
                None => return Ok(None),
            };
            if let MemberKind::File { offset, size } = kind
                && offset.checked_add(size).is_none_or(|end| end > length)
            {
                if !has_known || has_unknown {
                    return Ok(None);
                }
                return Err(bad(Some(name), "is cut short".into()));
            }
            if name.matches('/').count() > 2 {
                return Ok(None);
            }
            let target = if let MemberKind::Link(target) = &kind { target.len() } else { 0 };
            name_bytes = [name.len(), target, PER_MEMBER].into_iter().fold(name_bytes, usize::saturating_add);
            if name_bytes > NAMES_LIMIT {
                if !has_known || has_unknown {
                    return Ok(None);
                }
                return Err(bad(None, "has more names and links than an archive of images needs".into()));
            }
            members.insert(name, kind);
            meter.headers();
        }
        let look_like_archive = has_known && !has_unknown;
        Ok(Some(Self { archive: archive.to_owned(), limits, file, members, look_like_archive }))
    }

    /// Whether all names are those of an archive of images, directories' among them: of one that was cut
    /// short nothing else may be left.
    #[must_use]
    pub const fn look_like_archive(&self) -> bool {
        self.look_like_archive
    }

    /// Opens a member; also gives its size. `None` when there is none of this name.
    #[must_use]
    pub fn open(&self, name: &str) -> Option<(Box<dyn Read + Send>, u64)> {
        let mut name = name;
        for _ in 0..LINKS {
            match self.members.get(name)? {
                MemberKind::File { offset, size } => {
                    let part = Part { file: self.file.clone(), at: *offset };
                    return Some((Box::new(Exact::new(part, *size)), *size));
                }
                MemberKind::Link(target) => name = target,
            }
        }
        None
    }
}

impl Documents for TarMembers {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((source, size)) = self.open(name) else { return Ok(None) };
        read_document(&self.archive, self.limits, name, size, source).map(Some)
    }
}

/// The member that a link means: a symbolic link's target counts from its own directory.
fn link_target(name: &str, target: Option<&[u8]>, symbolic: bool) -> String {
    let target = String::from_utf8_lossy(target.unwrap_or_default()).into_owned();
    let directory =
        name.rsplit_once('/').map(|(directory, _)| directory).filter(|_| symbolic && !target.starts_with('/'));
    let mut parts: Vec<&str> = directory.map(|directory| directory.split('/').collect()).unwrap_or_default();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The members of a directory that is an OCI layout.
#[derive(Debug)]
pub struct DirMembers {
    archive: String,
    limits: DocumentLimits,
    dir: PathBuf,
}

impl DirMembers {
    /// Takes the layout at `dir`.
    #[must_use]
    pub fn new(archive: &str, limits: DocumentLimits, dir: &Path) -> Self {
        Self { archive: archive.to_owned(), limits, dir: dir.to_owned() }
    }

    /// Opens a member; also gives its size. `None` when there is none of this name.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn open(&self, name: &str) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        // Documents name only blobs, by digests; other names are ours.
        if name.split('/').any(|part| part == "..") {
            return Ok(None);
        }
        let path = self.dir.join(name);
        let bad = |why: &str| Error::BadArchive {
            archive: self.archive.clone(),
            entry: Some(name.to_owned()),
            why: why.to_owned(),
        };
        let dir = File::open(&self.dir).doing("open", &self.dir)?;
        let file = match sys::open_below(&dir, name.as_bytes()) {
            Err(Errno::NOENT) => return Ok(None),
            // Some build tools make links of blobs, but what they mean must be a part of the archive.
            Err(Errno::XDEV) => return Err(bad("is a link that leads out of the layout")),
            Err(Errno::LOOP) => return Err(bad("is a link that leads nowhere")),
            Err(Errno::NXIO) => return Err(bad("is no regular file")),
            opened => File::from(opened.doing("open", &path)?),
        };
        let metadata = fs::metadata_of(&file).doing("read", &path)?;
        if !metadata.is_file() {
            return Err(bad("is no regular file"));
        }
        let size = metadata.len();
        Ok(Some((Box::new(Exact::new(file, size)), size)))
    }
}

impl Documents for DirMembers {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((source, size)) = self.open(name)? else { return Ok(None) };
        read_document(&self.archive, self.limits, name, size, source).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_count_from_where_they_stand() {
        let link = |name, target: &str, symbolic| link_target(name, Some(target.as_bytes()), symbolic);
        assert_eq!(link("a/layer.tar", "../b/layer.tar", true), "b/layer.tar");
        assert_eq!(link("a/layer.tar", "b/layer.tar", false), "b/layer.tar");
        assert_eq!(link("x", "../../../etc/passwd", true), "etc/passwd");
        assert_eq!(link("a/x", "/b", true), "b");
    }

    #[test]
    fn an_archives_first_member_tells_it_from_a_root_file_system() {
        let hex = "ab".repeat(32);
        for name in [&format!("{hex}/layer.tar"), &hex, "blobs", "blobs/sha256/x", "oci-layout", "config.json"] {
            assert!(is_archive_member(name), "{name}");
        }
        for name in ["bin", "etc/x.json", "usr/lib", "lib.tar/x"] {
            assert!(!is_archive_member(name), "{name}");
        }
    }
}
