//! Finds redundant whiteouts, which hide nothing, within a limit of work: an image may name the same layers very often.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;

use crate::error::Result;
use crate::id::DiffId;
use crate::index::{Child, Index, Kind, NodeId};
use crate::tarball::{Odd, Oddities};
use crate::whiteout;

/// Names that are looked at, which takes some seconds. No image that people make needs a hundredth of it.
const NAMES: u64 = 100_000_000;
/// Findings that are told of once more with a layer that was told of before.
const REPEATED: usize = 20_000;
/// Bytes of an index whose reading costs as much as a look at a name.
const READ: u64 = 256;
/// Bytes of the indexes that are kept in memory. One that is larger is alone there.
const KEPT: usize = 16 << 20;

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

/// The indexes of layers: those that were asked for last are in memory, and the others are read once more.
pub(super) struct Indexes<'r> {
    read: &'r dyn Fn(DiffId) -> Result<Index>,
    kept: Vec<(DiffId, Rc<Index>)>,
}

impl<'r> Indexes<'r> {
    /// None yet; `read` reads one.
    pub(super) fn new(read: &'r dyn Fn(DiffId) -> Result<Index>) -> Self {
        Self { read, kept: Vec::new() }
    }

    /// The index of a layer; `None` when there is no more room to read it.
    fn get(&mut self, layer: DiffId, room: &mut Room) -> Result<Option<Rc<Index>>> {
        if let Some(at) = self.kept.iter().position(|(known, _)| *known == layer) {
            let kept = self.kept.remove(at);
            let index = Rc::clone(&kept.1);
            self.kept.push(kept);
            return Ok(Some(index));
        }
        if room.names == 0 {
            return Ok(None);
        }
        let index = Rc::new((self.read)(layer)?);
        let bytes = index.as_bytes().len();
        room.names = room.names.saturating_sub(bytes as u64 / READ);
        let mut all = self.kept.iter().map(|(_, kept)| kept.as_bytes().len()).fold(bytes, usize::saturating_add);
        while all > KEPT && !self.kept.is_empty() {
            all = all.saturating_sub(self.kept.remove(0).1.as_bytes().len());
        }
        self.kept.push((layer, Rc::clone(&index)));
        Ok(Some(index))
    }
}

/// The layers below one. Of a layer that is there more than once only the uppermost counts: what that says nothing of,
/// the others say nothing of either.
#[derive(Default)]
pub(super) struct Below {
    /// By their places, lowest first.
    layers: BTreeMap<usize, DiffId>,
    places: BTreeMap<DiffId, usize>,
}

impl Below {
    /// Puts one more layer on top, the `number`-th of all.
    pub(super) fn push(&mut self, number: usize, diff_id: DiffId) {
        match self.places.entry(diff_id) {
            Entry::Vacant(place) => drop(place.insert(number)),
            Entry::Occupied(mut place) => drop(self.layers.remove(&place.insert(number))),
        }
        self.layers.insert(number, diff_id);
    }
}

/// What a layer says of a path.
enum Said {
    /// Whether something is there, whatever the layers below have.
    Decided(bool),
    Nothing,
}

/// What a layer says of `path`; `None` when there is no more room to look.
fn said(index: &Index, path: &[&[u8]], room: &mut Room) -> Option<Said> {
    let (mut at, mut is_opaque) = (NodeId::ROOT, false);
    for (depth, name) in path.iter().enumerate() {
        room.look()?;
        is_opaque |= index.node(at).is_some_and(|node| node.is_opaque());
        match index.lookup(at, name) {
            Some(Child::Node(_)) if depth.saturating_add(1) == path.len() => return Some(Said::Decided(true)),
            Some(Child::Node(id)) if index.node(id).and_then(|node| node.kind()) == Some(Kind::Directory) => {
                at = id;
            }
            Some(_) => return Some(Said::Decided(false)),
            None if is_opaque => return Some(Said::Decided(false)),
            None => return Some(Said::Nothing),
        }
    }
    Some(Said::Nothing)
}

/// What hides something: a whiteout by its directory and name, or an opaque directory.
struct Hiding<'i> {
    dir: NodeId,
    whiteout: Option<&'i [u8]>,
    is_redundant: bool,
}

impl<'i> Hiding<'i> {
    /// The path that it hides.
    fn path(&self, index: &'i Index) -> Vec<&'i [u8]> {
        index.path(self.dir).into_iter().flatten().chain(self.whiteout).collect()
    }
}

/// All that hides something in a layer; `None` when there is no more room to look.
fn hidings<'i>(index: &'i Index, room: &mut Room) -> Option<Vec<Hiding<'i>>> {
    let mut todo = vec![NodeId::ROOT];
    let mut all = Vec::new();
    while let Some(dir) = todo.pop() {
        let mut dirs = Vec::new();
        for child in index.children(dir) {
            room.look()?;
            match child.target {
                Child::Whiteout => all.push(Hiding { dir, whiteout: Some(child.name), is_redundant: false }),
                Child::Node(id) if index.node(id).and_then(|node| node.kind()) == Some(Kind::Directory) => {
                    if index.node(id).is_some_and(|node| node.is_opaque()) {
                        all.push(Hiding { dir: id, whiteout: None, is_redundant: false });
                    }
                    dirs.push(id);
                }
                Child::Node(_) => {}
            }
        }
        todo.extend(dirs.into_iter().rev());
    }
    Some(all)
}

/// Adds the whiteouts and opaque directories of a layer that hide nothing of those below; gives whether there was room
/// to look for them all.
///
/// # Errors
/// When an index cannot be read.
pub(super) fn find_redundant_whiteouts(
    layer: DiffId,
    below: &Below,
    indexes: &mut Indexes<'_>,
    room: &mut Room,
    oddities: &mut Oddities,
) -> Result<bool> {
    let Some(index) = indexes.get(layer, room)? else { return Ok(false) };
    let Some(mut all) = hidings(&index, room) else { return Ok(false) };
    let is_whole = look_below(&index, &mut all, below, indexes, room)?.is_some();
    for hiding in all.iter().filter(|hiding| hiding.is_redundant) {
        let path = hiding.path(&index).join(&b'/');
        match hiding.whiteout {
            Some(name) => {
                let above = path.get(..path.len().saturating_sub(name.len())).unwrap_or_default();
                let path = [above, whiteout::PREFIX, name].concat();
                oddities.add(Odd::WhiteoutOfNothing, &path, "no layer below has what it hides");
            }
            None => oddities.add(Odd::WhiteoutOfNothing, &path, "is opaque, and no layer below has it"),
        }
    }
    Ok(is_whole)
}

/// Asks one layer after the other, from above, about all of which none has said anything yet.
fn look_below(
    index: &Index,
    all: &mut [Hiding<'_>],
    below: &Below,
    indexes: &mut Indexes<'_>,
    room: &mut Room,
) -> Result<Option<()>> {
    let mut open: Vec<usize> = (0..all.len()).collect();
    for layer in below.layers.values().rev() {
        if open.is_empty() {
            break;
        }
        let Some(lower) = indexes.get(*layer, room)? else { return Ok(None) };
        let mut still_open = Vec::new();
        for number in open {
            let Some(hiding) = all.get_mut(number) else { continue };
            match said(&lower, &hiding.path(index), room) {
                Some(Said::Decided(shows)) => hiding.is_redundant = !shows,
                Some(Said::Nothing) => still_open.push(number),
                None => return Ok(None),
            }
        }
        open = still_open;
    }
    for number in open {
        if let Some(hiding) = all.get_mut(number) {
            hiding.is_redundant = true;
        }
    }
    Ok(Some(()))
}
