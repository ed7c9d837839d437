//! A small disk of its own: a file system in a file. Needs mkfs(8), mount(8) and a loop device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};
use rustix::mount::{UnmountFlags, unmount};

/// A file system that goes when this is dropped.
pub(crate) struct Disk {
    mountpoint: PathBuf,
}

/// A command that must go well.
#[track_caller]
pub(crate) fn system(program: &str, args: &[&str], paths: &[&Path]) {
    let output =
        Command::new(program).args(args).args(paths).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?} {paths:?}: {}: {text}", output.status);
}

impl Disk {
    /// Makes one of `megabytes` in the directory `dir`, by a command as `mkfs.ext4` with these arguments.
    pub(crate) fn new(dir: &Path, name: &str, megabytes: u64, mkfs: &str, args: &[&str]) -> Self {
        let (file, mountpoint) = (dir.join(format!("{name}.disk")), dir.join(name));
        File::create(&file).and_then(|disk| disk.set_len(megabytes << 20)).expect("a disk is made");
        system(mkfs, args, &[&file]);
        fs::create_dir(&mountpoint).expect("a directory is made");
        system("mount", &["-o", "loop"], &[&file, &mountpoint]);
        Self { mountpoint }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mountpoint
    }

    pub(crate) fn room(&self) -> StatVfs {
        statvfs(&self.mountpoint).expect("it is mounted")
    }

    /// Fills it up to so many free blocks, as far as its own tables let it.
    pub(crate) fn leave_blocks(&self, blocks: u64) {
        let file = self.filler();
        let size = |file: &File| file.metadata().expect("it is open").len();
        for _ in 0..50 {
            let room = self.room();
            let block = room.f_frsize;
            match room.f_bavail.cmp(&blocks) {
                std::cmp::Ordering::Equal => return,
                // What its own tables take is not known before.
                std::cmp::Ordering::Greater => {
                    let mut more = room.f_bavail - blocks;
                    let add = |more| fallocate(&file, FallocateFlags::empty(), size(&file), more * block);
                    while add(more).is_err() {
                        more /= 2;
                        if more == 0 {
                            return;
                        }
                    }
                }
                std::cmp::Ordering::Less => {
                    let less = (blocks - room.f_bavail) * block;
                    file.set_len(size(&file).saturating_sub(less)).expect("it can be shorter");
                }
            }
            rustix::fs::syncfs(&file).expect("it is flushed");
        }
        panic!("{blocks} blocks cannot be left, but {}", self.room().f_bavail);
    }

    fn filler(&self) -> File {
        let path = self.mountpoint.join("filler");
        File::options().create(true).append(true).open(path).expect("a file is made")
    }

    /// Fills it up to so many free inodes.
    pub(crate) fn leave_inodes(&self, inodes: u64) {
        // Later there is none for it.
        self.filler();
        let dir = self.mountpoint.join("files");
        if !dir.exists() {
            fs::create_dir(&dir).expect("a directory is made");
        }
        while self.room().f_favail > inodes {
            let number = fs::read_dir(&dir).expect("it is there").count();
            File::create_new(dir.join(format!("{number}-{}", self.room().f_favail))).expect("a file is made");
        }
        let mut names = fs::read_dir(&dir).expect("it is there").map(|entry| entry.expect("it is read").path());
        while self.room().f_favail < inodes {
            fs::remove_file(names.next().expect("there are more")).expect("a file is removed");
        }
    }

    /// Takes the fillers away.
    pub(crate) fn empty(&self) {
        let _ = fs::remove_file(self.mountpoint.join("filler"));
        let _ = fs::remove_dir_all(self.mountpoint.join("files"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if unmount(&self.mountpoint, UnmountFlags::empty()).is_err() {
            let _ = unmount(&self.mountpoint, UnmountFlags::DETACH);
        }
    }
}
