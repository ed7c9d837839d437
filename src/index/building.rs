//! The nodes of a tree that is not encoded yet.

use std::collections::BTreeMap;

use super::{Meta, NodeId, Xattrs};
use crate::id::Digest;

/// A node to put into a [`Builder`](super::Builder).
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Type, owner, times and the like.
    pub meta: Meta,
    /// The target of a symbolic link; empty for all else.
    pub target: Vec<u8>,
    /// Extended attributes as the union shall show them.
    pub xattrs: Xattrs,
    /// The digest of a regular file's content.
    pub digest: Option<Digest>,
}

impl NewNode {
    /// A node with nothing but `meta`.
    #[must_use]
    pub const fn new(meta: Meta) -> Self {
        Self { meta, target: Vec::new(), xattrs: Vec::new(), digest: None }
    }
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    /// A node of this layer.
    Node(NodeId),
    /// The name is hidden in the layers below.
    Whiteout,
}

#[derive(Debug)]
pub(super) struct Building {
    pub(super) new: NewNode,
    /// No entry of its own: only paths below it were given.
    pub(super) implied: bool,
    pub(super) opaque: bool,
    pub(super) children: BTreeMap<Box<[u8]>, Child>,
}

impl Building {
    pub(super) const fn implied() -> Self {
        Self { new: NewNode::new(Meta::implied_directory()), implied: true, opaque: false, children: BTreeMap::new() }
    }
}
