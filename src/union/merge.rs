//! How the directories of several layers become one: nearest first, until a whiteout, an opaque directory or something that is
//! no directory (OCI `layer.md`). A directory with a reference goes on where that leads. Mount points come last, and nothing of the
//! layers hides them: they stand where all layers together show nothing.

use std::collections::BTreeMap;

use super::lowers::{LowerChild, Lowers, Merged, Place};
use crate::index::{Child, Kind, NodeId};

/// What is being gathered for one name while layers are merged.
#[derive(Default)]
struct Slot {
    found: Option<LowerChild>,
    parts: Vec<Place>,
    /// Deeper layers cannot add to it.
    closed: bool,
}

impl Slot {
    /// Adds what the directory `part` has at the name.
    fn add(&mut self, lowers: &Lowers, part: Place, target: Child) {
        if lowers.is_mount_point(part) {
            return self.add_mount_point(lowers, part, target);
        }
        if self.closed {
            return;
        }
        self.closed = true;
        let Child::Node(node) = target else { return };
        let place = Place { node, ..part };
        let (Some(child), Some(node)) = (lowers.lower_child(place), lowers.at(place)) else { return };
        let is_directory = child.kind == Kind::Directory;
        if self.found.is_none() {
            self.found = Some(child);
        }
        if !is_directory {
            return;
        }
        self.parts.push(place);
        match lowers.references.below(place) {
            Some(below) => self.parts.extend(below),
            None => self.closed = node.is_opaque(),
        }
    }

    /// Adds a mount point, whatever the layers hide, unless they have something there that it cannot be merged with.
    fn add_mount_point(&mut self, lowers: &Lowers, part: Place, target: Child) {
        let Child::Node(node) = target else { return };
        let place = Place { node, ..part };
        let Some(child) = lowers.lower_child(place) else { return };
        let found = *self.found.get_or_insert(child);
        if child.kind == Kind::Directory && found.kind == Kind::Directory {
            self.parts.push(place);
        }
    }
}

impl Lowers {
    /// The roots of the layers below `limit`, nearest first, as far as they are merged.
    pub(super) fn roots_below(&self, limit: u32) -> Vec<Place> {
        let mut parts = Vec::new();
        for (number, layer) in (0..limit).zip(self.real()).rev() {
            parts.push(Place { layer: number, node: NodeId::ROOT });
            if layer.index.node(NodeId::ROOT).is_some_and(|root| root.is_opaque()) {
                break;
            }
        }
        parts
    }

    pub(super) fn merge(&self, parts: &[Place]) -> Box<[Merged]> {
        let mut slots: BTreeMap<&[u8], Slot> = BTreeMap::new();
        for part in parts {
            let Some(layer) = self.layer(*part) else { continue };
            for dentry in layer.index.children(part.node) {
                slots.entry(dentry.name).or_default().add(self, *part, dentry.target);
            }
        }
        slots
            .into_iter()
            .filter_map(|(name, slot)| Some(Merged { name: name.into(), child: slot.found?, parts: slot.parts.into() }))
            .collect()
    }

    /// What stands at `name` in the merged directories `parts`, and of a directory what it is merged of.
    pub(super) fn merged_child(&self, parts: &[Place], name: &[u8]) -> Option<(LowerChild, Vec<Place>)> {
        let mut slot = Slot::default();
        for part in parts {
            if slot.closed && !self.is_mount_point(*part) {
                continue;
            }
            if let Some(target) = self.layer(*part).and_then(|layer| layer.index.lookup(part.node, name)) {
                slot.add(self, *part, target);
            }
        }
        Some((slot.found?, slot.parts))
    }
}
