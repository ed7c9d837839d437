//! Whiteouts that hide nothing, and how much may be done to find them: an image may name the same layers very often.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::id::DiffId;
use crate::index::{Child, Index, Kind, NodeId};
use crate::tarball::{Odd, Oddities};
use crate::whiteout;

/// Names that are looked at, which takes some seconds. No image that people make needs a hundredth of it.
const NAMES: u64 = 100_000_000;
/// Findings that are told of once more with a layer that was told of before.
const REPEATED: usize = 20_000;

/// What is left of what one report may cost.
pub(super) struct Room {
    names: u64,
    repeated: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { names: NAMES, repeated: REPEATED }
    }
}

impl Room {
    /// Whether so many findings may be told of once more.
    pub(super) fn take_repeated(&mut self, findings: usize) -> bool {
        let left = self.repeated.checked_sub(findings);
        self.repeated = left.unwrap_or(0);
        left.is_some()
    }

    fn look(&mut self) -> Option<()> {
        self.names = self.names.checked_sub(1)?;
        Some(())
    }
}

/// The layers below one. Of a layer that is there more than once only the uppermost counts: what that says nothing of,
/// the others say nothing of either.
#[derive(Default)]
pub(super) struct Below<'a> {
    /// By their places, lowest first.
    layers: BTreeMap<usize, &'a Index>,
    places: BTreeMap<DiffId, usize>,
}

impl<'a> Below<'a> {
    /// Puts one more layer on top, the `number`-th of all.
    pub(super) fn push(&mut self, number: usize, diff_id: DiffId, index: &'a Index) {
        match self.places.entry(diff_id) {
            Entry::Vacant(place) => drop(place.insert(number)),
            Entry::Occupied(mut place) => drop(self.layers.remove(&place.insert(number))),
        }
        self.layers.insert(number, index);
    }

    /// Whether they together show something at `path`; `None` when there is no more room to look.
    fn shows(&self, path: &[&[u8]], room: &mut Room) -> Option<bool> {
        'layers: for index in self.layers.values().rev() {
            let (mut at, mut is_opaque) = (NodeId::ROOT, false);
            for (depth, name) in path.iter().enumerate() {
                room.look()?;
                is_opaque |= index.node(at).is_some_and(|node| node.is_opaque());
                match index.lookup(at, name) {
                    Some(Child::Node(_)) if depth.saturating_add(1) == path.len() => return Some(true),
                    Some(Child::Node(id)) if index.node(id).and_then(|node| node.kind()) == Some(Kind::Directory) => {
                        at = id;
                    }
                    Some(_) => return Some(false),
                    None if is_opaque => return Some(false),
                    None => continue 'layers,
                }
            }
        }
        Some(false)
    }
}

/// Adds the whiteouts and opaque directories of a layer that hide nothing of those below; `None` when there is no more
/// room to look for them all.
pub(super) fn whiteouts_of_nothing(
    index: &Index,
    below: &Below<'_>,
    room: &mut Room,
    oddities: &mut Oddities,
) -> Option<()> {
    let mut todo: Vec<(NodeId, usize, &[u8])> = vec![(NodeId::ROOT, 0, b"")];
    // The names on the way to where it is.
    let mut path: Vec<&[u8]> = Vec::new();
    while let Some((dir, depth, name)) = todo.pop() {
        path.truncate(depth.saturating_sub(1));
        path.extend(Some(name).filter(|_| depth > 0));
        let mut dirs = Vec::new();
        for child in index.children(dir) {
            room.look()?;
            path.push(child.name);
            match child.target {
                Child::Whiteout if !below.shows(&path, room)? => {
                    let name = [whiteout::PREFIX, child.name].concat();
                    path.pop();
                    let whole = path.iter().copied().chain([&*name]).collect::<Vec<_>>().join(&b'/');
                    oddities.add(Odd::WhiteoutOfNothing, &whole, "no layer below has what it hides");
                    continue;
                }
                Child::Node(id) if index.node(id).and_then(|node| node.kind()) == Some(Kind::Directory) => {
                    let is_opaque = index.node(id).is_some_and(|node| node.is_opaque());
                    if is_opaque && !below.shows(&path, room)? {
                        let detail = "is opaque, and no layer below has it";
                        oddities.add(Odd::WhiteoutOfNothing, &path.join(&b'/'), detail);
                    }
                    dirs.push((id, depth.saturating_add(1), child.name));
                }
                Child::Whiteout | Child::Node(_) => {}
            }
            path.pop();
        }
        todo.extend(dirs.into_iter().rev());
    }
    Some(())
}
