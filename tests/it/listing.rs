//! All that can be seen of a tree on disk, to be compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::generator::sha256;

/// One line for each path, relative to the top, which is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing(pub(crate) BTreeMap<PathBuf, String>);

impl Listing {
    /// Types, metadata, content, extended attributes.
    pub(crate) fn of(top: &Path) -> Self {
        Self::new(top, false)
    }

    /// And which inode it is, last changed when: something replaced by the same is something else.
    pub(crate) fn with_identities(top: &Path) -> Self {
        Self::new(top, true)
    }

    fn new(top: &Path, with_identities: bool) -> Self {
        let mut lines = BTreeMap::new();
        let mut left = vec![top.to_owned()];
        while let Some(path) = left.pop() {
            let mut line = describe(&path);
            let metadata = path.symlink_metadata().expect("the entry is there");
            if with_identities {
                let (ino, seconds, nanoseconds) = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
                write!(line, " inode {ino} changed {seconds}.{nanoseconds:09}").expect("a line takes all");
            }
            if metadata.is_dir() {
                let entries = std::fs::read_dir(&path).expect("the directory can be read");
                left.extend(entries.map(|entry| entry.expect("it can be read").path()));
            }
            lines.insert(path.strip_prefix(top).expect("it is below").to_owned(), line);
        }
        Self(lines)
    }

    /// Without what is at and below `path`.
    pub(crate) fn without(mut self, path: &str) -> Self {
        self.0.retain(|at, _| !at.starts_with(path));
        self
    }

    /// Fails with the lines that differ.
    #[track_caller]
    pub(crate) fn assert_same(&self, before: &Self, what: &str) {
        let mut text = String::new();
        for path in before.0.keys().chain(self.0.keys().filter(|path| !before.0.contains_key(*path))) {
            let (old, new) = (before.0.get(path), self.0.get(path));
            if old != new {
                writeln!(text, "{}:\n  was {old:?}\n  is  {new:?}", path.display()).expect("a line takes all");
            }
        }
        assert!(text.is_empty(), "{what}:\n{text}");
    }
}

fn describe(path: &Path) -> String {
    let metadata = path.symlink_metadata().expect("the entry is there");
    let mut line = format!(
        "{:o} {}:{} mtime {}.{:09}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    let kind = metadata.file_type();
    if !kind.is_dir() {
        write!(line, " links {}", metadata.nlink()).expect("a line takes all");
    }
    if kind.is_file() {
        let content = std::fs::read(path).expect("the file can be read");
        write!(line, " size {} {}", content.len(), sha256(&content)).expect("a line takes all");
    } else if kind.is_symlink() {
        write!(line, " -> {:?}", path.read_link().expect("the link can be read")).expect("a line takes all");
    } else if !kind.is_dir() {
        write!(line, " device {:x}", metadata.rdev()).expect("a line takes all");
    }
    for (name, value) in xattrs(path) {
        write!(line, " {name}={}", value.escape_ascii()).expect("a line takes all");
    }
    line
}

/// The extended attributes, sorted by name.
pub(crate) fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("the attributes can be listed");
    let names = String::from_utf8(names[..length].to_vec()).expect("names are text");
    let value = |name: &str| {
        let mut value = vec![0_u8; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("the attribute can be read");
        value.truncate(length);
        value
    };
    names.split_terminator('\0').map(|name| (name.to_owned(), value(name))).collect()
}
