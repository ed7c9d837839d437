//! Entries in any order become a tree.

use std::collections::BTreeMap;

use super::building::{Building, Child, NewNode};
use super::{Kind, NodeId, format};

/// A hard link to a directory, or to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hard link's target must be a file of the same layer, and no directory")]
pub struct HardLinkError;

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
    /// A tree of nothing but a root directory without metadata: no entry has described it yet.
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
        super::encode::encode(&self.nodes)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;
    use crate::index::{Index, Meta, Time};

    fn file(size: u64) -> NewNode {
        NewNode::new(Meta { kind: Kind::File, size, ..Meta::implied_directory() })
    }

    fn directory(mode: u32) -> NewNode {
        NewNode::new(Meta { mode, ..Meta::implied_directory() })
    }

    fn names(index: &Index, dir: NodeId) -> Vec<(String, Child)> {
        index.children(dir).map(|dentry| (String::from_utf8_lossy(dentry.name).into_owned(), dentry.target)).collect()
    }

    #[test]
    fn everything_that_was_put_in_comes_out() {
        let mut builder = Builder::new();
        let etc = builder.put(NodeId::ROOT, b"etc", directory(0o700));
        let mut link = NewNode::new(Meta { kind: Kind::Symlink, size: 5, ..Meta::implied_directory() });
        link.target = b"../up".to_vec();
        link.xattrs = vec![(b"trusted.a".to_vec(), vec![0, 1, 255]), (b"trusted.b".to_vec(), Vec::new())];
        builder.put(etc, b"link", link);
        let described = Meta {
            kind: Kind::CharDevice,
            mode: 0o4711,
            uid: 1,
            gid: u32::MAX,
            mtime: Time { sec: -2, nsec: 999_999_999 },
            rdev: (4095, 1_048_575),
            size: 0,
            blocks: 0,
        };
        builder.put(etc, b"device", NewNode::new(described));
        let digest = Digest::of(b"x");
        let data = builder.put(NodeId::ROOT, b"data", NewNode { digest: Some(digest), ..file(1 << 40) });
        builder.link(etc, b"data2", data).unwrap();

        let index = builder.finish().unwrap();
        let index = Index::decode(index.as_bytes().to_vec()).unwrap();
        assert_eq!(index.node_count(), 5);
        let Some(Child::Node(etc)) = index.lookup(NodeId::ROOT, b"etc") else { panic!("no etc") };
        let node = |name: &[u8]| match index.lookup(etc, name) {
            Some(Child::Node(id)) => index.node(id).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(node(b"device").meta(), Some(described));
        assert_eq!(node(b"link").target(), b"../up");
        let xattrs: Vec<_> = node(b"link").xattrs().collect();
        assert_eq!(xattrs, [(&b"trusted.a"[..], &[0, 1, 255][..]), (b"trusted.b", b"")]);
        assert_eq!(node(b"data2").nlink(), 2);
        assert_eq!(node(b"data2").digest(), Some(digest));
        let Some(Child::Node(data)) = index.lookup(NodeId::ROOT, b"data") else { panic!("no data") };
        let mut both: Vec<_> = index.names(data).collect();
        both.sort_unstable();
        assert_eq!(both, [(NodeId::ROOT, &b"data"[..]), (etc, b"data2")]);
        assert_eq!(index.path(etc), Some(vec![&b"etc"[..]]));
        assert!(index.node(NodeId::ROOT).unwrap().is_implied());
    }

    #[test]
    fn the_last_of_two_entries_counts_and_its_place_is_the_first_ones() {
        let mut builder = Builder::new();
        let dir = builder.put(NodeId::ROOT, b"a", directory(0o700));
        builder.put(dir, b"kept", file(1));
        assert_eq!(builder.put(NodeId::ROOT, b"a", directory(0o711)), dir, "a directory only changes its description");
        builder.put(NodeId::ROOT, b"b", directory(0o700));
        builder.put(NodeId::ROOT, b"b", file(7));
        let index = builder.finish().unwrap();
        let Some(Child::Node(a)) = index.lookup(NodeId::ROOT, b"a") else { panic!("no a") };
        assert_eq!(index.node(a).unwrap().meta().unwrap().mode, 0o711);
        assert_eq!(names(&index, a).len(), 1);
        let Some(Child::Node(b)) = index.lookup(NodeId::ROOT, b"b") else { panic!("no b") };
        assert_eq!(index.node(b).unwrap().meta().unwrap().size, 7);
        assert_eq!(index.node_count(), 4, "what was replaced is gone");
    }

    #[test]
    fn a_whiteout_says_nothing_of_the_layers_own_entries_in_either_order() {
        for whiteout_first in [true, false] {
            let mut builder = Builder::new();
            if whiteout_first {
                builder.whiteout(NodeId::ROOT, b"dir");
                builder.whiteout(NodeId::ROOT, b"file");
            }
            builder.put(NodeId::ROOT, b"dir", directory(0o755));
            builder.put(NodeId::ROOT, b"file", file(0));
            builder.whiteout(NodeId::ROOT, b"dir");
            builder.whiteout(NodeId::ROOT, b"file");
            builder.whiteout(NodeId::ROOT, b"gone");
            let index = builder.finish().unwrap();
            let Some(Child::Node(dir)) = index.lookup(NodeId::ROOT, b"dir") else { panic!("no dir") };
            assert!(index.node(dir).unwrap().is_opaque(), "nothing of the lower directory shows");
            assert!(matches!(index.lookup(NodeId::ROOT, b"file"), Some(Child::Node(_))));
            assert_eq!(index.lookup(NodeId::ROOT, b"gone"), Some(Child::Whiteout));
        }
    }

    #[test]
    fn a_hard_link_needs_a_file_that_is_there() {
        let mut builder = Builder::new();
        let dir = builder.directory(NodeId::ROOT, b"dir");
        assert_eq!(builder.link(NodeId::ROOT, b"x", dir), Err(HardLinkError));
        assert_eq!(builder.link(NodeId::ROOT, b"x", NodeId(99)), Err(HardLinkError));
    }

    #[test]
    fn a_damaged_index_is_refused_and_a_forged_one_does_no_harm() {
        let mut builder = Builder::new();
        for number in 0..20u32 {
            let dir = builder.directory(NodeId::ROOT, format!("d{number}").as_bytes());
            let id = builder.put(dir, b"f", file(1));
            builder.link(dir, b"g", id).unwrap();
        }
        let good = builder.finish().unwrap().as_bytes().to_vec();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            assert!(Index::decode(bad.clone()).is_err(), "byte {at} was changed unseen");
            // The same with the sum made right again: every answer is harmless.
            let mut crc = flate2::Crc::new();
            crc.update(&bad[16..]);
            bad[12..16].copy_from_slice(&crc.sum().to_le_bytes());
            let Ok(forged) = Index::decode(bad) else { continue };
            for id in (0..forged.node_count()).map(NodeId) {
                let node = forged.node(id).unwrap();
                let _ = (node.meta(), node.target(), node.xattrs().count(), node.digest(), node.nlink());
                let _ = (forged.path(id), forged.names(id).count(), forged.children(id).count());
                let _ = forged.lookup(id, b"f");
            }
        }
        for length in 0..good.len() {
            assert!(Index::decode(good[..length].to_vec()).is_err());
        }
    }
}
