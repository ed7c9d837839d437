//! Reading a directory.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Result;

use super::{call, retry};

/// Bytes of entries that one `getdents64(2)` returns at most, as in glibc.
const BATCH: usize = 32 << 10;

/// The entries of a directory, among them `.` and `..`, in the order of the file system.
///
/// [`rustix::fs::Dir`] and [`std::fs::ReadDir`] end at an interrupted call as if the directory ended there, once they
/// have told of it; this one makes the call again. After any other error it ends.
pub struct Dir {
    file: OwnedFd,
    batch: Vec<u8>,
    entries: VecDeque<DirEntry>,
    is_over: bool,
}

/// One name in a directory.
pub struct DirEntry {
    name: CString,
    kind: FileType,
    ino: u64,
}

impl DirEntry {
    /// The name, without the directory's path.
    #[must_use]
    pub fn file_name(&self) -> &CStr {
        &self.name
    }

    /// Whether it is `.` or `..`, which [`Dir`] gives too.
    #[must_use]
    pub fn is_dots(&self) -> bool {
        matches!(self.file_name().to_bytes(), b"." | b"..")
    }

    /// The type; [`FileType::Unknown`] where the file system does not say it here.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        self.kind
    }

    /// The inode number; of a mountpoint that of the directory under the mount.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }
}

impl Dir {
    /// Reads the open directory `dir`, from its beginning and without moving the position of `dir`.
    ///
    /// # Errors
    /// As `open(2)`: `ENOTDIR` when `dir` is none.
    pub fn read_from(dir: impl AsFd) -> Result<Self> {
        Self::new(call::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Opens and reads the directory at `path`.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(call::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Reads a directory that was opened for it, in the way that it was opened.
    ///
    /// # Errors
    /// None yet: reading fails where it is done.
    pub fn new(file: OwnedFd) -> Result<Self> {
        Ok(Self { file, batch: Vec::with_capacity(BATCH), entries: VecDeque::new(), is_over: false })
    }

    fn refill(&mut self) -> Result<()> {
        let mut raw = RawDir::new(&self.file, self.batch.spare_capacity_mut());
        loop {
            let read = retry(|| {
                let next = raw.next().transpose()?;
                let entry = next.map(|entry| DirEntry {
                    name: entry.file_name().to_owned(),
                    kind: entry.file_type(),
                    ino: entry.ino(),
                });
                Ok::<_, rustix::io::Errno>(entry)
            })?;
            let Some(entry) = read else {
                self.is_over = true;
                return Ok(());
            };
            self.entries.push_back(entry);
            if raw.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}

impl Iterator for Dir {
    type Item = Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.entries.is_empty()
            && !self.is_over
            && let Err(error) = self.refill()
        {
            self.is_over = true;
            return Some(Err(error));
        }
        self.entries.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_several_batches_has_each_name_once() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(200);
        let mut expected: Vec<String> = (0..700).map(|n| format!("{n:04}{long}")).collect();
        for name in &expected {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        expected.extend([".".to_owned(), "..".to_owned()]);
        expected.sort();
        let top = std::fs::File::open(dir.path()).unwrap();
        for entries in [Dir::open(dir.path()).unwrap(), Dir::read_from(&top).unwrap(), Dir::read_from(&top).unwrap()] {
            let mut found: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
            found.sort();
            assert_eq!(found, expected);
        }
        assert!(Dir::open(&dir.path().join("none")).is_err());
    }
}
