//! From a lower layer to the upper: metadata, data, directories, and files of several names.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use super::attr::drop_set_ids;
use super::change_time::disk_times;
use super::copy_data::copy_data;
use super::descriptors::Key;
use super::disk_dir::remove_tree;
use super::errno::{Errno, FsResult};
use super::lowers::LowerDir;
use super::tree::{Listing, Node, Orphan, Tree, UpperEntry};
use super::types::{Caller, Ino};
use super::upper::{Mark, Spot, Upper, origin_text, restoring_times};
use super::xattr::{CAPABILITY, optional};
use super::{Union, upper};
use crate::index::{Kind, Meta};
use crate::private_xattr;
use crate::sys::call;
use crate::whiteout::NAME_MAX;

/// What a copy-up has to bring along.
#[derive(Debug, Clone, Copy)]
enum Data {
    /// The data may stay below.
    Below,
    /// The data up to this length.
    UpTo(u64),
}

/// A copy in the work directory.
struct Prepared {
    /// Its data stayed below.
    metacopy: bool,
    /// Its data were written by this descriptor.
    written: Option<Arc<OwnedFd>>,
}

impl Union {
    /// Makes sure that an inode is in the upper; a file's data may stay below.
    pub(super) fn copy_up(&self, ino: Ino) -> FsResult<()> {
        self.copy_up_with(ino, Data::Below)
    }

    /// Makes sure that a file is in the upper with its data, and opens it.
    pub(super) fn writable(&self, ino: Ino) -> FsResult<Arc<OwnedFd>> {
        let has_data = self.tree.read().nodes.get(&ino).is_some_and(|node| !node.metacopy);
        if !has_data {
            self.copy_up_with(ino, Data::UpTo(u64::MAX))?;
        }
        self.written_data(ino)
    }

    /// The data of a file of the upper, to write to.
    fn written_data(&self, ino: Ino) -> FsResult<Arc<OwnedFd>> {
        let file = self.upper_data(&self.tree.read(), ino)?;
        self.descriptors.writes(ino);
        Ok(file)
    }

    /// Changes the length of a file. Data that would be cut off are not copied first.
    pub(super) fn truncate(&self, ino: Ino, size: u64, caller: Caller) -> FsResult<()> {
        self.copy_up_cut(ino, size)?;
        let file = self.written_data(ino)?;
        drop_set_ids(&Spot::Open(file.clone()), caller)?;
        Ok(call::ftruncate(file, size)?)
    }

    /// Makes sure that a file is in the upper with its data up to a length.
    pub(super) fn copy_up_cut(&self, ino: Ino, size: u64) -> FsResult<()> {
        self.copy_up_with(ino, Data::UpTo(size))
    }

    fn copy_up_with(&self, ino: Ino, data: Data) -> FsResult<()> {
        let upper = self.upper()?;
        if self.is_settled(ino, data) {
            return Ok(());
        }
        if let Some(dir) = self.lowers.dir(ino) {
            return self.copy_up_dir(&mut self.tree.write(), &dir);
        }
        let _lock = self.copying.lock(ino);
        self.copy_up_alone(upper, ino, data)
    }

    /// Makes sure that a file is in the upper with its data. Gives false if another thread is copying it up.
    ///
    /// # Errors
    /// As [`Union::write`].
    pub fn try_copy_up(&self, ino: Ino) -> FsResult<bool> {
        let upper = self.upper()?;
        let data = Data::UpTo(u64::MAX);
        if self.is_settled(ino, data) {
            return Ok(true);
        }
        match self.copying.try_lock(ino) {
            Some(_lock) => self.copy_up_alone(upper, ino, data).map(|()| true),
            None => Ok(false),
        }
    }

    fn is_settled(&self, ino: Ino, data: Data) -> bool {
        let tree = self.tree.read();
        tree.nodes.get(&ino).is_some_and(|node| !node.metacopy || matches!(data, Data::Below))
    }

    /// Copies a file that is no directory up, unless another thread has just done it. The caller holds its lock.
    fn copy_up_alone(&self, upper: &Upper, ino: Ino, data: Data) -> FsResult<()> {
        let known = match self.tree.read().nodes.get(&ino) {
            Some(node) if !node.metacopy || matches!(data, Data::Below) => return Ok(()),
            Some(_) => true,
            None => false,
        };
        if known {
            let Data::UpTo(limit) = data else { return Ok(()) };
            return self.fill(upper, ino, limit);
        }
        let temporary = upper.temporary();
        let prepared = self
            .prepare(upper, ino, &temporary, data)
            .and_then(|prepared| self.publish(&mut self.tree.write(), ino, &temporary, prepared));
        prepared.inspect_err(|_| upper.clean_up(|| remove_tree(upper.work()?.as_fd(), &temporary)))
    }

    /// Brings the data of a file up that has only its metadata in the upper. Until the mark goes, at the
    /// end, everybody reads the lower file.
    fn fill(&self, upper: &Upper, ino: Ino, limit: u64) -> FsResult<()> {
        // Never by its name: that may be another file's when the data are copied.
        let file = self.written_data(ino)?;
        let stat = call::fstat(&file)?;
        let shown = self.tree.read().ctimes.shown(ino, disk_times(&stat));
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let lower = self.lowers.open(ino, &self.descriptors)?;
        let spot = Spot::Open(file.clone());
        let capability = optional(&spot, CAPABILITY)?;
        let copied = copy_data(lower.as_fd(), file.as_fd(), size.min(limit))
            .and_then(|()| Ok(call::ftruncate(&file, size.min(limit))?))
            .and_then(|()| self.flush_copy(&file));
        if let Err(error) = copied {
            // The mark stays, so that these data are never read; but they would keep room on a full disk, and the times.
            let emptied =
                call::fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, size.max(1));
            emptied.or_else(|_| call::ftruncate(&file, 0).and_then(|()| call::ftruncate(&file, size)))?;
            call::futimens(&file, &upper::times_of(&stat))?;
            return Err(error);
        }
        // Nothing that the program did has changed the content yet: capabilities go only with that, and times
        // move only then.
        if let Some(capability) = capability {
            spot.set_xattr(CAPABILITY, &capability, XattrFlags::empty())?;
        }
        call::futimens(&file, &upper::times_of(&stat))?;
        upper.remove_mark(&spot, Mark::Metacopy)?;
        let mut tree = self.tree.write();
        if let Some(node) = tree.nodes.get_mut(&ino) {
            node.metacopy = false;
        }
        tree.ctimes.keep(ino, shown, disk_times(&call::fstat(&file)?));
        drop(tree);
        self.descriptors.remove(Key::LowerData(ino));
        Ok(())
    }

    /// A power cut may come between the copy's name and its data. What the lower file had must not be lost then, since no
    /// program has changed it: as overlayfs does (fs/overlayfs/copy_up.c, `ovl_copy_up_file`).
    fn flush_copy(&self, file: &OwnedFd) -> FsResult<()> {
        if self.flushes_copies { Ok(call::fdatasync(file)?) } else { Ok(()) }
    }

    /// Makes the copy in the work directory.
    fn prepare(&self, upper: &Upper, ino: Ino, temporary: &[u8], data: Data) -> FsResult<Prepared> {
        let node = self.lowers.node(ino).ok_or(Errno::ESTALE)?;
        let meta = node.meta().ok_or(Errno::EIO)?;
        let work = upper.work()?.as_fd();
        let (mut metacopy, mut written) = (false, None);
        match meta.kind {
            Kind::File => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOATIME;
                let file = call::openat(work, temporary, flags, Mode::RUSR | Mode::WUSR)?;
                metacopy = meta.size > 0 && matches!(data, Data::Below) && self.metacopy;
                let length = match data {
                    Data::UpTo(limit) => meta.size.min(limit),
                    Data::Below => meta.size,
                };
                if !metacopy && length > 0 {
                    let lower = self.lowers.open(ino, &self.descriptors)?;
                    copy_data(lower.as_fd(), file.as_fd(), length)?;
                }
                call::ftruncate(&file, length)?;
                if !metacopy && length > 0 {
                    self.flush_copy(&file)?;
                }
                written = Some(Arc::new(file)).filter(|_| !metacopy);
            }
            Kind::Symlink => call::symlinkat(node.target(), work, temporary)?,
            Kind::Directory => return Err(Errno::EISDIR),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Socket => {
                make_node(work, temporary, &meta)?;
            }
        }
        let spot = named(upper.work()?, temporary)?;
        describe(&spot, &meta, node.xattrs())?;
        if metacopy {
            upper.set_mark(&spot, Mark::Metacopy, b"y")?;
        }
        self.set_origin(upper, &spot, ino)?;
        Ok(Prepared { metacopy, written })
    }

    /// Marks an upper inode as the copy of a lower one, where marks can be kept.
    pub(super) fn set_origin(&self, upper: &Upper, spot: &Spot, ino: Ino) -> FsResult<()> {
        if !upper.has_marks() {
            return Ok(());
        }
        let place = match self.lowers.dir(ino) {
            Some(dir) => dir.nearest(),
            None => self.lowers.place(ino),
        };
        let place = place.ok_or(Errno::ESTALE)?;
        let key = self.lowers.key(place.layer).ok_or(Errno::ESTALE)?;
        let text = origin_text(place.layer, key, place.node);
        match upper.set_mark(spot, Mark::Origin, &text) {
            // Symbolic links and devices cannot carry the user's attributes: they get a new number.
            Err(Errno::EPERM) => Ok(()),
            done => done,
        }
    }

    /// Gives the finished copy all names that the file still has.
    fn publish(&self, tree: &mut Tree, ino: Ino, temporary: &[u8], prepared: Prepared) -> FsResult<()> {
        let upper = self.upper()?;
        let kind = self.lowers.node(ino).and_then(|node| node.kind()).ok_or(Errno::EIO)?;
        let names = self.union_names(tree, ino)?;
        if tree.nodes.contains_key(&ino) {
            // One of the names is a copy already, with what was written since: never may another take its place.
            return Err(Errno::ESTALE);
        }
        for (parent, _) in &names {
            self.copy_up_parent(tree, *parent)?;
        }
        let mut node = Node::new(kind);
        node.metacopy = prepared.metacopy;
        let mut restored = Ok(());
        match names.as_slice() {
            [] => {
                let spot = named(upper.work()?, temporary)?;
                let flags = if kind == Kind::File { OFlags::RDWR } else { OFlags::PATH };
                let file = spot.open(flags | OFlags::NONBLOCK)?;
                call::unlinkat(upper.work()?, temporary, AtFlags::empty())?;
                node.orphan = Some(Orphan::Open(Arc::new(file)));
                tree.open_orphans += 1;
            }
            [(parent, name)] => {
                let dir = self.upper_dir(tree, *parent)?;
                self.mark_impure(tree, *parent)?;
                let rename = || Ok(call::renameat(upper.work()?, temporary, &dir, &**name)?);
                (_, restored) = Self::unseen(tree, *parent, dir.as_fd(), || restoring_times(dir.as_fd(), rename))?;
            }
            _ => self.name_group(tree, ino, temporary, &names)?,
        }
        tree.nodes.insert(ino, node);
        for (parent, name) in &names {
            let hash = self.names.of(name);
            // What is not in memory is read from disk later on.
            if let Some(listing) = tree.listing_mut(*parent) {
                listing.insert(hash, name, UpperEntry { ino, kind });
            }
            if let Some(homes) = &mut tree.homes {
                homes.add(ino, kind, *parent);
            }
            tree.add_name(ino, *parent, name);
        }
        tree.links.remove(&ino);
        // The descriptor that has written the data is told what goes wrong with them later.
        if let Some(file) = prepared.written {
            self.descriptors.put(Key::UpperData(ino), file);
            self.descriptors.writes(ino);
        }
        restored.and(self.keep_copied_time(tree, ino))
    }

    /// Goes on to show the change time of a lower inode, which now has a copy.
    fn keep_copied_time(&self, tree: &mut Tree, ino: Ino) -> FsResult<()> {
        let meta = self.lowers.node(ino).and_then(|node| node.meta()).ok_or(Errno::EIO)?;
        let stat = self.spot(tree, ino)?.stat()?;
        tree.ctimes.keep(ino, self.held(meta.mtime), disk_times(&stat));
        Ok(())
    }

    /// Says on disk that some entry of a directory has an origin.
    pub(super) fn mark_impure(&self, tree: &mut Tree, dir: Ino) -> FsResult<()> {
        let upper = self.upper()?;
        if !upper.has_marks() || self.load(tree, dir)?.impure {
            return Ok(());
        }
        let open = self.upper_dir(tree, dir)?;
        let spot = Spot::Open(open.clone());
        Self::unseen(tree, dir, open.as_fd(), || upper.set_mark(&spot, Mark::Impure, b"y"))?;
        self.load(tree, dir)?.impure = true;
        Ok(())
    }

    /// The names under which the union shows a lower file, each with its directory.
    pub(super) fn union_names(&self, tree: &mut Tree, ino: Ino) -> FsResult<Vec<(Ino, Vec<u8>)>> {
        let mut names = Vec::new();
        for (dir, name) in self.lowers.visible_names(ino) {
            if self.is_alive(tree, &dir)? && self.find(tree, dir.ino, &name)?.is_some_and(|found| found.ino == ino) {
                names.push((dir.ino, name));
            }
        }
        Ok(names)
    }

    /// Whether a lower directory is still somewhere in the union; if the upper has it too, it is known
    /// afterwards.
    pub(super) fn is_alive(&self, tree: &mut Tree, dir: &Arc<LowerDir>) -> FsResult<bool> {
        let mut below = Vec::new();
        let mut at = dir.clone();
        loop {
            if tree.gone.contains(&at.ino) {
                return Ok(false);
            }
            if tree.nodes.contains_key(&at.ino) || at.ino == Ino::ROOT {
                break;
            }
            let parent = self.lowers.dir(at.parent).ok_or(Errno::EIO)?;
            below.push(at);
            at = parent;
        }
        while let Some(child) = below.pop() {
            if !tree.nodes.contains_key(&at.ino) {
                // Nothing in or below an untouched directory is changed.
                return Ok(true);
            }
            if self.find(tree, at.ino, &child.name)?.is_none_or(|found| found.ino != child.ino) {
                return Ok(false);
            }
            at = child;
        }
        Ok(true)
    }

    /// Makes sure that a directory is in the upper, for something to be made or marked in it.
    pub(super) fn copy_up_parent(&self, tree: &mut Tree, ino: Ino) -> FsResult<()> {
        self.upper()?;
        self.undo_unfinished(tree)?;
        if self.view(tree, ino)?.upper {
            return Ok(());
        }
        let dir = self.lowers.dir(ino).ok_or(Errno::ESTALE)?;
        self.copy_up_dir(tree, &dir)
    }

    /// Makes sure that a lower directory and all that it is in are in the upper.
    fn copy_up_dir(&self, tree: &mut Tree, dir: &Arc<LowerDir>) -> FsResult<()> {
        if !self.is_alive(tree, dir)? {
            return Err(Errno::ENOENT);
        }
        let mut missing = Vec::new();
        let mut at = dir.clone();
        while !tree.nodes.contains_key(&at.ino) {
            let parent = self.lowers.dir(at.parent).ok_or(Errno::EIO)?;
            missing.push(at);
            at = parent;
        }
        while let Some(dir) = missing.pop() {
            self.copy_one_dir(tree, &dir)?;
        }
        Ok(())
    }

    fn copy_one_dir(&self, tree: &mut Tree, dir: &Arc<LowerDir>) -> FsResult<()> {
        let upper = self.upper()?;
        let node = self.lowers.node(dir.ino).ok_or(Errno::ESTALE)?;
        let meta = node.meta().ok_or(Errno::EIO)?;
        let parent = self.upper_dir(tree, dir.parent)?;
        let temporary = upper.temporary();
        call::mkdirat(upper.work()?, &*temporary, Mode::RWXU)?;
        let placed = named(upper.work()?, &temporary).and_then(|spot| {
            describe(&spot, &meta, node.xattrs())?;
            let rename = || Ok(call::renameat(upper.work()?, &*temporary, &parent, &*dir.name)?);
            Self::unseen(tree, dir.parent, parent.as_fd(), || restoring_times(parent.as_fd(), rename))
        });
        let ((), restored) =
            placed.inspect_err(|_| upper.clean_up(|| remove_tree(upper.work()?.as_fd(), &temporary)))?;
        let made = Node { lower: Some(dir.clone()), ..Node::new(Kind::Directory) };
        tree.nodes.insert(dir.ino, made);
        tree.add_name(dir.ino, dir.parent, &dir.name);
        tree.put_listing(dir.ino, Listing::empty(false));
        let hash = self.names.of(&dir.name);
        let entry = UpperEntry { ino: dir.ino, kind: Kind::Directory };
        // The number of subdirectories is what it was: the lower one is now also an upper one.
        if let Some(listing) = tree.listing_mut(dir.parent) {
            let nlink = listing.nlink;
            listing.insert(hash, &dir.name, entry);
            listing.nlink = nlink;
        }
        restored.and(self.keep_copied_time(tree, dir.ino))
    }
}

/// A file in a private directory, by its name.
pub(super) fn named(dir: &OwnedFd, name: &[u8]) -> FsResult<Spot> {
    Ok(Spot::Named(Arc::new(dir.try_clone()?), name.into()))
}

/// Makes a device, fifo or socket.
pub(super) fn make_node(dir: BorrowedFd<'_>, name: &[u8], meta: &Meta) -> FsResult<()> {
    let file_type = FileType::from_raw_mode(meta.kind.mode_bits());
    let device = rustix::fs::makedev(meta.rdev.0, meta.rdev.1);
    Ok(call::mknodat(dir, name, file_type, Mode::from_raw_mode(meta.mode & 0o777), device)?)
}

/// Gives a copy the owner, mode, attributes and times of the original, in the order in which none
/// undoes another: a change of owner clears suid and capabilities, and everything moves times.
pub(super) fn describe<'a>(
    spot: &Spot,
    meta: &Meta,
    xattrs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> FsResult<()> {
    spot.chown(Some(meta.uid), Some(meta.gid))?;
    for (name, value) in xattrs {
        let on_disk = private_xattr::escape(name);
        match spot.set_xattr(&on_disk, value, XattrFlags::empty()) {
            // A file system without attributes of this kind cannot keep them.
            Ok(()) | Err(Errno::ENOTSUP) => {}
            // Links and devices can have none of users' (xattr(7)), though a tar may give them some.
            Err(Errno::EPERM) if !matches!(meta.kind, Kind::File | Kind::Directory) => {}
            // Nor can any keep a name that is too long with what was put before it.
            Err(Errno::ERANGE) if on_disk.len() > NAME_MAX => {}
            Err(error) => return Err(error),
        }
    }
    if meta.kind != Kind::Symlink {
        spot.chmod(meta.mode)?;
    }
    let time = Timespec { tv_sec: meta.mtime.sec, tv_nsec: meta.mtime.nsec.into() };
    spot.set_times(&Timestamps { last_access: time, last_modification: time })
}
