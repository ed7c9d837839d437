//! The waist: all that the store and the union know of each other.

use std::path::PathBuf;
use std::sync::Arc;

use crate::index::Index;

/// One writable directory over any number of read-only layers.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The directory that takes all changes; without one the union is read-only.
    pub upper: Option<PathBuf>,
    /// The layers, nearest first.
    pub lowers: Vec<Lower>,
    /// Whether the lowers are certain to be the same at the next mount: an image's, not just any
    /// directories. Only then may the upper hold marks that stand for a lower file's data, and does a new
    /// upper take over the attributes of the lowers' root.
    pub lowers_are_immutable: bool,
    /// Empty directories and files that are shown at the names where the lowers have nothing: what a command's file systems are
    /// mounted on. They are no layer.
    pub mount_points: Option<Arc<Index>>,
}

/// One read-only layer: what is in it, and where its files' data are.
#[derive(Debug, Clone)]
pub struct Lower {
    /// Holds the data of the layer's files, each at its path.
    pub dir: PathBuf,
    /// The truth about the layer's tree.
    pub index: Arc<Index>,
}
