//! What is in files: reading, writing, holes.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, XattrFlags};
use rustix::io::ReadWriteFlags;

use super::Union;
use super::attr::{clear_set_ids, drop_set_ids};
use super::change_time::disk_times;
use super::errno::{Errno, FsResult};
use super::outdated::Outdated;
use super::types::{Caller, Ino, Times};
use super::upper::{Spot, times_of, write_all};
use super::xattr::{CAPABILITY, optional};
use crate::index::Kind;
use crate::sys::call;

impl Union {
    /// Fills `buffer` from `offset` on, and says how much that was: less only at the end of the file.
    ///
    /// # Errors
    /// `ESTALE` for a number that is no file's; what reading the layer gives.
    pub fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> FsResult<usize> {
        let (file, limit) = self.readable(ino)?;
        let wanted = match limit {
            Some(size) => usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len()),
            None => buffer.len(),
        };
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..wanted).filter(|rest| !rest.is_empty()) {
            let at = offset.checked_add(done as u64).ok_or(Errno::EINVAL)?;
            match call::pread(&file, rest, at)? {
                // The file in the layer is shorter than the layer's index says.
                0 if limit.is_some() => return Err(Errno::EIO),
                0 => break,
                read => done += read,
            }
        }
        Ok(done)
    }

    /// As [`Union::read`], but only from memory: `None` when the disk would have to be waited for.
    ///
    /// # Errors
    /// As [`Union::read`].
    pub fn read_cached(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> FsResult<Option<usize>> {
        let (file, limit) = self.readable(ino)?;
        let left = limit.map_or(u64::MAX, |size| size.saturating_sub(offset));
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let slice = std::io::IoSliceMut::new(buffer.get_mut(..wanted).unwrap_or_default());
        match call::preadv2(&file, &mut [slice], offset, ReadWriteFlags::NOWAIT) {
            // Without a limit the file may end there, or what is in memory of it.
            Ok(read) => Ok(Some(read).filter(|read| *read == wanted)),
            // error: `Union::read` does the same and tells what goes wrong.
            Err(_) => Ok(None),
        }
    }

    /// The descriptor that has a file's data now, and where they end if that is not its own end.
    fn readable(&self, ino: Ino) -> FsResult<(Arc<OwnedFd>, Option<u64>)> {
        let tree = self.tree.read();
        match tree.nodes.get(&ino) {
            Some(node) if node.metacopy => {
                let size = u64::try_from(self.spot(&tree, ino)?.stat()?.st_size).unwrap_or_default();
                Ok((self.lowers.open(ino, &self.descriptors)?, Some(size)))
            }
            Some(_) => Ok((self.upper_data(&tree, ino)?, None)),
            None => {
                let node = self.lowers.node(ino).ok_or(Errno::ESTALE)?;
                let meta = node.meta().filter(|meta| meta.kind == Kind::File).ok_or(Errno::EINVAL)?;
                drop(tree);
                Ok((self.lowers.open(ino, &self.descriptors)?, Some(meta.size)))
            }
        }
    }

    /// The file that has an inode's data from now on, whatever is done to the inode; `None` while a copy-up may still
    /// move them. One that is to be `written` is copied up for it.
    ///
    /// # Errors
    /// As [`Union::write`], for one that is to be written; `EINVAL` for what is no file.
    pub fn lasting_data(&self, ino: Ino, written: bool) -> FsResult<Option<Arc<OwnedFd>>> {
        if written {
            return self.writable(ino).map(Some);
        }
        let is_settled = self.tree.read().nodes.get(&ino).map_or(self.upper.is_none(), |node| !node.metacopy);
        if is_settled { self.readable(ino).map(|(file, _)| Some(file)) } else { Ok(None) }
    }

    /// As [`Union::lasting_data`], of a file that is cut off: last, when nothing else can fail.
    ///
    /// # Errors
    /// As [`Union::setattr`].
    pub fn emptied_data(&self, ino: Ino, caller: Caller) -> Outdated<FsResult<Arc<OwnedFd>>> {
        let empty = || {
            self.copy_up_cut(ino, 0)?;
            let file = self.writable(ino)?;
            drop_set_ids(&Spot::Open(file.clone()), caller)?;
            call::ftruncate(&file, 0)?;
            Ok(file)
        };
        Outdated::new(ino, empty(), true)
    }

    /// Opens a file to change its content. `drop` takes suid and sgid away first: content that another user wrote is never in a
    /// file that has them.
    fn change(
        &self,
        ino: Ino,
        times: Times,
        drop: impl FnOnce(&Spot) -> FsResult<bool>,
        change: impl FnOnce(&Arc<OwnedFd>) -> FsResult<u64>,
    ) -> Outdated<FsResult<u64>> {
        let mut dropped = false;
        let changed = self.writable(ino).and_then(|file| {
            dropped = drop(&Spot::Open(file.clone()))?;
            match times {
                Times::Move => {
                    self.tree.write().ctimes.moved(ino);
                    change(&file)
                }
                Times::Stay => self.keeping_times(ino, &file, || change(&file)),
            }
        });
        Outdated::new(ino, changed, dropped)
    }

    /// Changes a file's content, and gives it back the times that it had: those of the disk, and that of change as it is shown.
    fn keeping_times<T>(&self, ino: Ino, file: &OwnedFd, change: impl FnOnce() -> FsResult<T>) -> FsResult<T> {
        // A `setattr` that comes meanwhile is not to be undone.
        let _alone = self.copying.lock(ino);
        let stat = call::fstat(file)?;
        let changed = change();
        call::futimens(file, &times_of(&stat))?;
        let before = disk_times(&stat);
        let (is_told, shown) = {
            let ctimes = &self.tree.read().ctimes;
            (ctimes.is_told(ino), ctimes.shown(ino, before))
        };
        if !is_told {
            let after = disk_times(&call::fstat(file)?);
            self.tree.write().ctimes.keep(ino, shown, after);
        }
        changed
    }

    /// Writes all of `data` at `offset`. The file loses suid and sgid when `kills` says for which caller
    /// (`FUSE_WRITE_KILL_SUIDGID`); file capabilities go with every write.
    ///
    /// # Errors
    /// `EROFS` without an upper, `ENOSPC`, `EFBIG`.
    pub fn write(
        &self,
        ino: Ino,
        offset: u64,
        data: &[u8],
        kills: Option<Caller>,
        times: Times,
    ) -> Outdated<FsResult<u64>> {
        let drop = |spot: &Spot| kills.map_or(Ok(false), |caller| clear_set_ids(spot, caller));
        self.change(ino, times, drop, |file| {
            let done = write_all(file.as_fd(), offset, data);
            // Once more: another thread may have flushed the file before there was anything to flush.
            self.descriptors.writes(ino);
            done.map(|()| data.len() as u64)
        })
    }

    /// Writes all of `data`, which the kernel has had since earlier (`FUSE_WRITE_CACHE`). It took the privileges
    /// away when the program wrote; those that the file has now were given afterwards, and stay. So do the times: see
    /// [`Times::Stay`].
    ///
    /// # Errors
    /// As [`Union::write`].
    pub fn write_gathered(&self, ino: Ino, offset: u64, data: &[u8]) -> Outdated<FsResult<u64>> {
        let nothing = |_: &Spot| Ok(false);
        self.change(ino, Times::Stay, nothing, |file| {
            let spot = Spot::Open(file.clone());
            let capability = optional(&spot, CAPABILITY)?;
            let done = write_all(file.as_fd(), offset, data);
            self.descriptors.writes(ino);
            if let Some(capability) = capability {
                spot.set_xattr(CAPABILITY, &capability, XattrFlags::empty())?;
            }
            done.map(|()| data.len() as u64)
        })
    }

    /// Allocates or frees a part of a file; `mode` has the `FALLOC_FL_*` bits of `fallocate(2)`. As a write, it takes suid
    /// and sgid away, unless the caller has `CAP_FSETID`.
    ///
    /// # Errors
    /// As `fallocate(2)`: `EOPNOTSUPP` for a mode that the upper's file system does not know.
    pub fn fallocate(
        &self,
        ino: Ino,
        offset: u64,
        length: u64,
        mode: i32,
        caller: Caller,
        times: Times,
    ) -> Outdated<FsResult<u64>> {
        let Some(flags) = u32::try_from(mode).ok().and_then(FallocateFlags::from_bits) else {
            return Outdated::new(ino, Err(Errno::ENOTSUP), false);
        };
        let drop = |spot: &Spot| drop_set_ids(spot, caller);
        self.change(ino, times, drop, |file| Ok(call::fallocate(file, flags, offset, length).map(|()| 0)?))
    }

    /// The next data (`SEEK_DATA`) or hole (`SEEK_HOLE`) at or after `offset`.
    ///
    /// # Errors
    /// `ENXIO` past the end, `EINVAL` for another `whence`.
    pub fn lseek(&self, ino: Ino, offset: i64, whence: i32) -> FsResult<u64> {
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let (file, _) = self.readable(ino)?;
        let seek = match whence {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::EINVAL),
        };
        // An own descriptor: all threads move the position of a shared one.
        let own = Spot::Open(file).open(OFlags::RDONLY | OFlags::NONBLOCK)?;
        Ok(call::seek(own, seek)?)
    }

    /// Copies within the union, as a clone where the file system can. It may copy less than `length`. As a write,
    /// it takes suid and sgid away, unless the caller has `CAP_FSETID`.
    ///
    /// # Errors
    /// As `copy_file_range(2)`.
    pub fn copy_file_range(
        &self,
        from: (Ino, u64),
        to: (Ino, u64),
        length: u64,
        caller: Caller,
        times: Times,
    ) -> Outdated<FsResult<u64>> {
        // Where there is nothing to be copied, nothing is written.
        let drop = |spot: &Spot| {
            let (source, limit) = self.readable(from.0)?;
            let size = match limit {
                Some(size) => size,
                None => u64::try_from(call::fstat(&source)?.st_size).unwrap_or_default(),
            };
            if length == 0 || size <= from.1 { Ok(false) } else { drop_set_ids(spot, caller) }
        };
        self.change(to.0, times, drop, |target| {
            let (source, limit) = self.readable(from.0)?;
            let length = limit.map_or(length, |size| length.min(size.saturating_sub(from.1)));
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30);
            let (mut at, mut to_at) = (from.1, to.1);
            let copied = call::copy_file_range(&source, &mut at, target, &mut to_at, length)?;
            Ok(copied as u64)
        })
    }
}
