//! A disk that remembers: one file on a FUSE file system, under a loop device, whose writes and flushes are written down.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

/// What the disk was asked for.
pub(crate) enum Event {
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    /// All that was written before is on the disk.
    Flush,
}

pub(crate) type Log = Arc<Mutex<Vec<Event>>>;

/// The file system: `disk` is all that is in it.
struct Recorder {
    content: File,
    size: u64,
    log: Log,
}

/// A recording that goes on until this is dropped.
pub(crate) struct Disk {
    session: Option<BackgroundSession>,
    dir: PathBuf,
    pub(crate) log: Log,
}

impl Disk {
    /// Shows the file `content` as `dir/disk`.
    pub(crate) fn new(content: &Path, dir: &Path) -> Self {
        let content = File::options().read(true).write(true).open(content).expect("the disk's content");
        let size = content.metadata().expect("its size").len();
        let log = Log::default();
        let recorder = Recorder { content, size, log: log.clone() };
        let session = fuser::spawn_mount(recorder, dir, &Config::default()).expect("FUSE mounts");
        Self { session: Some(session), dir: dir.to_owned(), log }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.umount_and_join().expect("nobody uses the disk");
        }
    }
}

const FOREVER: Duration = Duration::from_secs(1_000_000);

impl Recorder {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let is_dir = ino == INodeNo::ROOT;
        FileAttr {
            ino,
            size: if is_dir { 0 } else { self.size },
            blocks: self.size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_dir { FileType::Directory } else { FileType::RegularFile },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }
}

impl Filesystem for Recorder {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&FOREVER, &self.attributes(INodeNo(2)), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(ino));
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Nothing is kept back by the kernel.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut data = vec![0; usize::try_from(size.min(1 << 20)).unwrap_or(0)];
        match self.content.read_at(&mut data, offset) {
            Ok(length) => reply.data(&data[..length]),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut log = self.log.lock().expect("no panic");
        match self.content.write_all_at(data, offset) {
            Ok(()) => {
                log.push(Event::Write { offset, data: data.to_vec() });
                reply.written(u32::try_from(data.len()).unwrap_or(0));
            }
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.log.lock().expect("no panic").push(Event::Flush);
        reply.ok();
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
