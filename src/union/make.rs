//! New names: files, directories, links.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno as Raw;

use super::attr::attr_of;
use super::copy_up::make_node;
use super::descriptors::Key;
use super::disk_dir::{kind_of_stat, open_directory, remove_tree};
use super::errno::{Errno, FsResult};
use super::lookup::upper_ino;
use super::tree::{Inherits, Listing, Node, Tree, UpperEntry};
use super::types::{Attr, Caller, Ino, NewFile};
use super::upper::{Spot, Upper};
use super::xattr::optional;
use super::{Union, check_new_name};
use crate::index::{Kind, Meta};
use crate::sys::call;
use crate::whiteout;

const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

impl Union {
    /// Makes a regular file, device, fifo or socket. Counts one reference.
    ///
    /// # Errors
    /// `EPERM` for a name that starts with `.wh.`, `ENAMETOOLONG`, `EEXIST`, `EROFS` without an upper.
    pub fn create(&self, parent: Ino, name: &[u8], new: NewFile, caller: Caller) -> FsResult<Attr> {
        let mut tree = self.tree.write();
        let dir = self.prepare_parent(&mut tree, parent, name)?;
        let inherits = self.inherits(&mut tree, parent, &dir)?;
        let mode = new.mode & if inherits.acl { 0o7777 } else { !new.umask & 0o7777 };
        if new.kind == Kind::File {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = Arc::new(call::openat(&dir, name, flags, Mode::from_raw_mode(mode))?);
            let attr = self.finish(&mut tree, parent, name, Spot::Open(file.clone()), mode, inherits, caller)?;
            // Data mostly follow at once.
            self.descriptors.put(Key::UpperData(attr.ino), file);
            return Ok(attr);
        }
        let meta = Meta { kind: new.kind, mode, rdev: new.rdev, ..Meta::implied_directory() };
        make_node(dir.as_fd(), name, &meta)?;
        self.finish(&mut tree, parent, name, Spot::Named(dir, name.into()), mode, inherits, caller)
    }

    /// Makes a symbolic link. Counts one reference.
    ///
    /// # Errors
    /// As [`Union::create`].
    pub fn symlink(&self, parent: Ino, name: &[u8], target: &[u8], caller: Caller) -> FsResult<Attr> {
        let mut tree = self.tree.write();
        let dir = self.prepare_parent(&mut tree, parent, name)?;
        let inherits = self.inherits(&mut tree, parent, &dir)?;
        call::symlinkat(target, &dir, name)?;
        self.finish(&mut tree, parent, name, Spot::Named(dir, name.into()), 0, inherits, caller)
    }

    /// Makes a directory. Counts one reference.
    ///
    /// # Errors
    /// As [`Union::create`].
    pub fn mkdir(&self, parent: Ino, name: &[u8], mode: u32, umask: u32, caller: Caller) -> FsResult<Attr> {
        let upper = self.upper()?;
        let mut tree = self.tree.write();
        let dir = self.prepare_parent(&mut tree, parent, name)?;
        let inherits = self.inherits(&mut tree, parent, &dir)?;
        let mode = mode & if inherits.acl { 0o7777 } else { !umask & 0o7777 };
        let over_directory = self.lower_child(&tree, parent, name)?.is_some_and(|kind| kind == Kind::Directory);
        let spot = Spot::Named(dir.clone(), name.into());
        if over_directory {
            // Finished out of sight, though where it inherits what it should: its name must not show the
            // lower directory for a moment.
            self.make_opaque(upper, &dir, name, mode)?;
        } else {
            call::mkdirat(&dir, name, Mode::from_raw_mode(mode))?;
        }
        // The sgid bit comes from the parent and is not the caller's to lose.
        let mode = mode | if inherits.group { 0o2000 } else { 0 };
        let attr = self.finish(&mut tree, parent, name, spot, mode, inherits, caller)?;
        tree.put_listing(attr.ino, Listing::empty(over_directory));
        Ok(attr)
    }

    /// Makes an opaque directory.
    fn make_opaque(&self, upper: &Upper, dir: &OwnedFd, name: &[u8], mode: u32) -> FsResult<()> {
        let new = || call::mkdirat(dir, whiteout::NEW, Mode::from_raw_mode(mode));
        match new() {
            // Left by one that could neither be made nor taken away.
            Err(Raw::EXIST) => {
                remove_tree(dir.as_fd(), whiteout::NEW)?;
                new()?;
            }
            made => made?,
        }
        let done = (|| {
            let made = open_directory(dir.as_fd(), whiteout::NEW)?;
            upper.create_opaque(made.as_fd())?;
            Ok(call::renameat(dir, whiteout::NEW, dir, name)?)
        })();
        done.inspect_err(|_| upper.clean_up(|| remove_tree(dir.as_fd(), whiteout::NEW)))
    }

    /// Gives a file one more name. Counts one reference.
    ///
    /// # Errors
    /// As [`Union::create`]; `ENOENT` for a file that has lost its last name; `EMLINK`.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> FsResult<Attr> {
        self.copy_up(ino)?;
        let mut tree = self.tree.write();
        let dir = self.prepare_parent(&mut tree, parent, name)?;
        let kind = tree.nodes.get(&ino).ok_or(Errno::ESTALE)?.kind;
        if self.lowers.place(ino).is_some() {
            self.mark_impure(&mut tree, parent)?;
        }
        match self.spot(&tree, ino)? {
            Spot::Named(from, known) => call::linkat(&from, &*known, &dir, name, AtFlags::empty())?,
            // It has lost the names that are known, and may still have another; the kernel checks that.
            Spot::Open(file) => {
                let from = format!("/proc/self/fd/{}", file.as_raw_fd());
                call::linkat(CWD, &*from, &dir, name, AtFlags::SYMLINK_FOLLOW)?;
            }
        }
        self.enter(&mut tree, parent, name, UpperEntry { ino, kind }, &dir)?;
        if let Some(orphan) = tree.nodes.get_mut(&ino).and_then(|node| node.orphan.take()) {
            self.drop_orphan(&mut tree, ino, &orphan);
        }
        tree.ctimes.moved(ino);
        let attr = self.attr(&mut tree, ino)?;
        self.references.add(ino);
        Ok(attr)
    }

    /// Checks a new name and opens the upper directory that it is to be in.
    fn prepare_parent(&self, tree: &mut Tree, parent: Ino, name: &[u8]) -> FsResult<Arc<OwnedFd>> {
        self.upper()?;
        check_new_name(name)?;
        if self.find(tree, parent, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        self.copy_up_parent(tree, parent)?;
        self.upper_dir(tree, parent)
    }

    /// What a directory hands on.
    fn inherits(&self, tree: &mut Tree, dir: Ino, descriptor: &Arc<OwnedFd>) -> FsResult<Inherits> {
        if let Some(inherits) = tree.nodes.get(&dir).and_then(|node| node.inherits) {
            return Ok(inherits);
        }
        let spot = Spot::Open(descriptor.clone());
        let acl = optional(&spot, DEFAULT_ACL)?.is_some();
        let inherits = Inherits { group: spot.stat()?.st_mode & 0o2000 != 0, acl };
        if let Some(node) = tree.nodes.get_mut(&dir) {
            node.inherits = Some(inherits);
        }
        Ok(inherits)
    }

    /// Gives a file that was just made its owner, and makes it known.
    #[allow(clippy::too_many_arguments, reason = "one step of three operations, with all that they know")]
    fn finish(
        &self,
        tree: &mut Tree,
        parent: Ino,
        name: &[u8],
        spot: Spot,
        mode: u32,
        inherits: Inherits,
        caller: Caller,
    ) -> FsResult<Attr> {
        let gid = (!inherits.group && caller.gid != 0).then_some(caller.gid);
        let uid = (caller.uid != 0).then_some(caller.uid);
        let described = (|| {
            if uid.is_some() || gid.is_some() {
                spot.chown(uid, gid)?;
            }
            let mut stat = spot.stat()?;
            let kind = kind_of_stat(&stat)?;
            let shown = stat.st_mode & 0o7777;
            // A change of owner takes suid and sgid away, the process's own umask anything; but with a
            // default ACL the lower bits are the file system's to find.
            let wanted = if inherits.acl { shown & 0o777 | mode & 0o7000 } else { mode };
            if shown != wanted && kind != Kind::Symlink {
                spot.chmod(wanted)?;
                stat = spot.stat()?;
            }
            Ok((stat, kind, Self::upper_generation(&spot)?))
        })();
        let dir = self.upper_dir(tree, parent)?;
        let (stat, kind, generation) = match described {
            Ok(described) => described,
            Err(error) => {
                // No lookup can have found it yet.
                self.upper()?.clean_up(|| remove_tree(dir.as_fd(), name));
                return Err(error);
            }
        };
        let ino = upper_ino(stat.st_ino);
        tree.gone.remove(&ino);
        tree.ctimes.forget(ino);
        tree.nodes.insert(ino, Node { generation, ..Node::new(kind) });
        self.enter(tree, parent, name, UpperEntry { ino, kind }, &dir)?;
        self.references.add(ino);
        // Files and new directories have on disk as many names as here.
        attr_of(ino, generation.unwrap_or_default(), &stat, u32::try_from(stat.st_nlink).unwrap_or(u32::MAX))
    }

    /// Enters a name that now is on disk, and takes its whiteout away.
    pub(super) fn enter(
        &self,
        tree: &mut Tree,
        parent: Ino,
        name: &[u8],
        entry: UpperEntry,
        dir: &OwnedFd,
    ) -> FsResult<()> {
        let hash = self.names.of(name);
        if let Some(homes) = &mut tree.homes {
            homes.add(entry.ino, entry.kind, parent);
        }
        tree.add_name(entry.ino, parent, name);
        // What is not in memory is read from disk later on.
        let had_whiteout = tree.listing_mut(parent).is_none_or(|listing| {
            listing.insert(hash, name, entry);
            listing.whiteouts.remove(name)
        });
        if had_whiteout {
            // The name counts more than a whiteout of it.
            let upper = self.upper()?;
            upper.clean_up(|| upper.remove_whiteout(dir.as_fd(), name));
        }
        Ok(())
    }

    /// What the lower layers have at a name, whatever the upper says of it.
    pub(super) fn lower_child(&self, tree: &Tree, parent: Ino, name: &[u8]) -> FsResult<Option<Kind>> {
        let lower = self.view(tree, parent)?.lower;
        Ok(lower.and_then(|lower| self.lowers.child(&lower, name)).map(|child| child.kind))
    }
}
