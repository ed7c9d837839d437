//! Entries in any order become a tree.

use std::collections::BTreeMap;

use super::{Kind, Meta, NodeId, Xattrs, format};
use crate::id::Digest;

/// A node to put into a [`Builder`].
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

/// A hard link to a directory, or to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hard link's target must be a file of the same layer, and no directory")]
pub struct HardLinkError;

#[derive(Debug)]
pub(super) struct Building {
    pub(super) new: NewNode,
    /// No entry of its own: only paths below it were given.
    pub(super) implied: bool,
    pub(super) opaque: bool,
    pub(super) children: BTreeMap<Box<[u8]>, Child>,
}

/// Builds an [`Index`](super::Index). Ids it gives out are its own: [`Builder::finish`] numbers anew.
///
/// Within one layer a whiteout says nothing of the layer's own entries (OCI `layer.md`, "Whiteouts"), so
/// the order of a whiteout and an entry of the same name does not matter: the entry is there, and when
/// it is a directory it is opaque.
#[derive(Debug)]
pub struct Builder {
    nodes: Vec<Building>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A tree of nothing but a root directory that nobody has described.
    #[must_use]
    pub fn new() -> Self {
        Self { nodes: vec![Building::implied()] }
    }

    /// How many nodes were made so far, replaced ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was put in yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes.iter().all(|node| node.implied && node.children.is_empty())
    }

    /// What stands at `name` in `parent`.
    #[must_use]
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<Child> {
        self.get(parent)?.children.get(name).copied()
    }

    /// The description of a node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NewNode> {
        self.get(id).map(|node| &node.new)
    }

    /// Describes the root directory.
    pub fn set_root(&mut self, new: NewNode) {
        if let Some(root) = self.get_mut(NodeId::ROOT) {
            root.new = new;
            root.implied = false;
        }
    }

    /// The directory `name` in `parent`, made as an implied one where there is none. Anything else
    /// of that name is replaced.
    pub fn directory(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        match self.child(parent, name) {
            Some(Child::Node(id)) if self.is_directory(id) => id,
            other => self.insert(parent, name, Building { opaque: other.is_some(), ..Building::implied() }),
        }
    }

    /// Puts a node at `name` in `parent`. It replaces what is there, but a directory that is put onto a
    /// directory only describes it anew.
    pub fn put(&mut self, parent: NodeId, name: &[u8], new: NewNode) -> NodeId {
        let is_directory = new.meta.kind == Kind::Directory;
        match self.child(parent, name) {
            Some(Child::Node(id)) if is_directory && self.is_directory(id) => {
                if let Some(node) = self.get_mut(id) {
                    node.new = new;
                    node.implied = false;
                }
                id
            }
            other => {
                let opaque = is_directory && other.is_some();
                self.insert(parent, name, Building { new, implied: false, opaque, children: BTreeMap::new() })
            }
        }
    }

    /// Gives the node `target` one more name.
    ///
    /// # Errors
    /// When `target` is a directory or does not exist.
    pub fn link(&mut self, parent: NodeId, name: &[u8], target: NodeId) -> Result<(), HardLinkError> {
        match self.get(target) {
            Some(node) if node.new.meta.kind != Kind::Directory => {}
            _ => return Err(HardLinkError),
        }
        self.set_child(parent, name, Child::Node(target));
        Ok(())
    }

    /// Hides `name` in the layers below.
    pub fn whiteout(&mut self, parent: NodeId, name: &[u8]) {
        match self.child(parent, name) {
            Some(Child::Node(id)) if self.is_directory(id) => self.opaque(id),
            Some(_) => {}
            None => self.set_child(parent, name, Child::Whiteout),
        }
    }

    /// Hides all that the layers below have in this directory.
    pub fn opaque(&mut self, directory: NodeId) {
        if let Some(node) = self.get_mut(directory) {
            node.opaque = true;
        }
    }

    /// Changes a node's description, its type excepted: to add what is known only after its content.
    pub fn amend(&mut self, id: NodeId, amend: impl FnOnce(&mut NewNode)) {
        if let Some(node) = self.get_mut(id) {
            let kind = node.new.meta.kind;
            amend(&mut node.new);
            node.new.meta.kind = kind;
        }
    }

    /// The finished index: nodes that were replaced are gone, the others are numbered in the order in
    /// which they were made.
    ///
    /// # Errors
    /// When a section of the file would exceed 4 GiB.
    pub fn finish(self) -> Result<super::Index, format::FormatError> {
        format::encode(&self.nodes)
    }

    fn is_directory(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| node.new.meta.kind == Kind::Directory)
    }

    fn insert(&mut self, parent: NodeId, name: &[u8], node: Building) -> NodeId {
        // More than u32::MAX nodes need over 400 GB of memory: it cannot be reached.
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        self.set_child(parent, name, Child::Node(id));
        id
    }

    fn set_child(&mut self, parent: NodeId, name: &[u8], child: Child) {
        if let Some(parent) = self.get_mut(parent) {
            parent.children.insert(name.into(), child);
        }
    }

    fn get(&self, id: NodeId) -> Option<&Building> {
        self.nodes.get(id.0 as usize)
    }

    fn get_mut(&mut self, id: NodeId) -> Option<&mut Building> {
        self.nodes.get_mut(id.0 as usize)
    }
}

impl Building {
    const fn implied() -> Self {
        Self { new: NewNode::new(Meta::implied_directory()), implied: true, opaque: false, children: BTreeMap::new() }
    }
}
