//! What is likely to be read next is ready: files of a layer whose turn comes when a directory is read in order.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::Advice;

use super::disk::Disk;
use super::mounts::Mounts;
use super::processes::eventually;
use super::raw::Mapping;
use super::root_fs::{add, finish};

const FILES: usize = 24;
const SIZE: usize = 20_000;

fn name(number: usize) -> String {
    format!("file-{number:02}")
}

fn content(number: usize) -> Vec<u8> {
    vec![u8::try_from(number + 1).unwrap(); SIZE]
}

/// What [`cold`] makes.
struct Cold {
    mounts: Mounts,
    mountpoint: PathBuf,
    layer: PathBuf,
    _disk: Disk,
}

impl Cold {
    fn read(&self, dir: &str, number: usize) {
        assert_eq!(fs::read(self.mountpoint.join(dir).join(name(number))).unwrap(), content(number));
    }

    /// How many files of each directory are in memory.
    fn ready(&self) -> [usize; 2] {
        ready(&self.layer)
    }

    /// After this, what is ready will be no more.
    fn end(&self) {
        self.mounts.umount("box");
        assert_eq!(self.mounts.processes(), Vec::<u32>::new());
    }
}

/// A container over two directories of files, of which nothing is in memory, and where the layer is.
fn cold() -> Cold {
    let mounts = Mounts::new();
    // A directory for temporary files may be one that is in memory.
    let disk = Disk::new(&mounts.at(""), "store", 64, "mkfs.ext4", &["-q", "-m", "0"]);
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["one", "two"] {
        add(&mut tar, &format!("{dir}/"), 0o755, None);
        for number in 0..FILES {
            add(&mut tar, &format!("{dir}/{}", name(number)), 0o644, Some(&content(number)));
        }
    }
    mounts.import("plain", &finish(tar));
    let layer = fs::read_dir(mounts.at("store/diff")).unwrap().next().unwrap().unwrap().path();
    for dir in ["one", "two"] {
        for number in 0..FILES {
            let file = File::open(layer.join(dir).join(name(number))).unwrap();
            rustix::fs::fsync(&file).unwrap();
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
    assert_eq!(ready(&layer), [0, 0]);
    let mountpoint = mounts.mount(&["--name", "box", "plain"]).mountpoint;
    Cold { _disk: disk, mounts, mountpoint, layer }
}

/// How many files of each directory are in memory.
fn ready(layer: &Path) -> [usize; 2] {
    let is_ready = |path: PathBuf| Mapping::new(&File::open(path).unwrap(), false).is_in_memory();
    ["one", "two"].map(|dir| (0..FILES).filter(|number| is_ready(layer.join(dir).join(name(*number)))).count())
}

#[test]
fn who_reads_a_directory_in_order_finds_the_next_files_ready() {
    let cold = cold();
    for number in 0..8 {
        cold.read("one", number);
    }
    assert!(eventually(|| cold.ready()[0] >= 12));
    cold.end();
    assert_eq!(cold.ready()[1], 0);
}

#[test]
fn who_goes_on_to_another_directory_finds_its_first_files_ready() {
    let cold = cold();
    for number in 0..FILES {
        cold.read("one", number);
    }
    assert_eq!(fs::read_dir(cold.mountpoint.join("two")).unwrap().count(), FILES);
    assert!(eventually(|| cold.ready()[1] > 0));
    cold.end();
    assert_eq!(cold.ready()[0], FILES);
    assert!(cold.ready()[1] <= 8);
}

#[test]
fn who_only_lists_or_reads_here_and_there_has_nothing_made_ready() {
    let cold = cold();
    for dir in ["one", "two"] {
        assert_eq!(fs::read_dir(cold.mountpoint.join(dir)).unwrap().count(), FILES);
    }
    let numbers = [20, 10, 15, 8, 23];
    for number in numbers {
        cold.read("two", number);
    }
    cold.end();
    assert_eq!(cold.ready(), [0, numbers.len()]);
}
