//! Where in the layer's tree an entry stands, or a hard link leads to.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::failure::display;
use super::tree::Tree;
use super::way::{Part, Way};
use super::{Failure, Limits, Refusal};
use crate::index::{Child, Kind, NodeId};
use crate::sys::call;

/// The directory and name at which an entry stands.
pub(super) struct Place<'p> {
    pub(super) parent: NodeId,
    pub(super) dir: Rc<OwnedFd>,
    /// The path, no directory of which is a link.
    pub(super) path: Vec<u8>,
    pub(super) name: &'p [u8],
    /// The first link that the entry's own path passes through.
    pub(super) link: Option<Vec<u8>>,
}

/// What stands at the next name of a way.
enum Step {
    Directory(NodeId),
    /// Nothing: a directory may be made there.
    Missing,
    /// A link, which was followed.
    Followed,
}

/// A directory of the layer.
pub(super) struct Known {
    pub(super) id: NodeId,
    pub(super) dirs: Vec<Vec<u8>>,
}

pub(super) fn joined(dirs: &[&[u8]], name: &[u8]) -> Vec<u8> {
    let mut path = dirs.join(&b'/');
    if !dirs.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

impl Tree {
    /// Finds the place of the `entries`-th entry, and makes the directories above it. These count as entries too: one
    /// path may need thousands.
    pub(super) fn place<'p>(
        &mut self,
        entry: &[u8],
        dirs: &[&[u8]],
        name: &'p [u8],
        (entries, limits): (u64, &Limits),
    ) -> Result<Place<'p>, Failure> {
        let mut parent = NodeId::ROOT;
        for (depth, part) in dirs.iter().enumerate() {
            parent = match self.builder.child(parent, part) {
                Some(Child::Node(id)) => match self.kind(id) {
                    Some(Kind::Directory) => id,
                    Some(Kind::Symlink) => return self.place_through(entry, dirs, name, (entries, limits)),
                    _ => return Err(Failure::entry(entry, not_a_directory(part))),
                },
                None | Some(Child::Whiteout) => {
                    self.within_with_implied(entries, limits)?;
                    self.make_directory(entry, dirs.get(..depth).unwrap_or_default(), parent, part)?
                }
            };
        }
        let dir = self.walk.open(dirs).map_err(|error| Failure::write("open", entry, error))?;
        Ok(Place { parent, dir, path: joined(dirs, name), name, link: None })
    }

    /// As [`Tree::place`], where a directory of the path is a link.
    fn place_through<'p>(
        &mut self,
        entry: &[u8],
        dirs: &[&[u8]],
        name: &'p [u8],
        (entries, limits): (u64, &Limits),
    ) -> Result<Place<'p>, Failure> {
        let refuse = |refusal: Refusal| Failure::entry(entry, refusal);
        let mut way = Way::new(dirs);
        let mut known = vec![NodeId::ROOT];
        while let Some(part) = way.next() {
            known.truncate(way.depth().saturating_add(1));
            let parent = known.last().copied().unwrap_or(NodeId::ROOT);
            let id = match self.step(&mut way, parent, &part, limits).map_err(refuse)? {
                Step::Followed => continue,
                Step::Directory(id) => id,
                Step::Missing if part.is_of_link => {
                    let link = display(way.first_link().unwrap_or_default());
                    let missing = display(&joined(&way.dirs(), &part.name));
                    let why = format!("passes through the link `{link}` to `{missing}`, which the layer does not have");
                    return Err(Failure::entry(entry, why));
                }
                Step::Missing => {
                    self.within_with_implied(entries, limits)?;
                    self.make_directory(entry, &way.dirs(), parent, &part.name)?
                }
            };
            known.push(id);
            way.enter(part);
        }
        let parent = known.get(way.depth()).copied().unwrap_or(NodeId::ROOT);
        let dirs = way.dirs();
        let path = joined(&dirs, name);
        if path.len() > limits.path {
            let why = format!("has a path of more than {} bytes, with the links in it followed", limits.path);
            return Err(refuse(Refusal::limit("path", why)));
        }
        let dir = self.walk.open(&dirs).map_err(|error| Failure::write("open", entry, error))?;
        Ok(Place { parent, dir, path, name, link: way.first_link().map(<[u8]>::to_vec) })
    }

    /// Finds a directory of the layer; `Ok(None)` when there is none.
    ///
    /// # Errors
    /// What stands in its place, or keeps it from being found, as a clause.
    pub(super) fn find(&self, dirs: &[&[u8]], limits: &Limits) -> Result<Option<Known>, Refusal> {
        let mut way = Way::new(dirs);
        let mut known = vec![NodeId::ROOT];
        while let Some(part) = way.next() {
            known.truncate(way.depth().saturating_add(1));
            let parent = known.last().copied().unwrap_or(NodeId::ROOT);
            match self.step(&mut way, parent, &part, limits)? {
                Step::Followed => continue,
                Step::Missing => return Ok(None),
                Step::Directory(id) => known.push(id),
            }
            way.enter(part);
        }
        let id = known.get(way.depth()).copied().unwrap_or(NodeId::ROOT);
        let dirs = way.dirs().into_iter().map(<[u8]>::to_vec).collect();
        Ok(Some(Known { id, dirs }))
    }

    fn step<'p>(&self, way: &mut Way<'p>, parent: NodeId, part: &Part<'p>, limits: &Limits) -> Result<Step, Refusal> {
        let Some(Child::Node(id)) = self.builder.child(parent, &part.name) else { return Ok(Step::Missing) };
        match self.builder.node(id) {
            Some(node) if node.meta.kind == Kind::Directory => Ok(Step::Directory(id)),
            Some(node) if node.meta.kind == Kind::Symlink => {
                way.follow(part, &node.target, limits).map(|()| Step::Followed)
            }
            _ => Err(not_a_directory(&part.name).into()),
        }
    }

    /// Makes a directory that has no entry of its own.
    fn make_directory(&mut self, entry: &[u8], dirs: &[&[u8]], parent: NodeId, name: &[u8]) -> Result<NodeId, Failure> {
        let failed = |error: Errno| Failure::write("create", entry, error);
        let dir = self.walk.open(dirs).map_err(failed)?;
        call::mkdirat(&*dir, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
        Ok(self.builder.directory(parent, name))
    }

    fn within_with_implied(&mut self, entries: u64, limits: &Limits) -> Result<(), Failure> {
        self.implied = self.implied.saturating_add(1);
        self.within(entries, limits)
    }

    /// That so many entries are not too many, with the directories that have none.
    pub(super) fn within(&self, entries: u64, limits: &Limits) -> Result<(), Failure> {
        let most = limits.entries;
        if entries.saturating_add(self.implied) <= most {
            return Ok(());
        }
        let also = if self.implied > 0 { ", with the directories that have none" } else { "" };
        Err(Failure::bad(Refusal::limit("entries", format!("has more than {most} entries{also}"))))
    }
}

fn not_a_directory(part: &[u8]) -> String {
    format!("lies below `{}`, which is no directory", display(part))
}
