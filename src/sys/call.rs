//! The system calls of [`rustix::fs`] and [`rustix::io`] that a signal may interrupt, under their names, and made again
//! after it ([`retry()`]). clippy refuses the originals outside of `sys` (`clippy.toml`).
//!
//! Each returns the errors of its call as the manual page of that name (section 2) has them, but `EINTR`.
#![allow(clippy::disallowed_methods, reason = "these are the wrappers that are used in their place")]
#![allow(clippy::missing_errors_doc, reason = "the module's documentation says it once")]

use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, Timespec};
use rustix::fs::{
    Advice, AtFlags, Dev, FallocateFlags, FileType, FlockOperation, Gid, MemfdFlags, Mode, OFlags, RenameFlags,
    ResolveFlags, SeekFrom, Stat, StatFs, StatVfs, Statx, StatxFlags, Timestamps, Uid, XattrFlags,
};
use rustix::io::{ReadWriteFlags, Result};
use rustix::path::Arg;
use rustix::rand::GetRandomFlags;

use super::retry;

macro_rules! retried {
    ($($(#[$doc:meta])* $module:ident :: $name:ident ($($arg:ident : $type:ty),*) -> $out:ty = ($($passed:expr),*);)*) => {
        $(
            $(#[$doc])*
            pub fn $name($($arg: $type),*) -> Result<$out> {
                retry(|| rustix::$module::$name($($passed),*))
            }
        )*
    };
}

retried! {
    /// `openat(2)`.
    fs::openat(dir: impl AsFd, path: impl Arg + Copy, flags: OFlags, mode: Mode) -> OwnedFd = (&dir, path, flags, mode);
    /// `openat2(2)`.
    fs::openat2(dir: impl AsFd, path: impl Arg + Copy, flags: OFlags, mode: Mode, resolve: ResolveFlags) -> OwnedFd = (&dir, path, flags, mode, resolve);
    /// `memfd_create(2)`.
    fs::memfd_create(name: impl Arg + Copy, flags: MemfdFlags) -> OwnedFd = (name, flags);
    /// `open(2)`.
    fs::open(path: impl Arg + Copy, flags: OFlags, mode: Mode) -> OwnedFd = (path, flags, mode);
    /// `mkdirat(2)`.
    fs::mkdirat(dir: impl AsFd, path: impl Arg + Copy, mode: Mode) -> () = (&dir, path, mode);
    /// `mknodat(2)`.
    fs::mknodat(dir: impl AsFd, path: impl Arg + Copy, kind: FileType, mode: Mode, device: Dev) -> () = (&dir, path, kind, mode, device);
    /// `mkfifoat(2)`.
    fs::mkfifoat(dir: impl AsFd, path: impl Arg + Copy, mode: Mode) -> () = (&dir, path, mode);
    /// `symlinkat(2)`.
    fs::symlinkat(target: impl Arg + Copy, dir: impl AsFd, path: impl Arg + Copy) -> () = (target, &dir, path);
    /// `linkat(2)`.
    fs::linkat(old_dir: impl AsFd, old: impl Arg + Copy, new_dir: impl AsFd, new: impl Arg + Copy, flags: AtFlags) -> () = (&old_dir, old, &new_dir, new, flags);
    /// `unlinkat(2)`.
    fs::unlinkat(dir: impl AsFd, path: impl Arg + Copy, flags: AtFlags) -> () = (&dir, path, flags);
    /// `renameat(2)`.
    fs::renameat(old_dir: impl AsFd, old: impl Arg + Copy, new_dir: impl AsFd, new: impl Arg + Copy) -> () = (&old_dir, old, &new_dir, new);
    /// `renameat2(2)`.
    fs::renameat_with(old_dir: impl AsFd, old: impl Arg + Copy, new_dir: impl AsFd, new: impl Arg + Copy, flags: RenameFlags) -> () = (&old_dir, old, &new_dir, new, flags);
    /// `readlinkat(2)`.
    fs::readlinkat(dir: impl AsFd, path: impl Arg + Copy) -> CString = (&dir, path, Vec::new());
    /// `fstatat(2)`.
    fs::statat(dir: impl AsFd, path: impl Arg + Copy, flags: AtFlags) -> Stat = (&dir, path, flags);
    /// `statx(2)`.
    fs::statx(dir: impl AsFd, path: impl Arg + Copy, flags: AtFlags, mask: StatxFlags) -> Statx = (&dir, path, flags, mask);
    /// `stat(2)`.
    fs::stat(path: impl Arg + Copy) -> Stat = (path);
    /// `lstat(2)`.
    fs::lstat(path: impl Arg + Copy) -> Stat = (path);
    /// `fstat(2)`.
    fs::fstat(file: impl AsFd) -> Stat = (&file);
    /// `statfs(2)`.
    fs::statfs(path: impl Arg + Copy) -> StatFs = (path);
    /// `statvfs(2)`.
    fs::statvfs(path: impl Arg + Copy) -> StatVfs = (path);
    /// `fstatfs(2)`.
    fs::fstatfs(file: impl AsFd) -> StatFs = (&file);
    /// `fstatvfs(2)`.
    fs::fstatvfs(file: impl AsFd) -> StatVfs = (&file);
    /// `chmod(2)`.
    fs::chmod(path: impl Arg + Copy, mode: Mode) -> () = (path, mode);
    /// `fchmodat(2)`.
    fs::chmodat(dir: impl AsFd, path: impl Arg + Copy, mode: Mode, flags: AtFlags) -> () = (&dir, path, mode, flags);
    /// `fchmod(2)`.
    fs::fchmod(file: impl AsFd, mode: Mode) -> () = (&file, mode);
    /// `fchownat(2)`.
    fs::chownat(dir: impl AsFd, path: impl Arg + Copy, owner: Option<Uid>, group: Option<Gid>, flags: AtFlags) -> () = (&dir, path, owner, group, flags);
    /// `fchown(2)`.
    fs::fchown(file: impl AsFd, owner: Option<Uid>, group: Option<Gid>) -> () = (&file, owner, group);
    /// `utimensat(2)`.
    fs::utimensat(dir: impl AsFd, path: impl Arg + Copy, times: &Timestamps, flags: AtFlags) -> () = (&dir, path, times, flags);
    /// `futimens(2)`.
    fs::futimens(file: impl AsFd, times: &Timestamps) -> () = (&file, times);
    /// `fallocate(2)`.
    fs::fallocate(file: impl AsFd, mode: FallocateFlags, offset: u64, length: u64) -> () = (&file, mode, offset, length);
    /// `posix_fadvise(2)`.
    fs::fadvise(file: impl AsFd, offset: u64, length: Option<NonZeroU64>, advice: Advice) -> () = (&file, offset, length, advice);
    /// `ftruncate(2)`.
    fs::ftruncate(file: impl AsFd, size: u64) -> () = (&file, size);
    /// `fsync(2)`.
    fs::fsync(file: impl AsFd) -> () = (&file);
    /// `fdatasync(2)`.
    fs::fdatasync(file: impl AsFd) -> () = (&file);
    /// `syncfs(2)`.
    fs::syncfs(file: impl AsFd) -> () = (&file);
    /// `flock(2)`.
    fs::flock(file: impl AsFd, operation: FlockOperation) -> () = (&file, operation);
    /// `lseek(2)`.
    fs::seek(file: impl AsFd, position: SeekFrom) -> u64 = (&file, position);
    /// `ioctl_ficlone(2)`.
    fs::ioctl_ficlone(file: impl AsFd, source: impl AsFd) -> () = (&file, &source);
    /// `getxattr(2)`.
    fs::getxattr(path: impl Arg + Copy, name: impl Arg + Copy, value: &mut [u8]) -> usize = (path, name, &mut *value);
    /// `lgetxattr(2)`.
    fs::lgetxattr(path: impl Arg + Copy, name: impl Arg + Copy, value: &mut [u8]) -> usize = (path, name, &mut *value);
    /// `fgetxattr(2)`.
    fs::fgetxattr(file: impl AsFd, name: impl Arg + Copy, value: &mut [u8]) -> usize = (&file, name, &mut *value);
    /// `setxattr(2)`.
    fs::setxattr(path: impl Arg + Copy, name: impl Arg + Copy, value: &[u8], flags: XattrFlags) -> () = (path, name, value, flags);
    /// `lsetxattr(2)`.
    fs::lsetxattr(path: impl Arg + Copy, name: impl Arg + Copy, value: &[u8], flags: XattrFlags) -> () = (path, name, value, flags);
    /// `fsetxattr(2)`.
    fs::fsetxattr(file: impl AsFd, name: impl Arg + Copy, value: &[u8], flags: XattrFlags) -> () = (&file, name, value, flags);
    /// `listxattr(2)`.
    fs::listxattr(path: impl Arg + Copy, list: &mut [u8]) -> usize = (path, &mut *list);
    /// `llistxattr(2)`.
    fs::llistxattr(path: impl Arg + Copy, list: &mut [u8]) -> usize = (path, &mut *list);
    /// `flistxattr(2)`.
    fs::flistxattr(file: impl AsFd, list: &mut [u8]) -> usize = (&file, &mut *list);
    /// `removexattr(2)`.
    fs::removexattr(path: impl Arg + Copy, name: impl Arg + Copy) -> () = (path, name);
    /// `lremovexattr(2)`.
    fs::lremovexattr(path: impl Arg + Copy, name: impl Arg + Copy) -> () = (path, name);
    /// `fremovexattr(2)`.
    fs::fremovexattr(file: impl AsFd, name: impl Arg + Copy) -> () = (&file, name);
    /// `read(2)`.
    io::read(file: impl AsFd, buffer: &mut [u8]) -> usize = (&file, &mut *buffer);
    /// `write(2)`.
    io::write(file: impl AsFd, bytes: &[u8]) -> usize = (&file, bytes);
    /// `pread(2)`.
    io::pread(file: impl AsFd, buffer: &mut [u8], offset: u64) -> usize = (&file, &mut *buffer, offset);
    /// `pwrite(2)`.
    io::pwrite(file: impl AsFd, bytes: &[u8], offset: u64) -> usize = (&file, bytes, offset);
    /// `preadv2(2)`.
    io::preadv2(file: impl AsFd, buffers: &mut [IoSliceMut<'_>], offset: u64, flags: ReadWriteFlags) -> usize = (&file, &mut *buffers, offset, flags);
    /// `pwritev2(2)`.
    io::pwritev2(file: impl AsFd, buffers: &[IoSlice<'_>], offset: u64, flags: ReadWriteFlags) -> usize = (&file, buffers, offset, flags);
    /// `getrandom(2)`.
    rand::getrandom(buffer: &mut [u8], flags: GetRandomFlags) -> usize = (&mut *buffer, flags);
}

/// `copy_file_range(2)`. Both offsets move by what was copied.
pub fn copy_file_range(from: impl AsFd, at: &mut u64, to: impl AsFd, to_at: &mut u64, length: usize) -> Result<usize> {
    retry(|| rustix::fs::copy_file_range(&from, Some(&mut *at), &to, Some(&mut *to_at), length))
}

/// `poll(2)`. After a signal the whole timeout begins again.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize> {
    retry(|| rustix::event::poll(&mut *fds, timeout))
}
