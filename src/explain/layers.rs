//! What each layer does to a path.

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::explain::container::{Rw, Touch};
use crate::explain::{Action, Given, Source, joined};
use crate::id::{DiffId, ImageId};
use crate::image;
use crate::index::{Index, Kind, NodeId, Target};
use crate::store::{Lease, Store};
use crate::union::Ino;

struct Layer {
    source: Source,
    index: Arc<Index>,
    /// The number of its first inode in a union of all layers.
    first: u64,
    _lease: Lease,
}

/// The layers of an image, uppermost first, under a container's rw layer if there is one.
pub(super) struct Layers {
    pub(super) rw: Option<Rw>,
    layers: Vec<Layer>,
}

/// What one layer says of a path: what it has there, and what hides the layers below.
#[derive(Default)]
struct Facts {
    given: Option<Given>,
    /// Which inode of the layer that is.
    node: Option<NodeId>,
    hides: Vec<Action>,
}

impl Layers {
    /// Opens the layers of an image, or those that a container of it has.
    pub(super) fn open(store: &Store, image: ImageId, of_container: Option<&[DiffId]>) -> Result<Self> {
        let image = match store.image(image) {
            Ok(image) => Some(image),
            // A container outlives the record of its image.
            Err(Error::NotFound { .. }) if of_container.is_some() => None,
            Err(error) => return Err(error),
        };
        let ids = of_container.or(image.as_ref().map(|image| image.record.layers.as_slice())).unwrap_or_default();
        let config = image.as_ref().map(|image| image.config.as_slice()).unwrap_or_default();
        let mut steps = image::history(config, ids).into_iter().zip(1..).filter(|(step, _)| step.layer.is_some());
        let mut layers = Vec::new();
        let mut first = Ino::ROOT.0;
        for (diff_id, number) in ids.iter().zip(1..) {
            let missing = || Error::corrupt(format!("layer {diff_id}"), "is missing");
            let lease = store.lease(*diff_id)?.ok_or_else(missing)?;
            let step = steps.next().map(|(step, number)| (number, step));
            let source = Source::Layer { number, diff_id: *diff_id, step };
            let index = store.lower(*diff_id)?.index;
            let nodes = u64::from(index.node_count());
            layers.push(Layer { source, index, first, _lease: lease });
            first = first.saturating_add(nodes);
        }
        layers.reverse();
        Ok(Self { rw: None, layers })
    }

    /// What is done to a path, from the top down, and whether it is there.
    pub(super) fn actions(&self, path: &[Vec<u8>]) -> io::Result<(Vec<(Source, Action)>, bool)> {
        let mut story = Story::default();
        let below: Vec<(&Layer, Facts)> = self.layers.iter().map(|layer| (layer, facts(&layer.index, path))).collect();
        if let Some(rw) = &self.rw {
            let (given, hides) = match rw.touch(path, shown(&below, path.is_empty()))? {
                Touch::Nothing => (None, Vec::new()),
                Touch::Removes => (None, vec![Action::Removes]),
                Touch::Merges(given) => (Some(given), Vec::new()),
                Touch::Replaces(given) => {
                    let hides = if given.is_directory() { vec![Action::Opaque(joined(path))] } else { Vec::new() };
                    (Some(given), hides)
                }
            };
            story.take(&Source::Container, Facts { given, node: None, hides });
        }
        for (layer, facts) in below {
            story.take(&layer.source, facts);
        }
        Ok((story.actions, story.is_present))
    }

    /// What stands at a path, and what gives it.
    pub(super) fn shown(&self, path: &[Vec<u8>]) -> io::Result<Option<(Source, Given)>> {
        let (actions, _) = self.actions(path)?;
        Ok(actions.into_iter().find_map(|(source, action)| match action {
            Action::Gives(given) => Some((source, given)),
            _ => None,
        }))
    }
}

/// What the layers show at a path, with its number in a union of them.
fn shown<'a>(layers: &'a [(&Layer, Facts)], is_root: bool) -> Option<(&'a Given, Ino)> {
    for (layer, facts) in layers {
        if let (Some(given), Some(node)) = (&facts.given, facts.node) {
            let ino = Ino(layer.first.saturating_add(node.0.into()));
            return Some((given, if is_root { Ino::ROOT } else { ino }));
        }
        if !facts.hides.is_empty() {
            return None;
        }
    }
    None
}

/// What was found so far.
#[derive(Default)]
struct Story {
    actions: Vec<(Source, Action)>,
    is_present: bool,
    /// The layers below show nothing there any more.
    is_closed: bool,
}

impl Story {
    fn take(&mut self, source: &Source, facts: Facts) {
        if let Some(given) = facts.given {
            let is_directory = given.is_directory();
            let action = if self.is_closed {
                Action::Hidden(given)
            } else if !self.is_present {
                self.is_present = true;
                self.is_closed = !is_directory;
                Action::Gives(given)
            } else if is_directory {
                Action::Merges(given)
            } else {
                self.is_closed = true;
                Action::Hidden(given)
            };
            self.actions.push((source.clone(), action));
        }
        for hides in facts.hides {
            self.is_closed = true;
            self.actions.push((source.clone(), hides));
        }
    }
}

fn facts(index: &Index, path: &[Vec<u8>]) -> Facts {
    let mut facts = Facts::default();
    let mut dir = NodeId::ROOT;
    let mut depth = 0;
    loop {
        let here = || joined(path.get(..depth).unwrap_or_default());
        if index.node(dir).is_some_and(|node| node.is_opaque()) {
            facts.hides.push(Action::Opaque(here()));
        }
        let Some(name) = path.get(depth) else {
            facts.given = given(index, dir);
            facts.node = Some(dir);
            return facts;
        };
        depth += 1;
        let here = joined(path.get(..depth).unwrap_or_default());
        match index.lookup(dir, name) {
            None => return facts,
            Some(Target::Whiteout) => {
                facts.hides.push(Action::Whiteout(here));
                return facts;
            }
            Some(Target::Node(node)) if index.node(node).and_then(|node| node.kind()) == Some(Kind::Directory) => {
                dir = node;
            }
            Some(Target::Node(node)) => {
                if depth == path.len() {
                    facts.given = given(index, node);
                    facts.node = Some(node);
                } else {
                    facts.hides.push(Action::Replaces(here));
                }
                return facts;
            }
        }
    }
}

fn given(index: &Index, id: NodeId) -> Option<Given> {
    let node = index.node(id)?;
    let meta = node.meta()?;
    let name = |(parent, name): (NodeId, &[u8])| {
        let mut components: Vec<Vec<u8>> = index.path(parent)?.into_iter().map(<[u8]>::to_vec).collect();
        components.push(name.to_vec());
        Some(joined(&components))
    };
    let mut names: Vec<Vec<u8>> = match meta.kind {
        Kind::Directory => Vec::new(),
        _ if node.nlink() < 2 => Vec::new(),
        _ => index.names(id).filter_map(name).collect(),
    };
    names.sort_unstable();
    Some(Given { meta, target: node.target().to_vec(), digest: node.digest(), names, is_implied: node.is_implied() })
}
