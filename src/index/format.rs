//! The tree as bytes, and their reader.
//!
//! All numbers are little-endian. The reader checks the sum once, and every reference when it follows
//! it, so a damaged or forged file gives wrong answers or `None`, never a panic or an endless loop.
//!
//! ```text
//! header    magic "lctl-idx", version u32, crc32 u32 of all that follows, key u64,
//!           nodes u32, dentries u32, names u32 bytes, extras u32 bytes, 24 bytes of 0
//! nodes     112 bytes each: see `NODE_*`
//! dentries  20 bytes each: parent u32, node u32 (0xffffffff: whiteout), name u32 (offset), length u16,
//!           0 u16, next u32 (the node's next dentry); those of one directory are together, by name
//! names     bytes
//! extras    per node that needs it: target length u32, target, count u32, then per extended attribute
//!           name length u16, value length u32, name, value
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::NodeId;
use super::building::Child;
use super::reference::Reference;
use crate::id::Digest;

/// The version of the format that this code writes, and the only one it reads.
pub const VERSION: u32 = 1;

pub(super) const MAGIC: &[u8; 8] = b"lctl-idx";
pub(super) const HEADER: usize = 64;
/// Where the bytes begin that the checksum is of.
pub(super) const SUMMED: usize = 16;
pub(super) const NODE: usize = 112;
pub(super) const DENTRY: usize = 20;
pub(super) const NONE: u32 = u32::MAX;
/// No path has more components than this: `PATH_MAX` is 4096 bytes, but a tree can be made deeper.
const MAX_DEPTH: usize = 65_536;

pub(super) const FLAG_IMPLIED: u8 = 1;
pub(super) const FLAG_OPAQUE: u8 = 2;
pub(super) const FLAG_DIGEST: u8 = 4;

/// A file that is no index, or a tree that fits into none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not written by this program.
    #[error("is not a layer index")]
    Magic,
    /// Written by another version.
    #[error("has format version {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// Shorter or longer than its header says.
    #[error("has the wrong length")]
    Length,
    /// Changed since it was written.
    #[error("has a wrong checksum")]
    Checksum,
    /// More than 4 GiB of names or attributes.
    #[error("would exceed 4 GiB")]
    TooLarge,
}

/// What an index is read from.
pub enum Bytes {
    /// A copy of its own.
    Owned(Vec<u8>),
    /// The file itself: only the pages that are read come into memory, and all processes that map it share them.
    Mapped(memmap2::Mmap),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

/// A layer's tree, read-only.
pub struct Index {
    pub(super) bytes: Bytes,
    nodes: u32,
    dentries: u32,
    /// Where the sections after the nodes begin.
    dentries_at: usize,
    names_at: usize,
    pub(super) extras_at: usize,
    /// Not in the bytes: only a scanned directory has any.
    references: Vec<Reference>,
    /// The same: where the data of a file are that has none at its path.
    data_at: HashMap<NodeId, PathBuf>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({:016x}, {} nodes)", self.key(), self.nodes)
    }
}

/// What a dentry points to.
pub type Target = Child;

/// One name in one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dentry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// What stands there.
    pub target: Target,
}

/// One inode of the layer.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub(super) record: &'a [u8],
    pub(super) index: &'a Index,
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

impl Index {
    /// Takes the bytes of an index file, and checks their form and sum.
    ///
    /// # Errors
    /// When they are not an index of this version, whole and unchanged.
    pub fn decode(bytes: impl Into<Bytes>) -> Result<Self, FormatError> {
        let bytes = bytes.into();
        if bytes.get(..8) != Some(MAGIC) {
            return Err(FormatError::Magic);
        }
        let field = |at| u32_at(&bytes, at).ok_or(FormatError::Length);
        match field(8)? {
            VERSION => {}
            other => return Err(FormatError::Version(other)),
        }
        let (nodes, dentries, names, extras) = (field(24)?, field(28)?, field(32)?, field(36)?);
        let sections = [(nodes, NODE), (dentries, DENTRY), (names, 1), (extras, 1)];
        let mut ends = [0; 4];
        let mut end = HEADER;
        for ((count, size), slot) in sections.into_iter().zip(&mut ends) {
            end = (count as usize)
                .checked_mul(size)
                .and_then(|length| end.checked_add(length))
                .ok_or(FormatError::Length)?;
            *slot = end;
        }
        let [dentries_at, names_at, extras_at, end] = ends;
        if bytes.len() != end || nodes == 0 {
            return Err(FormatError::Length);
        }
        if bytes.get(SUMMED..).map(crc32) != Some(field(12)?) {
            return Err(FormatError::Checksum);
        }
        Ok(Self {
            bytes,
            nodes,
            dentries,
            dentries_at,
            names_at,
            extras_at,
            references: Vec::new(),
            data_at: HashMap::new(),
        })
    }

    /// What the layer says of the layers below it, a directory before what is in it. An index that was stored has none: what
    /// `commit` makes of a rw layer is whole.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    pub(super) fn with_references(self, references: Vec<Reference>) -> Self {
        Self { references, ..self }
    }

    /// Where the data of a file are that is not at its path in the layer's directory.
    #[must_use]
    pub fn data_at(&self, node: NodeId) -> Option<&Path> {
        self.data_at.get(&node).map(PathBuf::as_path)
    }

    pub(super) fn with_data_at(self, data_at: HashMap<NodeId, PathBuf>) -> Self {
        Self { data_at, ..self }
    }

    /// The bytes, as they are to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Tells this tree from any other: the first 8 bytes of the sha256 of its content.
    #[must_use]
    pub fn key(&self) -> u64 {
        u64_at(&self.bytes, 16).unwrap_or_default()
    }

    /// Whether the content still has the key, which the checksum says less of. Takes a while.
    #[must_use]
    pub fn has_its_key(&self) -> bool {
        self.bytes.get(HEADER..).map(key_of) == Some(self.key())
    }

    /// Whether the two are of the same tree, whatever is in its files.
    #[must_use]
    pub fn has_the_tree_of(&self, other: &Self) -> bool {
        let names = |index: &Self| (index.dentries_at, index.names_at, index.extras_at);
        let described = |index: &Self, id: u32| {
            let record = index.node(NodeId(id))?.record;
            let kind = (*record.first()?, record.get(1)? & !FLAG_DIGEST);
            Some((kind, record.get(2..48)?.to_vec(), record.get(56..80)?.to_vec()))
        };
        names(self) == names(other)
            && self.bytes.get(self.dentries_at..) == other.bytes.get(other.dentries_at..)
            && (0..self.nodes).all(|id| described(self, id) == described(other, id))
    }

    /// How many nodes there are; every [`NodeId`] below that is one.
    #[must_use]
    pub fn node_count(&self) -> u32 {
        self.nodes
    }

    /// The node of this number.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<Node<'_>> {
        if id.0 >= self.nodes {
            return None;
        }
        let at = HEADER.checked_add((id.0 as usize).checked_mul(NODE)?)?;
        Some(Node { record: self.bytes.get(at..at.checked_add(NODE)?)?, index: self })
    }

    /// What stands at `name` in the directory `dir`.
    #[must_use]
    pub fn lookup(&self, dir: NodeId, name: &[u8]) -> Option<Target> {
        let (mut low, mut high) = self.node(dir)?.children_range();
        while low < high {
            let middle = low + (high - low) / 2;
            let (found, target) = self.dentry(middle)?;
            match found.cmp(name) {
                std::cmp::Ordering::Equal => return Some(target),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The names in the directory `dir`, whiteouts among them, in the order of their bytes.
    #[must_use]
    pub fn children(&self, dir: NodeId) -> Children<'_> {
        let (next, end) = self.node(dir).map_or((0, 0), |node| node.children_range());
        Children { index: self, next, end }
    }

    /// All names of a node, each with the directory it is in. The root has none.
    pub fn names(&self, id: NodeId) -> impl Iterator<Item = (NodeId, &[u8])> {
        let mut next = self.node(id).map_or(NONE, |node| node.u32(72));
        // A forged chain could be a ring: no node has more names than there are dentries.
        let mut left = self.dentries;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let record = self.dentry_record(next)?;
            next = u32_at(record, 16)?;
            Some((NodeId(u32_at(record, 0)?), self.dentry_name(record)?))
        })
    }

    /// The components of one path to the node, from the root down: empty for the root itself.
    #[must_use]
    pub fn path(&self, id: NodeId) -> Option<Vec<&[u8]>> {
        let mut components = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let (parent, name) = self.names(at).next()?;
            components.push(name);
            if components.len() > MAX_DEPTH {
                return None;
            }
            at = parent;
        }
        components.reverse();
        Some(components)
    }

    /// How many names stand before the node's first one in its directory, and those that follow it there.
    #[must_use]
    pub fn siblings(&self, id: NodeId) -> Option<(u32, Children<'_>)> {
        let number = self.node(id)?.u32(72);
        let parent = NodeId(u32_at(self.dentry_record(number)?, 0)?);
        let (begin, end) = self.node(parent)?.children_range();
        let before = number.checked_sub(begin)?;
        (number < end).then(|| (before, Children { index: self, next: number.saturating_add(1), end }))
    }

    fn dentry_record(&self, number: u32) -> Option<&[u8]> {
        if number >= self.dentries {
            return None;
        }
        let at = self.dentries_at.checked_add((number as usize).checked_mul(DENTRY)?)?;
        self.bytes.get(at..at.checked_add(DENTRY)?)
    }

    fn dentry_name(&self, record: &[u8]) -> Option<&[u8]> {
        let at = u32_at(record, 8)? as usize;
        let length = u16_at(record, 12)? as usize;
        self.bytes.get(self.names_at..self.extras_at)?.get(at..at.checked_add(length)?)
    }

    fn dentry(&self, number: u32) -> Option<(&[u8], Target)> {
        let record = self.dentry_record(number)?;
        let target = match u32_at(record, 4)? {
            NONE => Child::Whiteout,
            node => Child::Node(NodeId(node)),
        };
        Some((self.dentry_name(record)?, target))
    }
}

/// The names of one directory: see [`Index::children`].
#[derive(Debug, Clone)]
pub struct Children<'a> {
    index: &'a Index,
    next: u32,
    end: u32,
}

impl Children<'_> {
    /// How many names are still to come.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.end.saturating_sub(self.next)
    }

    /// Passes over `count` names at no cost.
    #[must_use]
    pub fn skipping(self, count: u32) -> Self {
        Self { next: self.next.saturating_add(count), ..self }
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Dentry<'a>;

    fn next(&mut self) -> Option<Dentry<'a>> {
        if self.next >= self.end {
            return None;
        }
        let (name, target) = self.index.dentry(self.next)?;
        self.next += 1;
        Some(Dentry { name, target })
    }
}

pub(super) fn key_of(body: &[u8]) -> u64 {
    Digest::of(body).as_bytes().iter().take(8).rev().fold(0, |key, byte| key << 8 | u64::from(*byte))
}
