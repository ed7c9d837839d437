//! What is in files: opening, reading, writing, and where data are.

use std::cell::RefCell;

use fuser::{FileHandle, FopenFlags, ReplyData, ReplyOpen, ReplyWrite, WriteFlags};

use super::filesystem::Filesystem;
use super::passthrough::Purpose;
use super::replies::written;
use super::seek::Seek;
use super::value::reply as errno;
use crate::union::{Caller, Errno, FsResult, Ino, Times, Union};

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Filesystem {
    pub(super) fn open_file(&self, ino: Ino, flags: i32, caller: Caller, reply: ReplyOpen) {
        if let Some(open_files) = &self.open_files {
            let empties = (flags & libc::O_TRUNC != 0).then_some(caller);
            let purpose = Purpose { empties, ..Purpose::of(flags) };
            let _pass = (purpose.writes || empties.is_some()).then(|| self.freeze.begin_change());
            let copied_up = (purpose.writes && empties.is_none()).then(|| self.union.try_copy_up(ino));
            match copied_up {
                Some(Err(error)) => reply.error(errno(error)),
                Some(Ok(false)) => {
                    let (open_files, invalidation) = (open_files.clone(), self.invalidation.clone());
                    self.deferred
                        .put(&self.union, move |union| open_files.open(union, &invalidation, ino, purpose, reply));
                }
                _ => open_files.open(&self.union, &self.invalidation, ino, purpose, reply),
            }
        } else if self.negotiated.no_open {
            reply.error(errno(Errno::ENOSYS));
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    pub(super) fn read_file(&self, ino: Ino, offset: u64, size: usize, reply: ReplyData) {
        READ_BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let wanted = buffer.get_mut(..size).unwrap_or_default();
            let read = if offset == 0 { self.read_begin(ino, wanted) } else { self.union.read(ino, offset, wanted) };
            match read {
                Ok(length) => reply.data(wanted.get(..length).unwrap_or_default()),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    /// Reads the beginning of a file.
    fn read_begin(&self, ino: Ino, buffer: &mut [u8]) -> FsResult<usize> {
        let cached = self.union.read_cached(ino, 0, buffer)?;
        self.read_ahead.reads(&self.union, ino, cached.is_none());
        cached.map_or_else(|| self.union.read(ino, 0, buffer), Ok)
    }

    pub(super) fn write_file(
        &self,
        ino: Ino,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        caller: Caller,
        reply: ReplyWrite,
    ) {
        let gathered = flags.contains(WriteFlags::FUSE_WRITE_CACHE) && self.negotiated.writeback;
        let kills = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID).then_some(caller);
        let (invalidation, times) = (self.invalidation.clone(), self.times());
        let (losses, room) = (self.losses.clone(), self.room.clone());
        if gathered && let Some(room) = &room {
            room.spend(data.len() as u64);
        }
        let write = move |union: &Union, data: &[u8]| {
            let done = match gathered {
                true => union.write_gathered(ino, offset, data),
                false => union.write(ino, offset, data, kills, times),
            };
            let written = done.tell(|ino| invalidation.outdate(ino));
            if gathered && let Err(error) = &written {
                // The program has been told that it is written.
                Self::lose(&losses, room.as_ref(), union, ino, *error);
            }
            written
        };
        match self.union.try_copy_up(ino) {
            Ok(true) => written(write(&self.union, data), reply),
            Ok(false) => {
                let data = data.to_vec();
                self.deferred.put(&self.union, move |union: &Union| written(write(union, &data), reply));
            }
            Err(error) => {
                if gathered {
                    Self::lose(&self.losses, self.room.as_ref(), &self.union, ino, error);
                }
                reply.error(errno(error));
            }
        }
    }

    /// Whether changes of content move times: not where the kernel has them.
    pub(super) const fn times(&self) -> Times {
        if self.negotiated.writeback { Times::Stay } else { Times::Move }
    }

    pub(super) fn seek(&self, seek: Seek) {
        if !self.negotiated.writeback || seek.doubt(&self.union).is_none() {
            return seek.answer(&self.union);
        }
        // Without its thread the mount is about to end.
        if let Err(unsent) = self.seeks.send(seek) {
            unsent.0.answer(&self.union);
        }
    }
}
