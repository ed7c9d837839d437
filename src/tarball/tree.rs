//! A layer's tree while it is made: on disk and, as the truth, in the index.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::disk::{self, Walk};
use super::entry::Entry;
use super::hashing::{Digests, Ticket};
use super::place::{Place, joined};
use super::{Failure, Modes, split};
use crate::index::{Builder, Child, Index, Kind, NewNode, NodeId};
use crate::sys::{Dir, call};
use crate::whiteout;

/// A file of an AUFS private directory: no content of the layer, but entries of the layer can be hard
/// links to it (`.wh..wh.plnk`).
pub(super) struct Private {
    pub(super) content: u64,
    pub(super) new: NewNode,
    pub(super) ticket: Option<Ticket>,
    pub(super) node: Option<NodeId>,
}

pub(super) struct Tree {
    pub(super) builder: Builder,
    root: Rc<OwnedFd>,
    pub(super) walk: Walk,
    /// Where hard links point to is elsewhere, so it has its own cache.
    pub(super) targets: Walk,
    kept: Option<Rc<OwnedFd>>,
    /// The numbers of the nodes' contents in the split, where they have any.
    pub(super) contents: HashMap<NodeId, u64>,
    pub(super) private: HashMap<Vec<u8>, Private>,
    /// Directories that were made because something is in them.
    pub(super) implied: u64,
    /// Which modes the files have on disk.
    pub(super) modes: Modes,
    /// The nodes whose digests come at the end.
    pub(super) tickets: Vec<(NodeId, Ticket)>,
}

impl Tree {
    pub(super) fn new(into: BorrowedFd<'_>, modes: Modes) -> Result<Self, Failure> {
        let failed = |error: Errno| Failure::write("open", b"", error);
        let (mut walk, targets) = (Walk::new(into).map_err(failed)?, Walk::new(into).map_err(failed)?);
        let root = walk.open(&[]).map_err(failed)?;
        Ok(Self {
            builder: Builder::new(),
            root,
            walk,
            targets,
            kept: None,
            contents: HashMap::new(),
            private: HashMap::new(),
            implied: 0,
            modes,
            tickets: Vec::new(),
        })
    }

    pub(super) fn kind(&self, id: NodeId) -> Option<Kind> {
        self.builder.node(id).map(|node| node.meta.kind)
    }

    /// Describes the layer's root.
    pub(super) fn root(&mut self, entry: Entry) {
        self.builder.set_root(NewNode { xattrs: entry.xattrs, ..NewNode::new(entry.meta) });
    }

    pub(super) fn opaque(&mut self, place: &Place<'_>) -> Result<(), Failure> {
        self.builder.opaque(place.parent);
        self.marker(place, whiteout::OPAQUE, b"")
    }

    pub(super) fn whiteout(&mut self, place: &Place<'_>, hidden: &[u8]) -> Result<(), Failure> {
        self.builder.whiteout(place.parent, hidden);
        let (name, content) = whiteout::on_disk(hidden);
        self.marker(place, &name, &content)
    }

    fn marker(&self, place: &Place<'_>, name: &[u8], content: &[u8]) -> Result<(), Failure> {
        let made = match disk::create(&place.dir, name) {
            // Said twice.
            Err(Errno::EXIST) => return Ok(()),
            Ok(file) => disk::write_data(Some(&file), 0, content).map(drop),
            Err(error) => Err(error),
        };
        made.map_err(|error| Failure::write("create", &place.path, error))
    }

    /// Makes what has no data, or describes a directory anew.
    pub(super) fn put(&mut self, place: &Place<'_>, entry: Entry) -> Result<(), Failure> {
        let Entry { path, link, meta, xattrs, .. } = entry;
        let old = match self.builder.child(place.parent, place.name) {
            Some(Child::Node(id)) => self.kind(id),
            _ => None,
        };
        if meta.kind != Kind::Directory || old != Some(Kind::Directory) {
            self.discard(place, &path)?;
            let made = match meta.kind {
                Kind::Directory => call::mkdirat(&*place.dir, place.name, Mode::from_raw_mode(0o755)),
                Kind::Symlink => call::symlinkat(&*link, &*place.dir, place.name),
                _ => disk::make_special(&place.dir, place.name, &meta),
            };
            made.map_err(|error| Failure::write("create", &path, error))?;
        }
        if meta.kind == Kind::Directory && old.is_some_and(|old| old != Kind::Directory) {
            // What it replaces has hidden the lower layers' directory: it is opaque, which the disk says too.
            let dir = disk::open_directory(&place.dir, place.name);
            let made = dir.and_then(|dir| disk::create(&dir, whiteout::OPAQUE));
            made.map_err(|error| Failure::write("create", &path, error))?;
        }
        if meta.kind != Kind::Directory {
            let described = disk::describe_at(&place.dir, place.name, &meta, &xattrs, self.modes);
            described.map_err(|error| Failure::write("describe", &path, error))?;
        }
        let target = if meta.kind == Kind::Symlink { link } else { Vec::new() };
        self.builder.put(place.parent, place.name, NewNode { target, xattrs, ..NewNode::new(meta) });
        Ok(())
    }

    /// Makes an empty file at `place`, to be written.
    pub(super) fn create(&mut self, place: &Place<'_>, path: &[u8]) -> Result<OwnedFd, Failure> {
        self.discard(place, path)?;
        disk::create(&place.dir, place.name).map_err(|error| Failure::write("create", path, error))
    }

    /// Adds the file that was written at `place`, with the number of its content.
    pub(super) fn add_file(&mut self, place: &Place<'_>, new: NewNode, content: Option<u64>, ticket: Option<Ticket>) {
        let id = self.builder.put(place.parent, place.name, new);
        self.tickets.extend(ticket.map(|ticket| (id, ticket)));
        if let Some(content) = content {
            self.contents.insert(id, content);
        }
    }

    /// Makes an empty file for the content of a private file.
    pub(super) fn create_private(&mut self, content: u64) -> Result<OwnedFd, Failure> {
        let name = split::kept_name(content);
        disk::create(&*self.kept()?, name.as_bytes())
            .map_err(|error| Failure::write("create", &joined(&[whiteout::DUPLICATES], name.as_bytes()), error))
    }

    /// Remembers a private file, in case that the layer links to it.
    pub(super) fn add_private(
        &mut self,
        dirs: &[&[u8]],
        name: &[u8],
        new: NewNode,
        content: u64,
        ticket: Option<Ticket>,
    ) {
        self.private.insert(joined(dirs, name), Private { content, new, ticket, node: None });
    }

    /// The directory for content that has no other place any more.
    pub(super) fn kept(&mut self) -> Result<Rc<OwnedFd>, Failure> {
        if let Some(kept) = &self.kept {
            return Ok(Rc::clone(kept));
        }
        let failed = |error: Errno| Failure::write("create", whiteout::DUPLICATES, error);
        call::mkdirat(&*self.root, whiteout::DUPLICATES, Mode::RWXU).map_err(failed)?;
        let kept = Rc::new(disk::open_directory(&self.root, whiteout::DUPLICATES).map_err(failed)?);
        self.kept = Some(Rc::clone(&kept));
        Ok(kept)
    }

    /// Removes what stands at `place` from the disk, and keeps its content: it is still a part of the tar.
    pub(super) fn discard(&mut self, place: &Place<'_>, path: &[u8]) -> Result<(), Failure> {
        let Some(Child::Node(id)) = self.builder.child(place.parent, place.name) else { return Ok(()) };
        let failed = |error: Errno| Failure::write("replace", path, error);
        if self.kind(id) != Some(Kind::Directory) {
            return self.discard_file(&place.dir, place.name, id, path);
        }
        // The walk stands at the parent, since the place was found, but the targets' may be further down.
        self.targets.forget();
        let kept = self.kept()?;
        // A tree can be deeper than a path can be long, or than there are descriptors: each of its
        // directories is brought up here before it is emptied.
        let mut made = 0u64;
        let mut bring = |dir: &OwnedFd, name: &[u8]| {
            made = made.saturating_add(1);
            let new = format!("tree.{made}").into_bytes();
            call::renameat(dir, name, &*kept, &*new).map(|()| new)
        };
        let mut todo = vec![(bring(&place.dir, place.name).map_err(failed)?, id)];
        while let Some((tree, id)) = todo.pop() {
            let dir = disk::open_directory(&kept, &tree).map_err(failed)?;
            let mut names = Vec::new();
            for entry in Dir::read_from(&dir).map_err(failed)? {
                names.push(entry.map_err(failed)?.file_name().to_bytes().to_vec());
            }
            for name in names.iter().filter(|name| *name != b"." && *name != b"..") {
                match self.builder.child(id, name) {
                    Some(Child::Node(child)) if self.kind(child) == Some(Kind::Directory) => {
                        todo.push((bring(&dir, name).map_err(failed)?, child));
                    }
                    Some(Child::Node(child)) => {
                        self.discard_file(&dir, name, child, path)?;
                    }
                    // A whiteout's marker.
                    None | Some(Child::Whiteout) => {
                        call::unlinkat(&dir, &**name, AtFlags::empty()).map_err(failed)?;
                    }
                }
            }
            call::unlinkat(&*kept, &*tree, AtFlags::REMOVEDIR).map_err(failed)?;
        }
        Ok(())
    }

    fn discard_file(&mut self, dir: &OwnedFd, name: &[u8], id: NodeId, path: &[u8]) -> Result<(), Failure> {
        let failed = |error: Errno| Failure::write("replace", path, error);
        if let Some(content) = self.contents.get(&id).copied() {
            let kept = self.kept()?;
            call::renameat(dir, name, &*kept, &split::kept_name(content)).map_err(failed)?;
        }
        // After a rename the name is gone, unless both were names of one file: then it did nothing.
        match call::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Finishes the index, and gives the directories their metadata: before, their times would not last.
    pub(super) fn finish(mut self, digests: &Digests) -> Result<Index, Failure> {
        for (id, ticket) in std::mem::take(&mut self.tickets) {
            self.builder.amend(id, |node| node.digest = digests.get(ticket));
        }
        let index = std::mem::take(&mut self.builder).finish();
        let index = index.map_err(|error| Failure::bad(format!("has too many files: the index {error}")))?;
        let mut names: Vec<&[u8]> = Vec::new();
        let mut open = vec![(NodeId::ROOT, index.children(NodeId::ROOT))];
        while let Some((id, children)) = open.last_mut() {
            if let Some(child) = children.next() {
                if let Child::Node(id) = child.target
                    && index.node(id).and_then(|node| node.kind()) == Some(Kind::Directory)
                {
                    names.push(child.name);
                    open.push((id, index.children(id)));
                }
                continue;
            }
            if let Some((node, meta)) = index.node(*id).and_then(|node| Some((node, node.meta()?)))
                && !(*id == NodeId::ROOT && node.is_implied())
            {
                let xattrs = node.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
                let described = self.walk.open(&names).and_then(|dir| disk::describe(&dir, &meta, &xattrs, self.modes));
                described.map_err(|error| Failure::write("describe", &names.join(&b'/'), error))?;
            }
            names.pop();
            open.pop();
        }
        Ok(index)
    }
}
