//! What the rows work on: the directory, our store, the images, and how much of everything.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::archive;
use crate::arguments::Arguments;
use crate::image::{self, Image, Store};
use crate::projects;
use crate::tree::{self, Shape};

/// How much work the rows are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amounts {
    /// Of the big file.
    pub(crate) bytes: u64,
    pub(crate) missing_names: usize,
    pub(crate) small_files: usize,
    pub(crate) random_reads: usize,
    pub(crate) random_writes: usize,
    pub(crate) repository_files: usize,
    pub(crate) few: usize,
    pub(crate) many: usize,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) store: Store,
    pub(crate) amounts: Amounts,
    images: Option<PathBuf>,
    temporary: Option<tempfile::TempDir>,
}

impl World {
    pub(crate) fn new(arguments: &Arguments) -> Result<Self> {
        let temporary = match arguments.dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?),
        };
        let dir = arguments.dir.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()));
        let dir = dir.context("no directory to work in")?;
        // Small and large figures have fixtures of their own.
        let dir = if arguments.quick { dir.join("quick") } else { dir.join("full") };
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let store = Store { program: arguments.program(), root: dir.join("store") };
        Ok(Self { store, amounts: Amounts::new(arguments.quick), images: arguments.images.clone(), dir, temporary })
    }

    /// The same on another disk, with a store of its own.
    pub(crate) fn on(&self, disk: &Path) -> Self {
        let store = Store { program: self.store.program.clone(), root: disk.join("store") };
        Self { store, dir: disk.to_owned(), amounts: self.amounts, images: None, temporary: None }
    }

    /// A file of `--images`, if it is there.
    pub(crate) fn given(&self, name: &str) -> Option<PathBuf> {
        self.images.as_ref().map(|dir| dir.join(name)).filter(|path| path.is_file())
    }

    /// A root file system: that of `--images`, or one of the same number of files.
    pub(crate) fn root(&self) -> Result<Image> {
        match self.given("slim.docker.tar") {
            Some(archive) => self.image("root-given", |dir| {
                let layers = archive::take_out(&archive, &dir.join("tars"))?;
                for number in 0..layers {
                    let name = number.to_string();
                    image::unpack(&dir.join(format!("tars/{name}.tar")), &dir.join("layers").join(name))?;
                }
                Image::complete(dir, layers, &self.store, &archive)
            }),
            None => self.generated("root", Shape { files: self.amounts.few, layers: 3, size_bits: 17 }, true),
        }
    }

    /// An image of many or few layers and files.
    pub(crate) fn mounted_image(&self, files: usize, layers: usize) -> Result<Image> {
        self.generated(&format!("files-{files}-layers-{layers}"), Shape { files, layers, size_bits: 8 }, false)
    }

    /// One layer with a C project, a Python package, and a big file.
    pub(crate) fn work(&self) -> Result<Image> {
        self.image("work", |dir| {
            let layer = dir.join("layers/0");
            fs::create_dir_all(&layer)?;
            projects::c_project(&layer)?;
            projects::python_package(&layer)?;
            projects::big_file(&layer.join("big"), self.amounts.bytes)?;
            self.import(dir, 1, false)
        })
    }

    /// One layer with next to nothing.
    pub(crate) fn small(&self) -> Result<Image> {
        self.generated("small-image", Shape { files: 10, layers: 1, size_bits: 8 }, false)
    }

    /// A git repository outside of all mounts.
    pub(crate) fn repository(&self) -> Result<PathBuf> {
        let dir = self.dir.join("git");
        if !dir.join("complete").exists() {
            clear(&dir)?;
            eprintln!("preparing git");
            projects::git_repository(&dir, self.amounts.repository_files)?;
            fs::write(dir.join("complete"), "")?;
        }
        Ok(dir.join("repository"))
    }

    fn generated(&self, name: &str, shape: Shape, keep_tars: bool) -> Result<Image> {
        self.image(name, |dir| {
            tree::generate(dir, shape)?;
            self.import(dir, shape.layers, keep_tars)
        })
    }

    fn image(&self, name: &str, make: impl FnOnce(&Path) -> Result<Image>) -> Result<Image> {
        let dir = self.dir.join(name);
        if let Some(image) = Image::open(&dir, &self.store) {
            return Ok(image);
        }
        eprintln!("preparing {name}");
        clear(&dir)?;
        let image = make(&dir).with_context(|| format!("cannot prepare {name}"))?;
        rustix::fs::sync();
        Ok(image)
    }

    fn import(&self, dir: &Path, layers: usize, keep_tars: bool) -> Result<Image> {
        let archive = dir.join("docker.tar");
        fs::create_dir(dir.join("tars"))?;
        let mut tars = Vec::new();
        for number in 0..layers {
            tars.push(dir.join(format!("tars/{number}.tar")));
            archive::pack(&dir.join(format!("layers/{number}")), &dir.join(format!("tars/{number}.tar")))?;
        }
        archive::write(&archive, &tars)?;
        let image = Image::complete(dir, layers, &self.store, &archive)?;
        if !keep_tars {
            fs::remove_dir_all(dir.join("tars"))?;
            fs::remove_file(archive)?;
        }
        Ok(image)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(dir) = self.temporary.take() {
            let path = dir.path().to_owned();
            if let Err(error) = dir.close() {
                eprintln!("{} stays: {error}", path.display());
            }
        }
    }
}

impl Amounts {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            return Self {
                bytes: 16 << 20,
                missing_names: 2000,
                small_files: 500,
                random_reads: 500,
                random_writes: 500,
                repository_files: 300,
                few: 1000,
                many: 3000,
            };
        }
        Self {
            bytes: 1 << 30,
            missing_names: 100_000,
            small_files: 10_000,
            random_reads: 20_000,
            random_writes: 20_000,
            repository_files: 4000,
            few: 15_000,
            many: 200_000,
        }
    }
}

fn clear(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(fs::create_dir_all(dir)?)
}
