//! How much of the disk something takes.

use std::collections::HashSet;
use std::ops::AddAssign;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, Result};

use crate::error::Context as _;
use crate::sys::{Dir, call};

/// Blocks are counted in these.
const BLOCK: u64 = 512;

/// What goes when something goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    /// Bytes that are allocated, whatever the files' sizes are.
    pub bytes: u64,
    /// Files and directories, each once however many names it has.
    pub inodes: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), |mut sum, usage| {
            sum += usage;
            sum
        })
    }
}

/// Adds up, and counts nothing twice.
#[derive(Debug, Default)]
pub struct Meter {
    /// Files of several names.
    linked: HashSet<(u64, u64)>,
    passes_over: bool,
}

impl Meter {
    /// One that counts a directory which its owner may not read without what is in it.
    #[must_use]
    pub fn of_what_can_be_read() -> Self {
        Self { passes_over: true, ..Self::default() }
    }

    /// What is at `path`, with all that is in it; nothing when it is not there, or something is mounted there. What goes meanwhile is not counted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn measure(&mut self, path: &Path) -> std::io::Result<Usage> {
        let stat = match call::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            // The last one: a mount whose server is dead.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NOTCONN) => return Ok(Usage::default()),
            stat => stat?,
        };
        let parent = match path.parent().map(call::stat).transpose() {
            Err(Errno::NOENT) => return Ok(Usage::default()),
            parent => parent?,
        };
        if parent.is_some_and(|parent| parent.st_dev != stat.st_dev) {
            // A mount, which takes nothing here.
            return Ok(Usage::default());
        }
        let mut total = self.one(&stat);
        let mut open: Vec<(OwnedFd, Dir)> = Vec::new();
        if is_directory(&stat) {
            open.extend(self.entries(call::open(path, FLAGS, Mode::empty()))?);
        }
        while let Some((dir, entries_left)) = open.last_mut() {
            let Some(entry) = entries_left.next() else {
                open.pop();
                continue;
            };
            let entry = match entry {
                // A directory that was removed after it was opened cannot be read (fs/readdir.c, `iterate_dir`).
                Err(Errno::NOENT) => {
                    open.pop();
                    continue;
                }
                entry => entry?,
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match call::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                Err(Errno::ACCESS) if self.passes_over => continue,
                stat => stat?,
            };
            total += self.one(&stat);
            if is_directory(&stat) {
                let below = self.entries(call::openat(dir.as_fd(), name, FLAGS, Mode::empty()))?;
                open.extend(below);
            }
        }
        Ok(total)
    }

    /// What is at all of these paths.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn measure_all(&mut self, paths: &[PathBuf]) -> crate::error::Result<Usage> {
        paths.iter().map(|path| self.measure(path).doing("measure", path)).sum()
    }

    fn entries(&self, opened: Result<OwnedFd>) -> Result<Option<(OwnedFd, Dir)>> {
        match opened {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::ACCESS) if self.passes_over => Ok(None),
            opened => {
                let dir = opened?;
                match Dir::read_from(&dir) {
                    Err(Errno::NOENT) => Ok(None),
                    entries => Ok(Some((dir, entries?))),
                }
            }
        }
    }

    #[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
    fn one(&mut self, stat: &Stat) -> Usage {
        if u64::from(stat.st_nlink) > 1 && !is_directory(stat) && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return Usage::default();
        }
        Usage { bytes: u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(BLOCK), inodes: 1 }
    }
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
