//! `diff`: what a container has changed, or what is different in two trees.
//!
//! Two trees are compared name by name, from their indexes: what both took from the same layers is not looked at, and a
//! file's content is only read where it was written in a container and all else is as it was. As Docker's, a directory is
//! changed when its mode, owner or attributes are or something in it is, and not by its time; anything else also when only
//! its time is another. Of a directory that is gone only its own name is told. The root is never told.

mod compare;
mod tar;

use std::path::{Path, PathBuf};

use compare::compare;

use crate::error::{Context as _, Error, Result};
use crate::id::DiffId;
use crate::output_file::OutputFile;
use crate::pack::layer::write_layer_tar;
use crate::pack::rw_layer::pack;
use crate::progress::Quiet;
use crate::store::Store;
use crate::union::{Attr, Union};
use crate::view::{View, container_view, layers_view};

/// What became of a path, by Docker's letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// `A`: it is new.
    Added,
    /// `C`: it is there, and is another.
    Changed,
    /// `D`: it is gone.
    Deleted,
}

/// One path that is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, from the root on, which is `/`.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: DifferenceKind,
    /// What it is now.
    attr: Option<Attr>,
}

/// A tree of the comparison.
struct Side<'a> {
    union: &'a Union,
    /// Where a container's tree is mounted.
    live: Option<PathBuf>,
    /// The image's layers, lowest first.
    layers: Vec<DiffId>,
}

/// What is compared.
struct Sides {
    new: View,
    old: View,
    live: Option<PathBuf>,
    layers: [Vec<DiffId>; 2],
    /// A container that is not mounted, against its own image.
    is_own: bool,
    /// An image's last layer, against those below.
    top: Option<DiffId>,
}

impl Sides {
    fn open(store: &Store, name: &str, base: Option<&str>) -> Result<Self> {
        let container = match store.find_container(name) {
            Ok(container) => Some(container),
            Err(Error::NotFound { kind: "container", .. }) => None,
            Err(error) => return Err(error),
        };
        let layers = match &container {
            Some(container) => container.record.layers.clone(),
            None => match store.find_image(name) {
                Err(Error::NotFound { kind: "image", name }) => {
                    return Err(Error::NotFound { kind: "container or image", name });
                }
                found => store.image(found?.id())?.record.layers,
            },
        };
        let (base, top) = match (base, &container) {
            (Some(base), _) => (store.image(store.find_image(base)?.id())?.record.layers, None),
            (None, Some(_)) => (layers.clone(), None),
            (None, None) => {
                let top = layers.last().copied();
                (layers.split_last().map(|(_, rest)| rest.to_vec()).unwrap_or_default(), top)
            }
        };
        let new = match &container {
            Some(container) => container_view(store, container)?,
            None => layers_view(store, &layers)?,
        };
        let live = new.mount();
        let is_own = container.is_some() && live.is_none() && base == layers;
        Ok(Self { new, old: layers_view(store, &base)?, live, layers: [layers, base], is_own, top })
    }

    fn differences(&self) -> Result<Vec<Difference>> {
        let [new, old] = &self.layers;
        let new = Side { union: &self.new.union, live: self.live.clone(), layers: new.clone() };
        compare(&Side { union: &self.old.union, live: None, layers: old.clone() }, &new)
    }
}

/// Says what is different in a container or image, against the image `base`; else in a container against its image, and in
/// an image against what it is without its last layer. Sorted by the bytes of the paths.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Ambiguous`]; when a tree cannot be read.
pub fn diff(store: &Store, name: &str, base: Option<&str>) -> Result<Vec<Difference>> {
    crate::sys::raise_descriptor_limit();
    let sides = Sides::open(store, name, base)?;
    let differences = sides.differences()?;
    sides.new.check_same().map(|()| differences)
}

/// Writes the same as a layer's tar, which makes the base to what it is compared with, to `output`, a file, or `-` for standard
/// output. Of an image alone that is its last layer, bit for bit.
///
/// # Errors
/// As [`diff`]; when it cannot be written. Then there is no file at the output, or the one that was there before.
pub fn diff_tar(store: &Store, name: &str, base: Option<&str>, output: &Path) -> Result<()> {
    crate::sys::raise_descriptor_limit();
    let sides = Sides::open(store, name, base)?;
    let mut out = OutputFile::open(output)?;
    let shown = out.name().to_owned();
    if let Some(top) = sides.top {
        write_layer_tar(store, &store.layer(top)?, &mut out, &shown, &Quiet)?;
    } else if sides.is_own {
        pack(&sides.new.union, &mut out, &shown, None)?;
    } else {
        tar::write(&sides.new.union, sides.differences()?, &mut out).doing("write", &shown)?;
    }
    sides.new.check_same()?;
    out.commit()
}
