//! By which way the data of open files go, where `open` is answered: with [`Io::Passthrough`](super::Io).
//!
//! The kernel reads and writes a file itself once it has the file of a branch that has the data. That must be
//! the same file for all opens of the inode, and none of them may use the page cache (fs/fuse/iomode.c). So:
//!
//! | the inode | a further open |
//! |---|---|
//! | is open already | goes the way of the earlier opens |
//! | is set-user-id or set-group-id | uses the page cache: the kernel does not take these bits away on a write that passes through |
//! | has its data in the upper, or is opened to be written, which copies it up | passes through |
//! | can never be copied up | passes through |
//! | has its data in a lower | uses the page cache: a copy-up moves the data to another file |
//!
//! The kernel leaves it to us to cut a file off with the open (`FUSE_ATOMIC_O_TRUNC`). That is done last, when nothing can
//! fail any more. The kernel refuses one such open only afterwards: of a file that a process executes, when the open truncates
//! and does not write. An open to execute has a flag ([`EXECUTE`]), so the executing opens of each inode are counted here.
//!
//! What is written by that way also moves times and lengths that the kernel does not see (fs/backing-file.c,
//! `backing_file_mmap`), so attributes of such a file are valid for no longer than the answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use fuser::{BackingId, FileHandle, FopenFlags, INodeNo, ReplyCreate, ReplyOpen};
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};

use super::attr_invalidation::AttrInvalidation;
use super::backing_file::BackingFile;
use super::value::{AT_ONCE, FOREVER, file_attr, generation, reply as errno};
use crate::sys::{self, call};
use crate::union::{Attr, Caller, Errno, FsResult, Ino, Union};

/// Set-user-id and set-group-id.
const SET_IDS: u32 = 0o6000;
/// `__FMODE_EXEC` (include/linux/fs.h), which the kernel has among the flags.
const EXECUTE: i32 = 0x20;

/// What a file is opened for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose {
    pub(super) writes: bool,
    /// It is cut off first, for this caller.
    pub(super) empties: Option<Caller>,
    pub(super) executes: bool,
}

impl Purpose {
    /// Reads the flags of an open file.
    pub(super) const fn of(flags: i32) -> Self {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        Self { writes, empties: None, executes: flags & EXECUTE != 0 }
    }
}

/// The reply to an OPEN request.
pub(super) trait Opening: Sized {
    fn register(&self, data: Arc<OwnedFd>) -> io::Result<BackingId>;
    fn caches(self, flags: FopenFlags);
    fn passes(self, backing: &BackingId);
    fn fails(self, error: Errno);
}

impl Opening for ReplyOpen {
    fn register(&self, data: Arc<OwnedFd>) -> io::Result<BackingId> {
        self.open_backing(data)
    }

    fn caches(self, flags: FopenFlags) {
        self.opened(FileHandle(0), flags);
    }

    fn passes(self, backing: &BackingId) {
        self.opened_passthrough(FileHandle(0), FopenFlags::empty(), backing);
    }

    fn fails(self, error: Errno) {
        self.error(errno(error));
    }
}

/// The reply to a CREATE request, which makes a file and opens it.
pub(super) struct Created<'a> {
    pub(super) union: &'a Union,
    /// The new inode, as the mount shows it.
    pub(super) made: Attr,
    pub(super) reply: ReplyCreate,
}

impl Opening for Created<'_> {
    fn register(&self, data: Arc<OwnedFd>) -> io::Result<BackingId> {
        self.reply.open_backing(data)
    }

    fn caches(self, flags: FopenFlags) {
        self.reply.created(&FOREVER, &file_attr(&self.made), generation(&self.made), FileHandle(0), flags);
    }

    fn passes(self, backing: &BackingId) {
        let (attr, flags) = (file_attr(&self.made), FopenFlags::empty());
        self.reply.created_passthrough(&AT_ONCE, &attr, generation(&self.made), FileHandle(0), flags, backing);
    }

    fn fails(self, error: Errno) {
        // The kernel is not told of the inode, so it will never forget it.
        self.union.forget(self.made.ino, 1);
        self.reply.error(errno(error));
    }
}

/// What is open.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: Mutex<HashMap<Ino, Open>>,
    /// Reading changes no access time (`noatime`).
    keeps_access_times: bool,
    /// The mount's own descriptor of the device, which is open as long as the connection is.
    device: Arc<OwnedFd>,
}

/// An inode that is open.
#[derive(Debug)]
struct Open {
    handles: u64,
    /// How many of them execute it.
    executing: u64,
    /// Where the kernel finds the data; none if it uses its page cache.
    backing: Option<BackingFile>,
    /// An open may write.
    writable: bool,
}

impl Open {
    /// Whether it is written without a message.
    fn is_written(&self) -> bool {
        self.writable && self.backing.is_some()
    }
}

impl OpenFiles {
    pub(super) fn new(keeps_access_times: bool, device: Arc<OwnedFd>) -> Self {
        Self { files: Mutex::default(), keeps_access_times, device }
    }

    /// Answers an `open` or a `create`.
    pub(super) fn open(
        &self,
        union: &Union,
        invalidation: &AttrInvalidation,
        ino: Ino,
        purpose: Purpose,
        reply: impl Opening,
    ) {
        let Purpose { writes, empties, executes } = purpose;
        if empties.is_some() && !writes && self.is_executed(ino) {
            return reply.fails(Errno::ETXTBSY);
        }
        let may_pass = match may_pass(union, ino) {
            Ok(may_pass) => may_pass,
            Err(error) => return reply.fails(error),
        };
        // A copy-up may take long: before the lock.
        let data = match empties {
            Some(caller) => union.emptied_data(ino, caller).tell(|ino| invalidation.outdate(ino)).map(Some),
            None => union.lasting_data(ino, writes),
        };
        let data = match data {
            Ok(data) => data,
            Err(error) => return reply.fails(error),
        };
        let mut files = self.files.lock();
        // Pages of before a write that passed through would be wrong, and where data are in the upper there may be such.
        let mut flags = FopenFlags::empty();
        let open = match files.entry(ino) {
            Entry::Occupied(open) => {
                flags = FopenFlags::FOPEN_KEEP_CACHE;
                open.into_mut()
            }
            Entry::Vacant(free) => {
                if data.is_none() {
                    flags = FopenFlags::FOPEN_KEEP_CACHE;
                }
                let data = data.filter(|_| may_pass).and_then(|data| self.backing_file(data));
                // error: without the right, or on a file system that is stacked too high, all works by the page cache.
                let backing = data.and_then(|data| reply.register(data).ok());
                let backing = backing.map(|id| BackingFile::new(id, self.device.clone()));
                free.insert(Open { handles: 0, executing: 0, backing, writable: false })
            }
        };
        open.handles += 1;
        open.executing += u64::from(executes);
        open.writable |= writes;
        match open.backing.as_ref().and_then(BackingFile::id) {
            Some(backing) => {
                if writes {
                    invalidation.outdate(ino);
                }
                reply.passes(backing);
            }
            None => reply.caches(flags),
        }
    }

    /// Handles a RELEASE: an open of the inode with this purpose is closed.
    pub(super) fn release(&self, invalidation: &AttrInvalidation, node: INodeNo, purpose: Purpose) {
        let ino = Ino(node.0);
        let mut files = self.files.lock();
        let Entry::Occupied(mut open) = files.entry(ino) else { return };
        let left = open.get_mut();
        left.handles = left.handles.saturating_sub(1);
        left.executing = left.executing.saturating_sub(u64::from(purpose.executes));
        if left.handles == 0 {
            let was_written = open.remove().is_written();
            drop(files);
            // Attributes that were read before the last write, and not yet sent, would now be valid for ever.
            if was_written {
                invalidation.outdate(ino);
            }
        }
    }

    /// The kernel has forgotten the inode. An `open` that was interrupted may have left it here.
    pub(super) fn forget(&self, union: &Union, ino: Ino) {
        let mut files = self.files.lock();
        // It may have been looked up and opened again meanwhile.
        if !union.is_referred_to(ino) {
            files.remove(&ino);
        }
    }

    /// The file that the kernel is to read and write. The access time is a matter of the mount through which it was opened
    /// (fs/inode.c, `touch_atime`), also for the files that the kernel opens after it.
    fn backing_file(&self, data: Arc<OwnedFd>) -> Option<Arc<OwnedFd>> {
        if !self.keeps_access_times {
            return Some(data);
        }
        match without_access_times(&data) {
            Ok(file) => Some(Arc::new(file)),
            // error: the page cache is used then, and this program reads without a trace.
            Err(_) => None,
        }
    }

    fn is_executed(&self, ino: Ino) -> bool {
        self.files.lock().get(&ino).is_some_and(|open| open.executing > 0)
    }

    /// Whether attributes of the inode may change without a message.
    pub(super) fn is_written(&self, ino: Ino) -> bool {
        self.files.lock().get(&ino).is_some_and(Open::is_written)
    }
}

/// Opens a file again, through a mount that keeps its access time.
fn without_access_times(file: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let name = |file: &OwnedFd| format!("/proc/self/fd/{}", file.as_raw_fd());
    let mount = sys::detached_without_access_times(Path::new(&name(file)))?;
    // The same access as before: a file of a layer is open for reading only.
    let access = rustix::fs::fcntl_getfl(file)? & OFlags::ACCMODE;
    call::open(name(&mount).as_str(), access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// Also asked for an open that only reads: a later open that writes must go the same way.
fn may_pass(union: &Union, ino: Ino) -> FsResult<bool> {
    Ok(union.getattr(ino)?.mode & SET_IDS == 0)
}
