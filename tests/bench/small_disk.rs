//! A small disk of its own for rows about a disk that becomes full: a file system in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, unmount};

use crate::children;

/// Unmounted and removed when it is dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    file: PathBuf,
    mountpoint: PathBuf,
}

impl SmallDisk {
    /// An ext4 of `megabytes` in a file in `dir`.
    pub(crate) fn new(dir: &Path, megabytes: u64) -> Result<Self> {
        let disk = Self { file: dir.join("small.disk"), mountpoint: dir.join("small") };
        File::create(&disk.file)?.set_len(megabytes << 20)?;
        fs::create_dir_all(&disk.mountpoint)?;
        children::output(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&disk.file))
            .context("cannot make a file system")?;
        children::output(Command::new("mount").args(["-o", "loop"]).args([&disk.file, &disk.mountpoint]))
            .context("cannot mount it")?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mountpoint
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may not be mounted yet.
        let _ = unmount(&self.mountpoint, UnmountFlags::DETACH);
        for removed in [fs::remove_dir(&self.mountpoint), fs::remove_file(&self.file)] {
            if let Err(error) = removed {
                eprintln!("{} stays: {error}", self.file.display());
            }
        }
    }
}
