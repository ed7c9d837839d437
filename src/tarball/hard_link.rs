//! More names for a file of the layer.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::entry::Entry;
use super::failure::display;
use super::place::{Place, joined};
use super::tree::Tree;
use super::{Failure, Limits, disk, path, split};
use crate::index::{Child, Kind, Meta, Xattrs};
use crate::sys::call;
use crate::whiteout::{self, Marker};

/// Attributes that a change of a file's owner or mode takes away or changes.
const LOST: [&[u8]; 2] = [b"security.capability", b"system.posix_acl_access"];

impl Tree {
    /// Gives the file at the entry's link one more name, and describes it as the entry says: there is one file, and the
    /// last header counts.
    pub(super) fn hard_link(&mut self, place: &Place<'_>, entry: &Entry, limits: &Limits) -> Result<(), Failure> {
        let bad = |why: &str| {
            let target = display(&entry.link);
            Failure::entry(&entry.path, format!("is a hard link to `{target}`, which {why}"))
        };
        let components = path::components(&entry.link, limits).map_err(|refusal| bad(&refusal.why))?;
        let (name, dirs) = components.split_last().ok_or_else(|| bad("is the layer's root"))?;
        if components.iter().any(|part| matches!(whiteout::parse(part), Some(Marker::Private))) {
            self.link_private(place, entry, &joined(dirs, name))
                .unwrap_or_else(|| Err(bad("the layer does not have")))?;
            return self.describe_again(place, entry);
        }
        let found = self.find(dirs, limits).map_err(|refusal| bad(&refusal.why))?;
        let known = found.ok_or_else(|| bad("the layer does not have"))?;
        let Some(Child::Node(node)) = self.builder.child(known.id, name) else {
            return Err(bad("the layer does not have"));
        };
        if self.kind(node) == Some(Kind::Directory) {
            return Err(bad("is a directory"));
        }
        if self.builder.child(place.parent, place.name) != Some(Child::Node(node)) {
            let dirs: Vec<&[u8]> = known.dirs.iter().map(|name| &**name).collect();
            let target = joined(&dirs, name);
            if target.strip_prefix(&*place.path).is_some_and(|rest| rest.starts_with(b"/")) {
                return Err(bad("is in the directory that it would replace"));
            }
            self.discard(place, &entry.path)?;
            let failed = |error: Errno| Failure::write("link", &entry.path, error);
            let dir = self.targets.open(&dirs).map_err(failed)?;
            call::linkat(&*dir, *name, &*place.dir, place.name, AtFlags::empty()).map_err(failed)?;
            self.builder.link(place.parent, place.name, node).map_err(|error| bad(&error.to_string()))?;
        }
        self.describe_again(place, entry)
    }

    fn link_private(&mut self, place: &Place<'_>, entry: &Entry, target: &[u8]) -> Option<Result<(), Failure>> {
        let path = &entry.path;
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

    /// Describes the file at `place` as a further header does: mode, owner and time; of a symbolic link the owner alone, as
    /// with Docker and podman. Its attributes stay.
    fn describe_again(&mut self, place: &Place<'_>, entry: &Entry) -> Result<(), Failure> {
        let Some(Child::Node(id)) = self.builder.child(place.parent, place.name) else { return Ok(()) };
        let Some(node) = self.builder.node(id) else { return Ok(()) };
        let (old, new) = (node.meta, &entry.meta);
        let meta = if old.kind == Kind::Symlink {
            Meta { uid: new.uid, gid: new.gid, ..old }
        } else {
            Meta { mode: new.mode, uid: new.uid, gid: new.gid, mtime: new.mtime, ..old }
        };
        if meta == old {
            return Ok(());
        }
        // A change of owner takes the one away, a change of mode changes the other.
        let lost: Xattrs = node.xattrs.iter().filter(|(name, _)| LOST.contains(&&**name)).cloned().collect();
        let described = disk::describe_at(&place.dir, place.name, &meta, &lost, self.modes);
        described.map_err(|error| Failure::write("describe", &entry.path, error))?;
        self.builder.amend(id, |node| node.meta = meta);
        Ok(())
    }
}
