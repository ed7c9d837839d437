//! A layer's tree while it is made: on disk and, as the truth, in the index.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::disk::{self, Walk};
use super::entry::Entry;
use super::hashing::{Digests, Ticket};
use super::{Failure, Limits, Refusal, path, split};
use crate::index::{Builder, Child, Index, Kind, NewNode, NodeId};
use crate::sys::{Dir, call};
use crate::whiteout::{self, Marker};

/// The directory and name at which an entry stands.
pub(super) struct Place<'p> {
    pub(super) parent: NodeId,
    pub(super) dir: Rc<OwnedFd>,
    pub(super) dirs: &'p [&'p [u8]],
    pub(super) name: &'p [u8],
}

/// A file of an AUFS private directory: no content of the layer, but entries of the layer can be hard
/// links to it (`.wh..wh.plnk`).
struct Private {
    content: u64,
    new: NewNode,
    ticket: Option<Ticket>,
    node: Option<NodeId>,
}

pub(super) struct Tree {
    builder: Builder,
    root: Rc<OwnedFd>,
    walk: Walk,
    /// Where hard links point to is elsewhere, so it has its own cache.
    targets: Walk,
    kept: Option<Rc<OwnedFd>>,
    /// The numbers of the nodes' contents in the split, where they have any.
    contents: HashMap<NodeId, u64>,
    private: HashMap<Vec<u8>, Private>,
    /// Directories that were made because something is in them.
    implied: u64,
    /// The nodes whose digests come at the end.
    tickets: Vec<(NodeId, Ticket)>,
}

/// Why a path does not lead to a directory of the layer.
fn not_a_directory(kind: Option<Kind>, part: &[u8]) -> String {
    let part = super::failure::display(part);
    match kind {
        Some(Kind::Symlink) => format!("passes through the link `{part}`"),
        _ => format!("lies below `{part}`, which is no directory"),
    }
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
    pub(super) fn new(into: BorrowedFd<'_>) -> Result<Self, Failure> {
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
            tickets: Vec::new(),
        })
    }

    fn kind(&self, id: NodeId) -> Option<Kind> {
        self.builder.node(id).map(|node| node.meta.kind)
    }

    /// Finds the place of the `entries`-th entry, and makes the directories above it. These count as entries too: one
    /// path may need thousands.
    pub(super) fn place<'p>(
        &mut self,
        entry: &[u8],
        dirs: &'p [&'p [u8]],
        name: &'p [u8],
        (entries, limits): (u64, &Limits),
    ) -> Result<Place<'p>, Failure> {
        let mut parent = NodeId::ROOT;
        for (depth, part) in dirs.iter().enumerate() {
            parent = match self.builder.child(parent, part) {
                Some(Child::Node(id)) if self.kind(id) == Some(Kind::Directory) => id,
                Some(Child::Node(id)) => return Err(Failure::entry(entry, not_a_directory(self.kind(id), part))),
                None | Some(Child::Whiteout) => {
                    let failed = |error: Errno| Failure::write("create", entry, error);
                    let dir = self.walk.open(dirs.get(..depth).unwrap_or_default()).map_err(failed)?;
                    self.implied = self.implied.saturating_add(1);
                    self.within(entries, limits)?;
                    call::mkdirat(&*dir, *part, Mode::from_raw_mode(0o755)).map_err(failed)?;
                    self.builder.directory(parent, part)
                }
            };
        }
        let dir = self.walk.open(dirs).map_err(|error| Failure::write("open", entry, error))?;
        Ok(Place { parent, dir, dirs, name })
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
        made.map_err(|error| Failure::write("create", &joined(place.dirs, name), error))
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
            let described = disk::describe_at(&place.dir, place.name, &meta, &xattrs);
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

    /// Gives the file at `link` one more name.
    pub(super) fn hard_link(&mut self, place: &Place<'_>, entry: &Entry, limits: &Limits) -> Result<(), Failure> {
        let bad = |why: &str| {
            let target = super::failure::display(&entry.link);
            Failure::entry(&entry.path, format!("is a hard link to `{target}`, which {why}"))
        };
        let components = path::components(&entry.link, limits).map_err(|refusal| bad(&refusal.why))?;
        let (name, dirs) = components.split_last().ok_or_else(|| bad("is the layer's root"))?;
        if components.iter().any(|part| matches!(whiteout::parse(part), Some(Marker::Private))) {
            return self
                .link_private(place, &entry.path, &joined(dirs, name))
                .unwrap_or_else(|| Err(bad("the layer does not have")));
        }
        let mut parent = NodeId::ROOT;
        for part in dirs {
            parent = match self.builder.child(parent, part) {
                Some(Child::Node(id)) if self.kind(id) == Some(Kind::Directory) => id,
                Some(Child::Node(id)) => return Err(bad(&not_a_directory(self.kind(id), part))),
                None | Some(Child::Whiteout) => return Err(bad("the layer does not have")),
            };
        }
        let Some(Child::Node(node)) = self.builder.child(parent, name) else {
            return Err(bad("the layer does not have"));
        };
        if self.kind(node) == Some(Kind::Directory) {
            return Err(bad("is a directory"));
        }
        if self.builder.child(place.parent, place.name) == Some(Child::Node(node)) {
            return Ok(());
        }
        if dirs.starts_with(place.dirs) && dirs.get(place.dirs.len()) == Some(&place.name) {
            return Err(bad("is in the directory that it would replace"));
        }
        self.discard(place, &entry.path)?;
        let failed = |error: Errno| Failure::write("link", &entry.path, error);
        let dir = self.targets.open(dirs).map_err(failed)?;
        call::linkat(&*dir, *name, &*place.dir, place.name, AtFlags::empty()).map_err(failed)?;
        self.builder.link(place.parent, place.name, node).map_err(|error| bad(&error.to_string()))
    }

    fn link_private(&mut self, place: &Place<'_>, path: &[u8], target: &[u8]) -> Option<Result<(), Failure>> {
        let private = self.private.get(target)?;
        let (content, node, new, ticket) = (private.content, private.node, private.new.clone(), private.ticket);
        let mut link = || {
            if node.is_some_and(|node| self.builder.child(place.parent, place.name) == Some(Child::Node(node))) {
                return Ok(());
            }
            self.discard(place, path)?;
            let failed = |error: Errno| Failure::write("link", path, error);
            let name = split::kept_name(content);
            call::linkat(&*self.kept()?, &name, &*place.dir, place.name, AtFlags::empty()).map_err(failed)?;
            if let Some(node) = node {
                return self
                    .builder
                    .link(place.parent, place.name, node)
                    .map_err(|error| Failure::entry(path, error.to_string()));
            }
            let id = self.builder.put(place.parent, place.name, new.clone());
            self.contents.insert(id, content);
            self.tickets.extend(ticket.map(|ticket| (id, ticket)));
            if let Some(private) = self.private.get_mut(target) {
                private.node = Some(id);
            }
            Ok(())
        };
        Some(link())
    }

    /// The directory for content that has no other place any more.
    fn kept(&mut self) -> Result<Rc<OwnedFd>, Failure> {
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
    fn discard(&mut self, place: &Place<'_>, path: &[u8]) -> Result<(), Failure> {
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
                let described = self.walk.open(&names).and_then(|dir| disk::describe(&dir, &meta, &xattrs));
                described.map_err(|error| Failure::write("describe", &names.join(&b'/'), error))?;
            }
            names.pop();
            open.pop();
        }
        Ok(index)
    }
}
