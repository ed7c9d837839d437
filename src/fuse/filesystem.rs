//! Decodes and counts each FUSE request and passes it to the union. The only decision made here is which requests wait for
//! a copy-up (`deferred.rs`).
//!
//! The zero-message mode: `open`, `opendir`, `flush` and `access` are answered ENOSYS, after which the kernel
//! handles them itself and keeps page and directory caches (fs/fuse/file.c, `fuse_file_open`); entries,
//! attributes and missing names stay valid for ever. So all requests name inodes, and there are no handles.
//! So is `create`: its handle would be the only one, and cost a `release`; the kernel sends `mknod` for a new
//! file instead (fs/fuse/dir.c, `fuse_atomic_open`), and opens it without a message. Where data pass through, `open`
//! and `create` are answered.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, FopenFlags, Generation, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use super::attr_invalidation::AttrInvalidation;
use super::counters::{Counters, Operation};
use super::cpu_latency::CpuLatency;
use super::deferred::Deferred;
use super::flush_failures::FlushFailures;
use super::freeze::{Freeze, OngoingChange};
use super::ids::Ids;
use super::load::{Busy, Load};
use super::losses::Losses;
use super::negotiation::Negotiated;
use super::passthrough::{Created, OpenFiles, Purpose};
use super::read_ahead::ReadAhead;
use super::renew::Renewals;
use super::replies::{attribute, empty, record_attr, written};
use super::room::Room;
use super::seek::{Seek, Seeks};
use super::under_overlay;
use super::value::{FOREVER, device_parts, file_attr, file_type, generation, no_entry, reply as errno, set_time, time};
use crate::index::Kind;
use crate::union::{Attr, Caller, Errno, FsResult, Ino, NewFile, Outdated, RenameMode, SetAttr, Union};

/// A label that is not there. `ls -l` asks for it of every file, which is a message each, unless it is told once that a file
/// system has no labels (coreutils, gnulib's file-has-acl.c). Where SELinux is on, the kernel does not ask us.
const SELINUX: &str = "security.selinux";

/// What the names of access lists begin with.
const ACCESS_LISTS: &[u8] = b"system.posix_acl_";

/// The union behind the protocol. Each thread that answers requests has a copy, and all copies refer to the same.
#[derive(Clone)]
pub(super) struct Filesystem {
    pub(super) union: Arc<Union>,
    pub(super) counters: Arc<Counters>,
    pub(super) load: Arc<Load>,
    pub(super) seeks: Seeks,
    pub(super) renewals: Renewals,
    pub(super) invalidation: Arc<AttrInvalidation>,
    pub(super) flush_failures: Arc<FlushFailures>,
    pub(super) freeze: Arc<Freeze>,
    pub(super) losses: Arc<Losses>,
    /// Where the kernel gathers writes.
    pub(super) room: Option<Arc<Room>>,
    pub(super) cpu_latency: Arc<CpuLatency>,
    pub(super) read_ahead: Arc<ReadAhead>,
    pub(super) deferred: Deferred,
    pub(super) negotiated: Negotiated,
    /// How owners are shown.
    pub(super) ids: Ids,
    /// Whether `fsync` waits for nothing.
    pub(super) volatile: bool,
    /// Whether it is a layer of overlayfs ([`under_overlay`]).
    pub(super) under_overlay: bool,
    /// What is open, where the kernel reads and writes some files itself.
    pub(super) open_files: Option<Arc<OpenFiles>>,
}

fn ino(node: INodeNo) -> Ino {
    Ino(node.0)
}

impl Filesystem {
    fn caller(&self, request: &Request) -> Caller {
        self.ids.caller(Caller { uid: request.uid(), gid: request.gid(), process: Some(request.pid()) })
    }

    pub(super) fn file_attr(&self, attr: &Attr) -> fuser::FileAttr {
        file_attr(&self.ids.attr(attr))
    }

    /// Whether an attribute is an access list of a mount that has none.
    fn is_left_out(&self, name: &OsStr) -> bool {
        !self.negotiated.access_lists && name.as_bytes().starts_with(ACCESS_LISTS)
    }

    pub(super) fn count(&self, operation: Operation) -> Busy<'_> {
        self.cpu_latency.request();
        self.counters.count(operation);
        self.load.begin()
    }

    /// Counts an operation that changes something, and lets it pass.
    fn change(&self, operation: Operation) -> (Busy<'_>, OngoingChange<'_>) {
        let busy = self.count(operation);
        if let Some(room) = &self.room {
            room.change();
        }
        (busy, self.freeze.begin_change())
    }

    /// On a volatile mount `ENOSYS`, after which the kernel sends no more of them (fs/fuse/file.c, `fuse_fsync`).
    fn flush(&self, node: INodeNo, datasync: bool) -> FsResult<()> {
        if self.volatile { Err(Errno::ENOSYS) } else { self.union.fsync(ino(node), datasync) }
    }

    /// Something that a program was told is written cannot be stored. When each write waits for it, its program is told.
    pub(super) fn lose(losses: &Losses, room: Option<&Arc<Room>>, union: &Union, ino: Ino, error: Errno) {
        if !room.is_some_and(|room| room.is_synchronous()) {
            losses.add(union, ino, error);
        }
    }

    fn lists(&self, directory: INodeNo, offset: u64) {
        if offset == 0 {
            self.read_ahead.lists(&self.union, ino(directory));
        }
    }

    /// What an operation gave that changes this directory's entries.
    fn changed<T>(&self, directory: INodeNo, result: FsResult<T>) -> FsResult<T> {
        match result {
            Ok(_) => self.invalidation.changed(ino(directory)),
            Err(error) if error.is_refusal() => {}
            // How far it came is not known.
            Err(_) => self.invalidation.outdate(ino(directory)),
        }
        result
    }

    /// What an operation gave, after the kernel was told which attributes it has to ask for again.
    fn tell<T>(&self, outdated: Outdated<T>) -> T {
        outdated.tell(|ino| self.invalidation.outdate(ino))
    }
}

impl fuser::Filesystem for Filesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.negotiated.agree(config, self.open_files.is_some())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _busy = self.count(Operation::Lookup);
        let answer = self.invalidation.answer();
        match record_attr(&answer, self.union.lookup(ino(parent), name.as_bytes())) {
            Err(Errno::ENOENT) => reply.entry(&FOREVER, &no_entry(), Generation(0)),
            result => self.entry(result, reply),
        }
    }

    fn forget(&self, _request: &Request, node: INodeNo, count: u64) {
        let _busy = self.count(Operation::Forget);
        if self.union.forget(ino(node), count) {
            self.flush_failures.forget(ino(node));
            if let Some(open_files) = &self.open_files {
                open_files.forget(&self.union, ino(node));
            }
        }
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let _busy = self.count(Operation::Getattr);
        let answer = self.invalidation.answer();
        self.attributes(record_attr(&answer, self.union.getattr(ino(node))), reply);
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _pass = self.change(Operation::Setattr);
        let uid = uid.map(|uid| self.ids.users.meant(uid));
        let gid = gid.map(|gid| self.ids.groups.meant(gid));
        let (atime, mtime, ctime) = (atime.map(set_time), mtime.map(set_time), ctime.map(time));
        let set = SetAttr { mode, uid, gid, size, atime, mtime, ctime };
        let answer = self.invalidation.answer();
        let attr = self.tell(self.union.setattr(ino(node), &set, self.caller(request)));
        self.set_attributes(ino(node), &set, record_attr(&answer, attr), reply);
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        let _busy = self.count(Operation::Readlink);
        match self.union.readlink(ino(node)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let _pass = self.change(Operation::Mknod);
        let Some(kind) = Kind::from_mode(mode) else { return reply.error(errno(Errno::EINVAL)) };
        let new = NewFile { kind, mode: mode & 0o7777, umask, rdev: device_parts(rdev) };
        self.entry(
            self.changed(parent, self.union.create(ino(parent), name.as_bytes(), new, self.caller(request))),
            reply,
        );
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let _pass = self.change(Operation::Mkdir);
        let answer = self.invalidation.answer();
        let made = self.union.mkdir(ino(parent), name.as_bytes(), mode & 0o7777, umask, self.caller(request));
        self.entry(record_attr(&answer, self.changed(parent, made)), reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _pass = self.change(Operation::Unlink);
        empty(self.changed(parent, self.union.unlink(ino(parent), name.as_bytes())), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _pass = self.change(Operation::Rmdir);
        empty(self.changed(parent, self.union.rmdir(ino(parent), name.as_bytes())), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let _pass = self.change(Operation::Symlink);
        let target = target.as_os_str().as_bytes();
        let made = self.union.symlink(ino(parent), name.as_bytes(), target, self.caller(request));
        self.entry(self.changed(parent, made), reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _pass = self.change(Operation::Rename);
        let mode = match flags {
            flags if flags.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            RenameFlags::RENAME_WHITEOUT => RenameMode::Whiteout,
            _ => return reply.error(errno(Errno::EINVAL)),
        };
        let (from, to) = ((ino(parent), name.as_bytes()), (ino(new_parent), new_name.as_bytes()));
        let renamed = self.changed(parent, self.union.rename(from, to, mode));
        empty(if new_parent == parent { renamed } else { self.changed(new_parent, renamed) }, reply);
    }

    fn link(&self, _request: &Request, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _pass = self.change(Operation::Link);
        self.entry(self.changed(parent, self.union.link(ino(node), ino(parent), name.as_bytes())), reply);
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _busy = self.count(Operation::Open);
        self.open_file(ino(node), flags.0, self.caller(request), reply);
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _busy = self.count(Operation::Read);
        self.read_file(ino(node), offset, size as usize, reply);
    }

    fn write(
        &self,
        request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _open_flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _pass = self.change(Operation::Write);
        let by = self.caller(request);
        self.write_file(ino(node), offset, data, flags, by, reply);
    }

    fn flush(&self, _request: &Request, _node: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        let _busy = self.count(Operation::Flush);
        reply.error(errno(Errno::ENOSYS));
    }

    fn release(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _busy = self.count(Operation::Release);
        if let Some(open_files) = &self.open_files {
            open_files.release(&self.invalidation, node, Purpose::of(flags.0));
        }
        reply.ok();
    }

    fn fsync(&self, request: &Request, node: INodeNo, _handle: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let _busy = self.count(Operation::Fsync);
        let flushed = self.flush(node, datasync);
        empty(self.flush_failures.answer(ino(node), request.pid(), flushed), reply);
    }

    fn opendir(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _busy = self.count(Operation::Opendir);
        if self.negotiated.no_opendir {
            reply.error(errno(Errno::ENOSYS));
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
        }
    }

    fn readdir(&self, _request: &Request, node: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let _busy = self.count(Operation::Readdir);
        self.lists(node, offset);
        let result = self.union.readdir(ino(node), offset, false, &mut |found| {
            !reply.add(INodeNo(found.ino.0), found.next, file_type(found.kind), OsStr::from_bytes(found.name))
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _busy = self.count(Operation::Readdirplus);
        self.lists(node, offset);
        let answer = self.invalidation.answer();
        let result = self.union.readdir(ino(node), offset, true, &mut |found| {
            let name = OsStr::from_bytes(found.name);
            let (attr, generation) = match &found.attr {
                Some(attr) => {
                    if attr.kind == Kind::Directory {
                        answer.has(attr.ino);
                    }
                    (self.file_attr(attr), generation(attr))
                }
                // For `.` and `..` the kernel takes number and type, and nothing else.
                None => {
                    let (ino, kind) = (INodeNo(found.ino.0), file_type(found.kind));
                    (fuser::FileAttr { ino, kind, ..no_entry() }, Generation(0))
                }
            };
            !reply.add(INodeNo(found.ino.0), found.next, name, &self.valid(found.ino), &attr, generation)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let _busy = self.count(Operation::Releasedir);
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, node: INodeNo, _handle: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let _busy = self.count(Operation::Fsyncdir);
        empty(self.flush(node, datasync), reply);
    }

    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let _busy = self.count(Operation::Statfs);
        match self.union.statfs() {
            Ok(s) => reply.statfs(s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.bsize, s.namelen, s.frsize),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _pass = self.change(Operation::Setxattr);
        if self.is_left_out(name) {
            return reply.error(errno(Errno::ENOTSUP));
        }
        let value = self.ids.meant_xattr(name.as_bytes(), value.to_vec());
        let set = self.union.setxattr(ino(node), name.as_bytes(), &value, flags, self.caller(request));
        empty(self.tell(set), reply);
    }

    fn getxattr(&self, _request: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _busy = self.count(Operation::Getxattr);
        if self.is_left_out(name) {
            return reply.error(errno(Errno::ENOTSUP));
        }
        let asked = name.as_bytes();
        let asked = if self.under_overlay { under_overlay::asked(asked) } else { Some(asked.into()) };
        let found = match asked {
            Some(name) => self.union.getxattr(ino(node), &name),
            None => Err(Errno::ENODATA),
        };
        let value = match found {
            Err(Errno::ENODATA) if name == SELINUX => Err(Errno::ENOTSUP),
            value => value.map(|value| self.ids.shown_xattr(name.as_bytes(), value)),
        };
        attribute(value, size, reply);
    }

    fn listxattr(&self, _request: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        let _busy = self.count(Operation::Listxattr);
        let mut names = self.union.listxattr(ino(node));
        // error: it goes on with the names.
        if !self.negotiated.access_lists
            && let Ok(names) = &mut names
        {
            *names = names
                .split_inclusive(|byte| *byte == 0)
                .filter(|name| !name.starts_with(ACCESS_LISTS))
                .flatten()
                .copied()
                .collect();
        }
        if self.under_overlay {
            names = names.map(|names| under_overlay::listed(&names));
        }
        attribute(names, size, reply);
    }

    fn removexattr(&self, _request: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _pass = self.change(Operation::Removexattr);
        if self.is_left_out(name) {
            return reply.error(errno(Errno::ENOTSUP));
        }
        empty(self.tell(self.union.removexattr(ino(node), name.as_bytes())), reply);
    }

    fn access(&self, _request: &Request, _node: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        let _busy = self.count(Operation::Access);
        reply.error(errno(Errno::ENOSYS));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _pass = self.change(Operation::Create);
        let Some(open_files) = &self.open_files else { return reply.error(errno(Errno::ENOSYS)) };
        let new = NewFile { kind: Kind::File, mode: mode & 0o7777, umask, rdev: device_parts(0) };
        match self.changed(parent, self.union.create(ino(parent), name.as_bytes(), new, self.caller(request))) {
            Ok(made) => {
                let (union, ino) = (&self.union, made.ino);
                let made = self.ids.attr(&made);
                open_files.open(union, &self.invalidation, ino, Purpose::of(flags), Created { union, made, reply });
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn ioctl(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _size: u32,
        reply: ReplyIoctl,
    ) {
        let _busy = self.count(Operation::Ioctl);
        reply.error(fuser::Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _pass = self.change(Operation::Fallocate);
        let (caller, times) = (self.caller(request), self.times());
        let done = self.tell(self.union.fallocate(ino(node), offset, length, mode, caller, times));
        empty(done.map(drop), reply);
    }

    fn lseek(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _busy = self.count(Operation::Lseek);
        self.seek(Seek { ino: ino(node), offset, whence, reply });
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_handle: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _pass = self.change(Operation::CopyFileRange);
        let (from, to) = ((ino(from), from_offset), (ino(to), to_offset));
        let copied = self.union.copy_file_range(from, to, length, self.caller(request), self.times());
        written(self.tell(copied), reply);
    }
}
