//! The files of an archive, by the names that its documents use.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// A link to a link to a link is no archive that any tool writes.
pub(super) const LINKS: usize = 16;
/// Bytes that a keyword or a value takes in memory beside its text.
const PER_RECORD: usize = 32;

/// A member's name as documents write it: without `./` and doubled slashes.
#[must_use]
pub fn normal_name(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

/// What a member's name tells of the archive that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameTells {
    /// An archive of images has members of such names.
    Image,
    /// A root file system has, or anything.
    Other,
    /// Nothing: the top directory, what macOS puts beside a file (AppleDouble), a header for all that follows.
    Nothing,
}

impl NameTells {
    /// What this name tells.
    #[must_use]
    pub fn of(name: &str) -> Self {
        if name.is_empty() || name == "pax_global_header" || name.starts_with("._") {
            return Self::Nothing;
        }
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        let is_hex = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let has_end = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        let is_it = first == "blobs"
            || matches!(name, "oci-layout" | "repositories")
            || is_hex(first.trim_start_matches("sha256:"))
            || rest == "layer.tar"
            || (rest.is_empty() && has_end(&[".json", ".tar", ".tar.gz", ".tgz", ".tar.zst"]));
        if is_it { Self::Image } else { Self::Other }
    }
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
    /// A file of which the archive has only pieces, and what PAX says of them.
    Sparse {
        /// Where the pieces are: bytes from the beginning.
        offset: u64,
        /// Bytes of them, and of a map before them.
        size: u64,
        /// The records of `GNU.sparse`.
        records: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// The same by old GNU.
    OldSparse {
        /// Where its header is: bytes from the beginning.
        header: u64,
    },
    /// Another name of a member.
    Link(String),
}

impl MemberKind {
    /// Bytes that it takes in memory beside its name.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Link(target) => target.len(),
            Self::Sparse { records, .. } => {
                let records = records.iter().flat_map(|(keyword, value)| [keyword.len(), value.len(), PER_RECORD]);
                records.fold(0, usize::saturating_add)
            }
            Self::File { .. } | Self::OldSparse { .. } => 0,
        }
    }
}

/// The name of a tar's entry, and what it is; nothing when it is no file and no other name of one.
pub fn member<R: Read>(entry: &mut tar::Entry<'_, R>) -> (String, Option<MemberKind>) {
    let kind = entry.header().entry_type();
    let is_file = matches!(kind, tar::EntryType::Regular | tar::EntryType::Continuous);
    let records = if is_file { sparse_records(entry) } else { Vec::new() };
    // The header has a name that is of use where nothing knows of sparse files.
    let name = records.iter().rev().find(|(keyword, _)| keyword == b"GNU.sparse.name");
    let name = name.map_or_else(|| normal_name(&entry.path_bytes()), |(_, name)| normal_name(name));
    let kind = member_kind(&name, entry, records);
    (name, kind)
}

fn member_kind<R: Read>(name: &str, entry: &tar::Entry<'_, R>, records: Vec<(Vec<u8>, Vec<u8>)>) -> Option<MemberKind> {
    let (offset, size) = (entry.raw_file_position(), entry.size());
    match entry.header().entry_type() {
        tar::EntryType::GNUSparse => Some(MemberKind::OldSparse { header: entry.raw_header_position() }),
        tar::EntryType::Regular | tar::EntryType::Continuous if !records.is_empty() => {
            Some(MemberKind::Sparse { offset, size, records })
        }
        tar::EntryType::Regular | tar::EntryType::Continuous => Some(MemberKind::File { offset, size }),
        kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
            let is_symbolic = kind == tar::EntryType::Symlink;
            Some(MemberKind::Link(link_target(name, entry.link_name_bytes().as_deref(), is_symbolic)))
        }
        _ => None,
    }
}

/// What its extended headers say of a sparse file. Those that cannot be understood say nothing here.
fn sparse_records<R: Read>(entry: &mut tar::Entry<'_, R>) -> Vec<(Vec<u8>, Vec<u8>)> {
    // error: nothing is read for it
    let Ok(Some(records)) = entry.pax_extensions() else { return Vec::new() };
    let records = records.flatten().filter(|record| record.key_bytes().starts_with(b"GNU.sparse."));
    records.map(|record| (record.key_bytes().to_vec(), record.value_bytes().to_vec())).collect()
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

/// Reads a part of a file, wherever others read it.
#[derive(Debug)]
pub struct Part {
    pub(super) file: Arc<File>,
    pub(super) at: u64,
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
    fn names_tell_an_archive_from_a_root_file_system() {
        let hex = "ab".repeat(32);
        for name in
            [&format!("{hex}/layer.tar"), &hex, "blobs", "blobs/sha256/x", "oci-layout", "config.json", "0/layer.tar"]
        {
            assert_eq!(NameTells::of(name), NameTells::Image, "{name}");
        }
        for name in ["bin", "etc/x.json", "usr/lib", "lib.tar/x", "README", "a/b/layer.tar"] {
            assert_eq!(NameTells::of(name), NameTells::Other, "{name}");
        }
        for name in ["", "._manifest.json", "pax_global_header"] {
            assert_eq!(NameTells::of(name), NameTells::Nothing, "{name}");
        }
    }
}
