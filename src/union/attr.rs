//! What `stat` shows, and what changes it.

use rustix::fs::{Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::Union;
use super::change_time::disk_times;
use super::disk_dir::kind_of_stat;
use super::errno::{Errno, FsResult};
use super::lowers;
use super::outdated::Outdated;
use super::tree::{Orphan, Tree};
use super::types::{Attr, Caller, Ino, SetAttr, SetTime, Statfs};
use super::upper::Spot;
use crate::index::{Kind, Meta, Time};
use crate::sys::call;
use crate::whiteout;

impl Union {
    /// What `stat` shows of an inode.
    ///
    /// # Errors
    /// `ESTALE` for a number that is no inode's.
    pub fn getattr(&self, ino: Ino) -> FsResult<Attr> {
        if let Some(attr) = self.attr_known(&self.tree.read(), ino)? {
            return Ok(attr);
        }
        self.attr(&mut self.tree.write(), ino)
    }

    /// As [`Union::attr`], but `None` when something would have to be counted or read for it.
    pub(super) fn attr_known(&self, tree: &Tree, ino: Ino) -> FsResult<Option<Attr>> {
        let Some(node) = tree.nodes.get(&ino) else { return self.lower_attr(tree, ino) };
        let stat = self.spot(tree, ino)?.stat()?;
        let nameless = node.names.is_empty() && ino != Ino::ROOT;
        let nlink = match (node.kind, &node.lower, &node.orphan) {
            (Kind::Directory, _, _) if nameless => 0,
            (Kind::Directory, None, _) => u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            (Kind::Directory, Some(_), _) => match tree.listing(ino).and_then(|listing| listing.nlink) {
                Some(nlink) => nlink,
                None => return Ok(None),
            },
            (_, _, Some(Orphan::Parked)) => u32::try_from(stat.st_nlink).unwrap_or(u32::MAX).saturating_sub(1),
            _ => u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        };
        let generation = self.lowers.generation(ino).or(node.generation).unwrap_or_default();
        let mut attr = attr_of(ino, generation, &stat, nlink)?;
        attr.ctime = tree.ctimes.shown(ino, (attr.ctime, attr.mtime));
        if node.metacopy {
            let meta = self.lowers.node(ino).and_then(|node| node.meta()).ok_or(Errno::EIO)?;
            attr.blocks = meta.blocks;
        }
        Ok(Some(attr))
    }

    pub(super) fn attr(&self, tree: &mut Tree, ino: Ino) -> FsResult<Attr> {
        if let Some(attr) = self.attr_known(tree, ino)? {
            return Ok(attr);
        }
        if tree.nodes.contains_key(&ino) {
            let nlink = self.count_subdirectories(tree, ino)?.saturating_add(2);
            self.load(tree, ino)?.nlink = Some(nlink);
        } else {
            let names = self.union_names(tree, ino)?.len();
            tree.links.insert(ino, u32::try_from(names).unwrap_or(u32::MAX));
        }
        self.attr_known(tree, ino)?.ok_or(Errno::EIO)
    }

    fn lower_attr(&self, tree: &Tree, ino: Ino) -> FsResult<Option<Attr>> {
        let node = self.lowers.node(ino);
        let meta = match &node {
            Some(node) => {
                let meta = node.meta().ok_or(Errno::EIO)?;
                Meta { blocks: self.lowers.blocks_elsewhere(ino).unwrap_or(meta.blocks), ..meta }
            }
            None if ino == Ino::ROOT => lowers::undescribed(),
            None => return Err(Errno::ESTALE),
        };
        let meta = Meta { mtime: self.held(meta.mtime), ..meta };
        let nlink = match &node {
            _ if tree.gone.contains(&ino) => 0,
            _ if meta.kind == Kind::Directory => {
                let dir = self.lowers.dir(ino).ok_or(Errno::ESTALE)?;
                self.lowers.subdirectories(&dir).saturating_add(2)
            }
            Some(node) if node.nlink() > 1 => match tree.links.get(&ino) {
                Some(links) => *links,
                None => return Ok(None),
            },
            _ => 1,
        };
        let generation = self.lowers.generation(ino).unwrap_or_default();
        Ok(Some(attr_of_meta(ino, generation, &meta, nlink)))
    }

    /// A lower file's time as its copy would have it: what the file system of the upper cannot hold is never shown.
    pub(super) fn held(&self, time: Time) -> Time {
        self.upper.as_ref().map_or(time, |upper| upper.times.held(time))
    }

    fn count_subdirectories(&self, tree: &mut Tree, ino: Ino) -> FsResult<u32> {
        let lower = self.view(tree, ino)?.lower;
        let listing = self.load(tree, ino)?;
        let mut count = listing.iter().filter(|(_, entry)| entry.kind == Kind::Directory).count();
        if let Some(lower) = lower {
            self.lowers.for_each_child(&lower, 0, &mut |_, name, child| {
                let hidden = listing.whiteouts.contains(name) || listing.get(self.names.of(name), name).is_some();
                count += usize::from(child.kind == Kind::Directory && !hidden);
                Ok(true)
            })?;
        }
        Ok(u32::try_from(count).unwrap_or(u32::MAX - 2))
    }

    /// Changes attributes, and says what they are then.
    ///
    /// A change of the length by a caller without `CAP_FSETID` takes suid and sgid away, as does a change of
    /// the owner; both take file capabilities away (`HANDLE_KILLPRIV_V2` leaves that to the file system).
    ///
    /// # Errors
    /// `EROFS` without an upper, `ENOSPC` and the like when the upper cannot take the copy.
    pub fn setattr(&self, ino: Ino, set: &SetAttr, caller: Caller) -> Outdated<FsResult<Attr>> {
        Outdated::new(ino, self.set_attributes(ino, set, caller), false)
    }

    fn set_attributes(&self, ino: Ino, set: &SetAttr, caller: Caller) -> FsResult<Attr> {
        if let Some(size) = set.size {
            self.truncate(ino, size, caller)?;
        } else {
            self.copy_up(ino)?;
        }
        // A thread that copies data up, or writes late, restores the times and capabilities that were there before.
        let alone = set.uid.is_some() || set.gid.is_some() || set.atime.is_some() || set.mtime.is_some();
        let _alone = alone.then(|| self.copying.lock(ino));
        // No name may go elsewhere before all is done: a directory is changed by its name.
        let tree = self.tree.read();
        let (spot, kind) = (self.spot(&tree, ino)?, tree.nodes.get(&ino).ok_or(Errno::ESTALE)?.kind);
        if set.uid.is_some() || set.gid.is_some() {
            spot.chown(set.uid, set.gid)?;
        }
        match set.mode {
            Some(_) if kind == Kind::Symlink => return Err(Errno::ENOTSUP),
            Some(mode) => spot.chmod(mode)?,
            None => {}
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let times = Timestamps { last_access: timespec(set.atime), last_modification: timespec(set.mtime) };
            spot.set_times(&times)?;
        }
        drop(tree);
        let mut tree = self.tree.write();
        if let Some(node) = tree.nodes.get_mut(&ino) {
            node.inherits = None;
        }
        match set.ctime {
            Some(ctime) => tree.ctimes.told(ino, ctime),
            None => tree.ctimes.moved(ino),
        }
        self.attr(&mut tree, ino)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` for anything else.
    pub fn readlink(&self, ino: Ino) -> FsResult<Vec<u8>> {
        let tree = self.tree.read();
        if !tree.nodes.contains_key(&ino) {
            let node = self.lowers.node(ino).ok_or(Errno::ESTALE)?;
            return if node.kind() == Some(Kind::Symlink) { Ok(node.target().to_vec()) } else { Err(Errno::EINVAL) };
        }
        let target = match self.spot(&tree, ino)? {
            Spot::Named(dir, name) => call::readlinkat(dir, &*name)?,
            Spot::Open(link) => call::readlinkat(link, "")?,
        };
        Ok(target.into_bytes())
    }

    /// What `statfs` shows: the upper's file system, or the nearest layer's.
    ///
    /// # Errors
    /// As `statvfs(3)`.
    pub fn statfs(&self) -> FsResult<Statfs> {
        let stat = match (&self.upper, self.lowers.any_dir()) {
            (Some(upper), _) => call::fstatvfs(&upper.root)?,
            (None, Some(dir)) => call::statvfs(dir)?,
            (None, None) => return Err(Errno::ENOSYS),
        };
        Ok(Statfs {
            blocks: stat.f_blocks,
            bfree: stat.f_bfree,
            bavail: stat.f_bavail,
            files: stat.f_files,
            ffree: stat.f_ffree,
            bsize: u32::try_from(stat.f_bsize).unwrap_or(4096),
            namelen: u32::try_from(whiteout::NAME_MAX).unwrap_or(255),
            frsize: u32::try_from(stat.f_frsize).unwrap_or(4096),
        })
    }
}

/// Takes suid and sgid away, unless the caller may keep them, and says whether there were any to go.
pub(super) fn drop_set_ids(spot: &Spot, caller: Caller) -> FsResult<bool> {
    let has_any = spot.stat()?.st_mode & 0o6000 != 0;
    if has_any && !caller.keeps_set_ids() { clear_set_ids(spot, caller) } else { Ok(false) }
}

/// Takes suid away, and sgid from a file that its group may execute or whose group the caller is not in
/// (`setattr_should_drop_suidgid`, fs/attr.c), and says whether there were any to go.
pub(super) fn clear_set_ids(spot: &Spot, caller: Caller) -> FsResult<bool> {
    let stat = spot.stat()?;
    let before = stat.st_mode & 0o7777;
    if kind_of_stat(&stat)? != Kind::File || before & 0o6000 == 0 {
        return Ok(false);
    }
    let mut mode = before & !0o4000;
    if mode & 0o010 != 0 || mode & 0o2000 != 0 && !caller.keeps_set_group_id(stat.st_gid) {
        mode &= !0o2000;
    }
    if mode != before {
        spot.chmod(mode)?;
    }
    Ok(mode != before)
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(time)) => Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() },
    }
}

/// What an upper file's `stat` says, under the number it has in the union.
#[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
pub(super) fn attr_of(ino: Ino, generation: u32, stat: &Stat, nlink: u32) -> FsResult<Attr> {
    let time = |sec: i64, nsec: u64| Time { sec, nsec: u32::try_from(nsec).unwrap_or_default() };
    let (ctime, mtime) = disk_times(stat);
    Ok(Attr {
        ino,
        generation,
        kind: kind_of_stat(stat)?,
        mode: stat.st_mode & 0o7777,
        nlink,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        blocks: u64::try_from(stat.st_blocks).unwrap_or_default(),
        atime: time(stat.st_atime.into(), stat.st_atime_nsec.into()),
        mtime,
        ctime,
    })
}

/// What a lower inode shows: a tar keeps one time, and so all three are that.
fn attr_of_meta(ino: Ino, generation: u32, meta: &Meta, nlink: u32) -> Attr {
    Attr {
        ino,
        generation,
        kind: meta.kind,
        mode: meta.mode,
        nlink,
        uid: meta.uid,
        gid: meta.gid,
        rdev: meta.rdev,
        size: if meta.kind == Kind::Directory { 4096 } else { meta.size },
        blocks: meta.blocks,
        atime: meta.mtime,
        mtime: meta.mtime,
        ctime: meta.mtime,
    }
}
