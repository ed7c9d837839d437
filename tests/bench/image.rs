//! An image in the two forms that are compared: in our store, and as directories in overlayfs' spelling for the others.
//!
//! ```text
//! NAME/layers/0 ...     directories, the bottom layer first
//! NAME/l/0 ...          links to them, nearest first: short names for mount options
//! NAME/tars/0.tar ...   the layers' tars, where a row needs them
//! NAME/id               the image's id in our store; written last
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use crate::children;

#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The directory with all of it.
    pub(crate) dir: PathBuf,
    /// How many layers.
    pub(crate) layers: usize,
    /// In our store.
    pub(crate) id: String,
}

/// Our store, and the program for it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) program: PathBuf,
    pub(crate) root: PathBuf,
}

impl Store {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).arg("--quiet");
        command
    }
}

impl Image {
    /// The image in `dir` if it is complete.
    pub(crate) fn open(dir: &Path, store: &Store) -> Option<Self> {
        let id = fs::read_to_string(dir.join("id")).ok()?.trim().to_owned();
        // The store may have been made anew.
        children::output(store.command().arg("inspect").arg(&id)).ok()?;
        let layers = fs::read_dir(dir.join("l")).ok()?.count();
        Some(Self { dir: dir.to_owned(), layers, id })
    }

    /// Completes an image whose `layers/` are there, from an archive with the same layers.
    pub(crate) fn complete(dir: &Path, layers: usize, store: &Store, archive: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("l"))?;
        for number in 0..layers {
            symlink(format!("../layers/{}", layers - 1 - number), dir.join("l").join(number.to_string()))?;
        }
        let id = children::output(store.command().arg("import").arg(archive))?.trim().to_owned();
        if id.is_empty() || id.contains('\n') {
            bail!("{} has not exactly one image", archive.display());
        }
        fs::write(dir.join("id"), &id)?;
        Ok(Self { dir: dir.to_owned(), layers, id })
    }

    /// Where the links are.
    pub(crate) fn links(&self) -> PathBuf {
        self.dir.join("l")
    }

    /// One layer; 0 is the bottom.
    pub(crate) fn layer(&self, number: usize) -> PathBuf {
        self.dir.join("layers").join(number.to_string())
    }

    pub(crate) fn tars(&self) -> Vec<PathBuf> {
        let tars = (0..self.layers).map(|number| self.dir.join("tars").join(format!("{number}.tar")));
        tars.collect()
    }

    /// The lowers for a mount option, nearest first.
    pub(crate) fn lowers(&self, separator: &str) -> String {
        (0..self.layers).map(|number| number.to_string()).collect::<Vec<_>>().join(separator)
    }
}

/// Unpacks one layer's tar, with its whiteouts as overlayfs has them.
pub(crate) fn unpack(tar: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "--same-permissions", "--same-owner", "--xattrs", "--xattrs-include=*", "-xf"]);
    children::output(command.arg(tar).arg("-C").arg(dir))?;
    translate_whiteouts(dir)
}

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

fn translate_whiteouts(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            translate_whiteouts(&path)?;
        } else if name == OPAQUE {
            fs::remove_file(&path)?;
            setxattr(dir, "trusted.overlay.opaque", b"y", XattrFlags::empty())
                .with_context(|| format!("cannot make {} opaque", dir.display()))?;
        } else if let Some(hidden) = name.to_str().and_then(|name| name.strip_prefix(WHITEOUT)) {
            fs::remove_file(&path)?;
            let hidden = dir.join(hidden);
            mknodat(CWD, &hidden, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
                .with_context(|| format!("cannot make the whiteout {}", hidden.display()))?;
        }
    }
    Ok(())
}
