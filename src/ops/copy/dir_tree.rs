//! A directory as a tree of `cp`: the host's root, or where a container is mounted.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::tree::{Reserved, Stat, Tree, copy_data};
use crate::index::{Kind, Meta, Time, Xattrs};
use crate::sys::{Dir, call, proc_path, read_xattrs};

/// What is at and below a directory.
pub(super) struct DirTree(Rc<OwnedFd>);

impl DirTree {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(Rc::new(call::openat(CWD, root, flags, Mode::empty())?)))
    }
}

impl Tree for DirTree {
    type Dir = Rc<OwnedFd>;

    fn root(&self) -> io::Result<Self::Dir> {
        Ok(self.0.clone())
    }

    fn stat(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Option<Stat>> {
        let stat = match call::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat?,
        };
        let kind = Kind::from_mode(stat.st_mode).ok_or(Errno::IO)?;
        let meta = Meta {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time { sec: stat.st_mtime, nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() },
            rdev: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            blocks: u64::try_from(stat.st_blocks).unwrap_or_default(),
        };
        let nlink = u32::try_from(stat.st_nlink).unwrap_or(u32::MAX);
        Ok(Some(Stat { meta, nlink, id: (stat.st_dev, stat.st_ino) }))
    }

    fn enter(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Rc::new(call::openat(dir, name, flags, Mode::empty())?))
    }

    fn names(&self, dir: &Self::Dir) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn readlink(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(call::readlinkat(dir, name)?.into_bytes())
    }

    fn xattrs(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Xattrs> {
        match read_xattrs(&proc_path(dir.as_fd(), name)) {
            Err(Errno::NOTSUP) => Ok(Xattrs::new()),
            read => Ok(read?),
        }
    }

    fn content<'a>(&'a self, dir: &Self::Dir, name: &[u8]) -> io::Result<Box<dyn Read + 'a>> {
        // It may be a fifo by now, and must not block.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(Box::new(File::from(call::openat(dir, name, flags, Mode::empty())?)))
    }

    fn mkdir(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()> {
        Ok(call::mkdirat(dir, name, Mode::RWXU)?)
    }

    fn file(&self, dir: &Self::Dir, name: &[u8], content: &mut dyn Read) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(call::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
        let size = copy_data(content, |at, bytes| file.write_all_at(bytes, at))?;
        file.set_len(size)
    }

    fn symlink(&self, dir: &Self::Dir, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(call::symlinkat(target, dir, name)?)
    }

    fn special(&self, dir: &Self::Dir, name: &[u8], meta: &Meta) -> io::Result<()> {
        let kind = rustix::fs::FileType::from_raw_mode(meta.kind.mode_bits());
        let device = rustix::fs::makedev(meta.rdev.0, meta.rdev.1);
        Ok(call::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device)?)
    }

    fn link(&self, from: (&Self::Dir, &[u8]), dir: &Self::Dir, name: &[u8]) -> io::Result<()> {
        Ok(call::linkat(from.0, from.1, dir, name, AtFlags::empty())?)
    }

    fn rename(&self, dir: &Self::Dir, from: &[u8], to: &[u8]) -> io::Result<()> {
        Ok(call::renameat(dir, from, dir, to)?)
    }

    fn unlink(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()> {
        Ok(call::unlinkat(dir, name, AtFlags::empty())?)
    }

    fn reserve(&self, dir: &Self::Dir) -> io::Result<Option<Reserved>> {
        // A description of its own: a lock belongs to that, and every copy of this process has one.
        let lock = call::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        match call::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Reserved { _lock: Some(lock) })),
            // The second: this file system has no locks.
            Err(Errno::WOULDBLOCK | Errno::NOTSUP | Errno::NOSYS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn describe(&self, dir: &Self::Dir, name: &[u8], meta: &Meta, xattrs: &Xattrs) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw_unchecked(meta.uid), Gid::from_raw_unchecked(meta.gid));
        call::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if meta.kind != Kind::Symlink {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = call::openat(dir, name, flags, Mode::empty())?;
            call::chmod(&format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(meta.mode))?;
        }
        let path = proc_path(dir.as_fd(), name);
        for (name, value) in xattrs {
            match call::lsetxattr(&*path, &**name, value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let time = Timespec { tv_sec: meta.mtime.sec, tv_nsec: meta.mtime.nsec.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(call::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}
