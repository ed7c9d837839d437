//! A rw layer in overlayfs' spelling, which the kernel writes and the union only reads: it stands as the nearest of the layers, and
//! [`Union::changes`] tells what it changes.

use std::io;
use std::sync::Arc;

use super::Union;
use super::lowers::{LowerDir, Lowers, Place};
use super::types::Ino;
use crate::index::{Kind, Node, NodeId};
use crate::stack::{Lower, Stack};

impl Union {
    /// Opens what `changed` shows over a stack without an upper.
    ///
    /// # Errors
    /// [`Unresolved`](super::Unresolved) inside the error when a mark leads to what the layers do not have.
    pub fn open_changed(stack: Stack, changed: Lower) -> io::Result<Self> {
        let below = Lowers::new(stack.lowers.clone(), None)?;
        let lowers = [changed].into_iter().chain(stack.lowers).collect();
        Self::of(Stack { lowers, ..stack }, Some(below), None, None, false)
    }

    /// The layers under the rw layer.
    pub(super) fn below(&self) -> &Lowers {
        self.below.as_ref().unwrap_or(&self.lowers)
    }

    /// Whether names that begin with `.wh.` are files: overlayfs knows no other.
    pub(super) fn has_reserved_names(&self) -> bool {
        self.below.is_some()
    }

    /// Whether the rw layer has the inode, or at least its attributes.
    #[must_use]
    pub fn is_changed(&self, ino: Ino) -> bool {
        self.is_in_upper(ino) || self.is_in_changed(ino)
    }

    fn is_in_changed(&self, ino: Ino) -> bool {
        let number = |lowers: &Lowers| lowers.real().len();
        let is_top = |layer: u32| self.below.as_ref().is_some_and(|below| layer as usize == number(below));
        ino != Ino::ROOT && self.lowers.place(ino).is_some_and(|place| is_top(place.layer))
    }

    /// The inode that stands for a directory in the layers under the rw layer, if it is merged with one of theirs; for all that the
    /// rw layer does not have, the inode itself.
    #[must_use]
    pub fn below_of(&self, ino: Ino) -> Option<Ino> {
        if !self.is_in_changed(ino) {
            return Some(ino);
        }
        let dir = self.lowers.dir(ino)?;
        let part = *dir.parts().iter().find(|part| self.lowers.ino(**part) != Some(ino))?;
        // All roots are one inode.
        if part.node == NodeId::ROOT { Some(Ino::ROOT) } else { self.lowers.ino(part) }
    }

    /// The path of a character device 0:0 that the layers show, if there is one: other unions take it for a whiteout.
    #[must_use]
    pub fn device_zero(&self) -> Option<Vec<Vec<u8>>> {
        let is_zero =
            |node: Node<'_>| node.meta().is_some_and(|meta| meta.kind == Kind::CharDevice && meta.rdev == (0, 0));
        (0..self.lowers.real().len()).find_map(|number| {
            let index = &self.lowers.real().get(number)?.index;
            let nodes = (0..index.node_count()).map(NodeId).filter(|node| index.node(*node).is_some_and(is_zero));
            let layer = u32::try_from(number).ok()?;
            let inodes = nodes.filter_map(|node| self.lowers.ino(Place { layer, node }));
            inodes.filter_map(|ino| self.paths_of_inode(ino).into_iter().next()).next()
        })
    }

    /// The paths, from the root on, by which the inode of this number and generation of a layer is shown.
    #[must_use]
    pub fn paths_of(&self, number: u64, generation: u32) -> Vec<Vec<Vec<u8>>> {
        let ino = Ino(number);
        if self.lowers.generation(ino) != Some(generation) {
            return Vec::new();
        }
        self.paths_of_inode(ino)
    }

    fn paths_of_inode(&self, ino: Ino) -> Vec<Vec<Vec<u8>>> {
        let path = |(dir, name): (Arc<LowerDir>, Vec<u8>)| {
            let mut path = vec![name];
            let mut at = dir;
            while at.ino != Ino::ROOT {
                path.push(at.name.to_vec());
                at = self.lowers.dir(at.parent)?;
            }
            path.reverse();
            Some(path)
        };
        self.lowers.visible_names(ino).into_iter().filter_map(path).collect()
    }
}
