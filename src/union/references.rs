//! The references of lower layers to the layers below them ([`index::Reference`](crate::index::Reference)), followed once, when
//! the union is opened.
//!
//! A reference is looked up by names in the indexes of the layers below its own, from the base upwards, so that no lookup
//! meets one that is not resolved yet, and none can go round in a circle or leave the layers. In the merged tree each lower
//! directory stands at one place only, as the kernel gives a directory one path: a reference that would show it twice is
//! refused, and so is one that leads to nothing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::lowers::{DEPTH_MAX, LowerDir, Lowers, Place};
use super::types::Ino;
use crate::index::{Kind, NodeId, Reference, Referent};
use crate::private_xattr::Origin;

/// A layer that refers to something which the layers below it do not have.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct Unresolved {
    /// The directory or file with the mark.
    pub path: PathBuf,
    /// What stands against it, as a clause.
    pub why: String,
}

impl From<Unresolved> for std::io::Error {
    fn from(unresolved: Unresolved) -> Self {
        Self::other(unresolved)
    }
}

/// All references, resolved.
#[derive(Debug, Default)]
pub(super) struct References {
    /// The directories below that a directory is merged with, nearest first, in place of those of its own name.
    below: HashMap<Place, Box<[Place]>>,
    /// The directory that is merged with this one, which does not stand at its own name then.
    merged_into: HashMap<Place, Place>,
    /// The file that has the data of this one.
    data: HashMap<Place, Place>,
}

impl References {
    pub(super) fn below(&self, directory: Place) -> Option<&[Place]> {
        self.below.get(&directory).map(|parts| &**parts)
    }

    pub(super) fn merged_into(&self, part: Place) -> Option<Place> {
        self.merged_into.get(&part).copied()
    }

    pub(super) fn data(&self, file: Place) -> Option<Place> {
        self.data.get(&file).copied()
    }
}

impl Lowers {
    /// Follows all references.
    ///
    /// # Errors
    /// [`Unresolved`] for the first that cannot be followed.
    pub(super) fn resolve(&mut self) -> Result<(), Unresolved> {
        for number in 0..self.layers.len() {
            let Some(layer) = self.layers.get(number) else { break };
            let index = layer.index.clone();
            for reference in index.references() {
                let place = Place { layer: u32::try_from(number).unwrap_or(u32::MAX), node: reference.node };
                self.resolve_one(place, reference).map_err(|why| self.unresolved(place, why))?;
            }
        }
        for (part, into) in &self.references.merged_into {
            if self.at_its_own_name(*part).is_some_and(|found| !found.has_part(*into)) {
                let why = "it is marked as another directory of the layers below, which is also seen at its own name";
                return Err(self.unresolved(*into, why.to_owned()));
            }
        }
        Ok(())
    }

    fn unresolved(&self, place: Place, why: String) -> Unresolved {
        let layer = self.layer(place);
        // error: there is none; a node without a path is the root.
        let names = layer.and_then(|layer| layer.index.path(place.node)).unwrap_or_default();
        let dir = layer.map(|layer| layer.dir.clone()).unwrap_or_default();
        Unresolved { path: names.into_iter().fold(dir, |path, name| path.join(OsStr::from_bytes(name))), why }
    }

    fn resolve_one(&mut self, place: Place, reference: &Reference) -> Result<(), String> {
        let referent = &reference.referent;
        let Some(node) = self.at(place) else { return Ok(()) };
        if node.kind() != Some(Kind::Directory) {
            let size = node.meta().map(|meta| meta.size);
            let found = self.file_of(place, referent);
            let found =
                found.ok_or_else(|| format!("its data are in {referent}, and the layers below have no such file"))?;
            let data = self.references.data(found).unwrap_or(found);
            if self.at(data).and_then(|data| data.meta()).map(|meta| meta.size) != size {
                return Err(format!("its data are in {referent}, which has another size in the layers below"));
            }
            self.references.data.insert(place, data);
            return Ok(());
        }
        // It hides what is below, by the whiteout of image layers, which was not known yet when its marks were read.
        if node.is_opaque() {
            return Ok(());
        }
        let parts = self.directory_of(place, referent).unwrap_or_default();
        if parts.is_empty() {
            return Err(format!("it is marked as {referent}, and the layers below have no such directory"));
        }
        for part in &parts {
            match self.references.merged_into(*part) {
                None => drop(self.references.merged_into.insert(*part, place)),
                // It comes along with the one that it is merged into.
                Some(into) if parts.contains(&into) => {}
                Some(_) => return Err(format!("it is marked as {referent}, and so is another directory")),
            }
        }
        self.references.below.insert(place, parts.into());
        Ok(())
    }

    /// The directories that a directory is merged with, nearest first.
    fn directory_of(&self, place: Place, referent: &Referent) -> Option<Vec<Place>> {
        match referent {
            Referent::SameName => None,
            Referent::Sibling(name) => {
                let (parent, _) = self.layer(place)?.index.names(place.node).next()?;
                let parent = self.parts_below(Place { node: parent, ..place })?;
                Some(self.merged_child(&parent, name)?.1)
            }
            Referent::Path(names) => {
                let mut parts = self.roots_below(place.layer);
                for name in names {
                    parts = self.merged_child(&parts, name)?.1;
                }
                Some(parts)
            }
            // The root is merged with the roots below, and has no other place.
            Referent::Origin(origin) if origin.node == NodeId::ROOT.0 => None,
            Referent::Origin(origin) => self.parts_of(self.origin_below(place, origin)?, place.layer),
        }
    }

    /// The file whose data a file has.
    fn file_of(&self, place: Place, referent: &Referent) -> Option<Place> {
        let file_in = |parts: &[Place], name: &[u8]| {
            let (child, _) = self.merged_child(parts, name)?;
            self.place(child.ino).filter(|_| child.kind == Kind::File)
        };
        match referent {
            Referent::Path(names) => {
                let (last, dirs) = names.split_last()?;
                let mut parts = self.roots_below(place.layer);
                for name in dirs {
                    parts = self.merged_child(&parts, name)?.1;
                }
                file_in(&parts, last)
            }
            Referent::Origin(origin) => {
                let found = self.origin_below(place, origin)?;
                Some(found).filter(|found| self.at(*found).is_some_and(|node| node.kind() == Some(Kind::File)))
            }
            Referent::SameName | Referent::Sibling(_) => {
                let index = &self.layer(place)?.index;
                // One with several names has its data at one of them.
                index.names(place.node).find_map(|(parent, name)| {
                    let parent = self.parts_below(Place { node: parent, ..place })?;
                    file_in(&parent, if let Referent::Sibling(sibling) = referent { sibling } else { name })
                })
            }
        }
    }

    /// The node that an origin names, in a layer below.
    fn origin_below(&self, place: Place, origin: &Origin) -> Option<Place> {
        let is_meant = |number: &u32| *number < place.layer && self.key(*number) == Some(origin.key);
        let layer = Some(origin.layer).filter(is_meant).or_else(|| (0..place.layer).rev().find(is_meant))?;
        let found = Place { layer, node: NodeId(origin.node) };
        self.at(found).map(|_| found)
    }

    /// What a directory of a layer is merged with in the layers below that one.
    fn parts_below(&self, directory: Place) -> Option<Vec<Place>> {
        let index = &self.layer(directory)?.index;
        let mut names = Vec::new();
        let mut at = directory;
        let mut parts = loop {
            if self.at(at)?.is_opaque() {
                break Vec::new();
            }
            if let Some(below) = self.references.below(at) {
                break below.to_vec();
            }
            if at.node == NodeId::ROOT {
                break self.roots_below(at.layer);
            }
            let (parent, name) = index.names(at.node).next()?;
            names.push(name);
            // A forged index could have a ring.
            if names.len() > DEPTH_MAX {
                return None;
            }
            at.node = parent;
        };
        for name in names.into_iter().rev() {
            parts = self.merged_child(&parts, name).map(|(_, parts)| parts).unwrap_or_default();
        }
        Some(parts)
    }

    /// The merged directory of which `part` is a part, in the layers below `limit`.
    fn parts_of(&self, part: Place, limit: u32) -> Option<Vec<Place>> {
        let mut names = Vec::new();
        let mut at = part;
        while at.node != NodeId::ROOT {
            if let Some(into) = self.references.merged_into(at).filter(|into| into.layer < limit) {
                at = into;
                continue;
            }
            let (parent, name) = self.layer(at)?.index.names(at.node).next()?;
            names.push(name);
            // A forged index could have a ring.
            if names.len() > DEPTH_MAX {
                return None;
            }
            at.node = parent;
        }
        let mut parts = self.roots_below(limit);
        for name in names.into_iter().rev() {
            parts = self.merged_child(&parts, name)?.1;
        }
        parts.contains(&part).then_some(parts)
    }

    /// The merged directory at the name that a directory has in its own layer, if it is a part of that.
    fn at_its_own_name(&self, part: Place) -> Option<Arc<LowerDir>> {
        let (parent, name) = self.layer(part)?.index.names(part.node).next()?;
        let dir = self.dir_at(Place { node: parent, ..part })?;
        self.subdirectory(&dir, name).filter(|found| found.has_part(part))
    }

    /// The blocks that a file's data take, where those are another file's.
    pub(super) fn blocks_elsewhere(&self, ino: Ino) -> Option<u64> {
        if self.references.data.is_empty() {
            return None;
        }
        let data = self.references.data(self.place(ino)?)?;
        Some(self.at(data)?.meta()?.blocks)
    }
}
