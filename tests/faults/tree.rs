//! All that is seen of a tree, to be compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What there is at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Type, mode, owner, link count, target, attributes.
    pub(crate) line: String,
    /// Of a file, its size and a hash of its content.
    pub(crate) content: Option<(u64, u64)>,
    pub(crate) mtime: Option<SystemTime>,
}

/// By the path relative to the top.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tree(pub(crate) BTreeMap<PathBuf, Entry>);

impl Tree {
    /// Reads a tree, the top's own line too; without times.
    pub(crate) fn read(top: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        let mut rest = vec![top.to_owned()];
        while let Some(path) = rest.pop() {
            let meta = path.symlink_metadata()?;
            if meta.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    rest.push(entry?.path());
                }
            }
            let name = path.strip_prefix(top).expect("below the top").to_owned();
            tree.0.insert(name, entry(&path, &meta, |bytes| hash(&bytes))?);
        }
        Ok(tree)
    }

    /// Without what a write that was not synced may lose.
    pub(crate) fn sizeless(&self) -> Self {
        let sizeless = |entry: &Entry| Entry { content: None, ..entry.clone() };
        Self(self.0.iter().map(|(path, entry)| (path.clone(), sizeless(entry))).collect())
    }

    /// Some of what is not the same in `found`.
    pub(crate) fn difference(&self, found: &Self) -> String {
        let show = |entry: Option<&Entry>| entry.map_or("nothing".to_owned(), |entry| format!("{entry:?}"));
        let paths = self.0.keys().chain(found.0.keys().filter(|path| !self.0.contains_key(*path)));
        let differs = paths.filter(|path| self.0.get(*path) != found.0.get(*path));
        let lines: Vec<String> = differs
            .take(3)
            .map(|path| {
                let (want, is) = (show(self.0.get(path)), show(found.0.get(path)));
                format!(
                    "{} should be {want}, is {is}",
                    if path.as_os_str().is_empty() { Path::new(".") } else { path }.display()
                )
            })
            .collect();
        lines.join("; ")
    }
}

pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// What there is at `path`, with `content` to hash what a file has.
pub(crate) fn entry(path: &Path, meta: &std::fs::Metadata, content: impl FnOnce(Vec<u8>) -> u64) -> io::Result<Entry> {
    let kind = meta.file_type();
    let links = if kind.is_dir() { 0 } else { meta.nlink() };
    let mut line = format!("{:o} {}:{} {links}", meta.mode(), meta.uid(), meta.gid());
    if kind.is_symlink() {
        line += &format!(" -> {}", std::fs::read_link(path)?.display());
    }
    if kind.is_char_device() || kind.is_block_device() {
        line += &format!(" device {:x}", meta.rdev());
    }
    if kind.is_file() || kind.is_dir() {
        line += &attributes(path)?;
    }
    let bytes = if kind.is_file() { Some(std::fs::read(path)?) } else { None };
    Ok(Entry { line, content: bytes.map(|bytes| (bytes.len() as u64, content(bytes))), mtime: None })
}

fn attributes(path: &Path) -> io::Result<String> {
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice())?;
    let mut text = String::new();
    let mut names: Vec<&[u8]> = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    for name in names {
        let mut value = vec![0_u8; 65536];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
        text += &format!(" {}={}", String::from_utf8_lossy(name), value[..length].escape_ascii());
    }
    Ok(text)
}

/// Copies all of a file by copy_file_range(2).
pub(crate) fn copy_content(from: &File, to: &File) -> io::Result<()> {
    while rustix::fs::copy_file_range(from, None, to, None, 1 << 20)? > 0 {}
    Ok(())
}
