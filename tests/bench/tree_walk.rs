//! Whole trees, in the order of their directories.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const BUFFER: usize = 128 << 10;

/// Opens, reads and closes each regular file.
pub(crate) fn read_all(root: &Path) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                read(&entry.path(), &mut buffer)?;
            }
        }
    }
    Ok(())
}

/// Reads one file with a buffer of this size.
pub(crate) fn read(path: &Path, buffer: &mut [u8]) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    while file.read(buffer).with_context(|| format!("cannot read {}", path.display()))? > 0 {}
    Ok(())
}

/// All directories of a tree.
pub(crate) fn directories(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(directory) = found.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
