//! A directory as a tree of `cp`: the host's root, or where a container is mounted.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::copy::tree::{Id, Reserved, Stat, Tree, copy_data};
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

    fn file(&self, dir: &Self::Dir, name: &[u8], content: &mut dyn Read) -> io::Result<Self::Dir> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(call::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
        let size = copy_data(content, |at, bytes| file.write_all_at(bytes, at))?;
        file.set_len(size)?;
        Ok(Rc::new(file.into()))
    }

    fn symlink(&self, dir: &Self::Dir, name: &[u8], target: &[u8]) -> io::Result<Self::Dir> {
        call::symlinkat(target, dir, name)?;
        let (link, stat) = hold(dir, name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink || stat.st_nlink != 1 {
            return Err(replaced());
        }
        Ok(link)
    }

    fn special(&self, dir: &Self::Dir, name: &[u8], meta: &Meta) -> io::Result<Self::Dir> {
        let kind = FileType::from_raw_mode(meta.kind.mode_bits());
        let device = rustix::fs::makedev(meta.rdev.0, meta.rdev.1);
        call::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device)?;
        let (node, stat) = hold(dir, name)?;
        let is_device = matches!(meta.kind, Kind::CharDevice | Kind::BlockDevice);
        let is_it = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_nlink == 1;
        if !is_it || is_device && stat.st_rdev != device {
            return Err(replaced());
        }
        Ok(node)
    }

    fn link(&self, from: (&Self::Dir, &[u8], Id), dir: &Self::Dir, name: &[u8]) -> io::Result<Self::Dir> {
        let (file, stat) = hold(from.0, from.1)?;
        if (stat.st_dev, stat.st_ino) != from.2 {
            return Err(replaced());
        }
        call::linkat(CWD, &*magic_link(&file), dir, name, AtFlags::SYMLINK_FOLLOW)?;
        Ok(file)
    }

    fn id(&self, made: &Self::Dir) -> io::Result<Id> {
        let stat = call::fstat(made)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    fn rename(&self, dir: &Self::Dir, from: &[u8], made: &Self::Dir, to: &[u8]) -> io::Result<()> {
        let stat = call::statat(dir, from, AtFlags::SYMLINK_NOFOLLOW)?;
        if (stat.st_dev, stat.st_ino) != self.id(made)? {
            return Err(replaced());
        }
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

    fn describe(&self, made: &Self::Dir, meta: &Meta, xattrs: &Xattrs) -> io::Result<()> {
        // It leads to the file itself, also to a link, whatever its name stands for by now.
        let path = magic_link(made);
        let (uid, gid) = (Uid::from_raw_unchecked(meta.uid), Gid::from_raw_unchecked(meta.gid));
        call::chownat(CWD, &*path, Some(uid), Some(gid), AtFlags::empty())?;
        if meta.kind != Kind::Symlink {
            call::chmod(&*path, Mode::from_raw_mode(meta.mode))?;
        }
        for (name, value) in xattrs {
            match call::setxattr(&*path, &**name, value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let time = Timespec { tv_sec: meta.mtime.sec, tv_nsec: meta.mtime.nsec.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(call::utimensat(CWD, &*path, &times, AtFlags::empty())?)
    }
}

/// What a name stands for, of whatever type it is, kept.
fn hold(dir: &Rc<OwnedFd>, name: &[u8]) -> io::Result<(Rc<OwnedFd>, rustix::fs::Stat)> {
    let file = call::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = call::fstat(&file)?;
    Ok((Rc::new(file), stat))
}

/// A path that leads to an open file (proc_pid_fd(5)).
fn magic_link(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The owner of the target directory has put another file in the place of one that is being copied.
fn replaced() -> io::Error {
    io::Error::other("another process has replaced it while it was copied")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    const NAME: &[u8] = b"made";

    fn meta(kind: Kind) -> Meta {
        Meta { kind, mode: 0o4755, uid: 0, gid: 0, ..Meta::implied_directory() }
    }

    /// The owner of the target directory renames a program of their own onto each file that has just been made.
    #[test]
    fn what_is_renamed_onto_a_file_in_the_making_gets_nothing() {
        type Make = fn(&DirTree, &Rc<OwnedFd>) -> io::Result<Rc<OwnedFd>>;
        let kinds: [(Kind, Make); 3] = [
            (Kind::File, |tree, dir| tree.file(dir, NAME, &mut &b"content"[..])),
            (Kind::Symlink, |tree, dir| tree.symlink(dir, NAME, b"/etc/passwd")),
            (Kind::Fifo, |tree, dir| tree.special(dir, NAME, &meta(Kind::Fifo))),
        ];
        for (kind, make) in kinds {
            let place = tempfile::tempdir().unwrap();
            let tree = DirTree::open(place.path()).unwrap();
            let dir = tree.root().unwrap();
            let path = place.path().join("made");
            fs::write(place.path().join("prepared"), "evil").unwrap();
            fs::set_permissions(place.path().join("prepared"), fs::Permissions::from_mode(0o600)).unwrap();
            let made = make(&tree, &dir).unwrap();
            fs::rename(&path, place.path().join("away")).unwrap();
            fs::rename(place.path().join("prepared"), &path).unwrap();
            let before = fs::metadata(&path).unwrap();
            let xattrs = Xattrs::from([(b"trusted.of_the_made".to_vec(), b"1".to_vec())]);
            tree.describe(&made, &meta(kind), &xattrs).unwrap();
            let after = fs::metadata(&path).unwrap();
            assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()), "{kind:?}");
            assert!(tree.xattrs(&dir, NAME).unwrap().is_empty(), "{kind:?}");
            let away = fs::symlink_metadata(place.path().join("away")).unwrap();
            assert_eq!(away.mtime(), meta(kind).mtime.sec, "{kind:?}");
            assert!(kind == Kind::Symlink || away.mode() & 0o7777 == 0o4755, "{kind:?}");
            assert!(tree.rename(&dir, NAME, &made, b"new").is_err(), "{kind:?}");
            assert!(tree.stat(&dir, b"new").unwrap().is_none(), "{kind:?}");
            // Neither does a second name of the copy become one of the other file.
            let id = tree.id(&made).unwrap();
            assert!(tree.link((&dir, NAME, id), &dir, b"second").is_err(), "{kind:?}");
            tree.link((&dir, b"away", id), &dir, b"second").unwrap();
            assert_eq!(tree.stat(&dir, b"second").unwrap().unwrap().id, id, "{kind:?}");
        }
    }
}
