//! Trees that are made with a fixed seed, spread over layers as images are: each layer has directories of its own, in parents that
//! all layers share.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::random::Random;

/// The shape of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) files: usize,
    pub(crate) layers: usize,
    /// Sizes lie between 0 and 2 to the power of this, most of them small.
    pub(crate) size_bits: u64,
}

const FILES_PER_DIRECTORY: usize = 15;
const SHARED_PARENTS: usize = 40;
/// As often as in a Debian root.
const ONE_IN_SYMLINKS: u64 = 12;

/// Writes `layers/0`, ... into `dir`.
pub(crate) fn generate(dir: &Path, shape: Shape) -> Result<()> {
    let mut random = Random::new(15_000);
    let mut content = vec![0; 1 << shape.size_bits];
    random.fill(&mut content);
    let mut made = PathBuf::new();
    for number in 0..shape.files {
        let layer = number * shape.layers / shape.files;
        let parent = place(number);
        let directory = dir.join("layers").join(layer.to_string()).join(parent);
        if directory != made {
            fs::create_dir_all(&directory)?;
            made = directory;
        }
        let path = made.join(format!("file-{number}"));
        if random.below(ONE_IN_SYMLINKS) == 0 && number % FILES_PER_DIRECTORY > 0 {
            symlink(format!("file-{}", number - 1), path)?;
            continue;
        }
        let bits = random.below(shape.size_bits + 1);
        let size = random.below(1 << bits) as usize;
        let start = random.below((content.len() - size) as u64 + 1) as usize;
        File::create(path)?.write_all(&content[start..start + size])?;
    }
    Ok(())
}

fn place(number: usize) -> PathBuf {
    let directory = number / FILES_PER_DIRECTORY;
    format!("usr/lib/parent-{}/directory-{directory}", directory % SHARED_PARENTS).into()
}

/// A file of the bottom layer.
pub(crate) fn first_file() -> PathBuf {
    place(0).join("file-0")
}
