//! A rw layer made anew in another spelling, of what the union says that it changes.
//!
//! What was renamed or changed without its data is written whole. A file that has no mark is not copied: the new rw layer gets
//! one more name of it.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::index::{Kind, Time, Xattrs};
use crate::rw_layer::shown;
use crate::store::{Container, Spelling};
use crate::sys::{self, call};
use crate::union::{Attr, Change, Ino, Union};
use crate::{private_xattr, whiteout};

/// Bytes that are read at once, and that are left out when they are all zero.
const PIECE: usize = 1 << 17;

struct Rebuild<'a> {
    union: &'a Union,
    old: OwnedFd,
    new: OwnedFd,
    to: Spelling,
    /// Directories whose attributes are set when all is in them.
    dirs: Vec<(Vec<u8>, Attr, Xattrs)>,
}

/// Writes all that `union` changes, a container's tree, into the empty directory `made`.
///
/// # Errors
/// [`Error::Unsupported`] for what the spelling cannot say.
pub(super) fn rebuild(union: &Union, container: &Container, made: &Path, to: Spelling) -> Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        call::open(path, flags, Mode::empty()).doing("open", path)
    };
    let upper = container.upper();
    let mut rebuild = Rebuild { union, old: open(&upper)?, new: open(made)?, to, dirs: Vec::new() };
    let mut failure = None;
    let mut at = Vec::new();
    let told = union.changes(&mut at, &mut |change| {
        let path = path_of(&change);
        rebuild.change(change).map_err(|error| {
            let errno = error.raw_os_error().map_or(crate::union::Errno::EIO, crate::union::Errno);
            failure = Some((path, error));
            errno
        })
    });
    if let Some((path, source)) = failure {
        return Err(match source.kind() {
            io::ErrorKind::Unsupported => {
                let name = &container.record.name;
                Error::Unsupported(format!("container {name}: {}: {source}", shown(&path).display()))
            }
            _ => Error::Io { doing: "convert", path: shown(&path), source },
        });
    }
    told.map_err(io::Error::from).doing("convert", shown(&at))?;
    rebuild.finish().doing("convert", &upper)
}

fn path_of(change: &Change<'_>) -> Vec<u8> {
    match *change {
        Change::Entry { path, .. } | Change::Link { path, .. } => path.to_vec(),
        Change::Whiteout { dir: b"", name } => name.to_vec(),
        Change::Whiteout { dir, name } => [dir, b"/", name].concat(),
        Change::Opaque { dir } => dir.to_vec(),
    }
}

fn unsupported(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

impl Rebuild<'_> {
    fn change(&mut self, change: Change<'_>) -> io::Result<()> {
        let path = path_of(&change);
        match change {
            Change::Entry { path: b"", .. } => Ok(()),
            Change::Entry { attr, .. } => self.entry(&path, &attr),
            Change::Link { target, .. } => {
                self.check_name(&path)?;
                let (dir, name) = self.place(&path)?;
                let (from, first) = self.place(target)?;
                Ok(call::linkat(&from, &*first, &dir, &*name, AtFlags::empty())?)
            }
            Change::Whiteout { .. } => {
                let (dir, name) = self.place(&path)?;
                self.whiteout(&dir, &name)
            }
            Change::Opaque { .. } => {
                let dir = sys::open_beneath(self.new.as_fd(), &path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                match self.to {
                    Spelling::Overlayfs => {
                        let name = [private_xattr::OVERLAY[0], b"opaque"].concat();
                        Ok(call::fsetxattr(&dir, &*name, b"y", XattrFlags::empty())?)
                    }
                    Spelling::Aufs => create(&dir, whiteout::OPAQUE, b""),
                }
            }
        }
    }

    fn whiteout(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        match self.to {
            Spelling::Overlayfs => Ok(call::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)?),
            Spelling::Aufs => {
                let (file, content) = whiteout::on_disk(name);
                create(dir, &file, &content)
            }
        }
    }

    fn check_name(&self, path: &[u8]) -> io::Result<()> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if self.to == Spelling::Aufs && whiteout::is_reserved(name) {
            return Err(unsupported(&format!("{}: rename it, or use --io kernel", whiteout::RESERVED)));
        }
        Ok(())
    }

    /// The directory of a path in the new rw layer, and the name in it.
    fn place(&self, path: &[u8]) -> io::Result<(OwnedFd, Vec<u8>)> {
        let at = path.iter().rposition(|byte| *byte == b'/');
        let (dir, name) = at.and_then(|at| path.split_at_checked(at)).unwrap_or((b"", path));
        let dir = match dir {
            b"" => rustix::io::fcntl_dupfd_cloexec(&self.new, 0)?,
            dir => sys::open_beneath(self.new.as_fd(), dir, OFlags::RDONLY | OFlags::DIRECTORY)?,
        };
        Ok((dir, name.strip_prefix(b"/").unwrap_or(name).to_vec()))
    }

    fn entry(&mut self, path: &[u8], attr: &Attr) -> io::Result<()> {
        self.check_name(path)?;
        let (dir, name) = self.place(path)?;
        let private = Mode::RWXU;
        match attr.kind {
            Kind::Directory => {
                call::mkdirat(&dir, &*name, private)?;
                // The union may have forgotten it by then.
                self.dirs.push((path.to_vec(), *attr, self.union.xattrs(attr.ino)?));
                return Ok(());
            }
            Kind::File => {
                if self.link(path, attr, &dir, &name)? {
                    return Ok(());
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let file = sys::open_in(&dir, &name, flags, Mode::RUSR | Mode::WUSR)?;
                self.copy(attr, &file)?;
            }
            Kind::Symlink => {
                let target = self.union.readlink(attr.ino)?;
                call::symlinkat(&*target, &dir, &*name)?;
            }
            Kind::CharDevice if attr.rdev == (0, 0) => {
                return Err(unsupported(
                    "is a character device 0:0, which overlayfs takes for a whiteout: remove it, or use --io cached",
                ));
            }
            kind => {
                let device = rustix::fs::makedev(attr.rdev.0, attr.rdev.1);
                call::mknodat(&dir, &*name, FileType::from_raw_mode(kind.mode_bits()), private, device)?;
            }
        }
        describe(&dir, &name, attr, &self.union.xattrs(attr.ino)?, self.to)
    }

    /// Gives a file of the old rw layer one more name, unless there is something about it that the new one says otherwise.
    fn link(&self, path: &[u8], attr: &Attr, dir: &OwnedFd, name: &[u8]) -> io::Result<bool> {
        if !self.union.is_changed(attr.ino) {
            return Ok(false);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let file = match sys::open_beneath(self.old.as_fd(), path, flags) {
            // A file of overlayfs' index, under one of its other names.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            file => file?,
        };
        let stat = call::fstat(&file)?;
        if Kind::from_mode(stat.st_mode) != Some(Kind::File) || u64::try_from(stat.st_size) != Ok(attr.size) {
            return Ok(false);
        }
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        let names = match sys::list_xattrs_following(opened.as_bytes()) {
            Err(Errno::NOTSUP) => Vec::new(),
            names => names?,
        };
        if names.iter().any(|name| private_xattr::is_mark(name)) {
            return Ok(false);
        }
        match call::linkat(CWD, &*opened, dir, name, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            Err(Errno::MLINK | Errno::PERM | Errno::XDEV) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn copy(&self, attr: &Attr, file: &OwnedFd) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        let zeros = vec![0; PIECE];
        let mut at = 0u64;
        while at < attr.size {
            let read = self.union.read(attr.ino, at, &mut buffer)?;
            let mut rest = buffer.get(..read).unwrap_or_default();
            if rest.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut to = at;
            if Some(rest) == zeros.get(..read) {
                rest = &[];
            }
            while !rest.is_empty() {
                let written = call::pwrite(file, rest, to)?;
                to = to.saturating_add(written as u64);
                rest = rest.get(written..).unwrap_or_default();
            }
            at = at.saturating_add(read as u64);
        }
        Ok(call::ftruncate(file, attr.size)?)
    }

    fn finish(self) -> io::Result<()> {
        for (path, attr, xattrs) in self.dirs.iter().rev() {
            let dir = sys::open_beneath(self.new.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            describe(&dir, b"", attr, xattrs, self.to)?;
        }
        if self.to == Spelling::Aufs {
            // The root has its own attributes, and not those of the layers.
            let name = [private_xattr::OWN[0], private_xattr::DESCRIBED].concat();
            call::fsetxattr(&self.new, &*name, b"y", XattrFlags::empty())?;
        }
        describe(&self.new, b"", &self.union.getattr(Ino::ROOT)?, &self.union.xattrs(Ino::ROOT)?, self.to)
    }
}

fn create(dir: &OwnedFd, name: &[u8], content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = sys::open_in(dir, name, flags, Mode::from_raw_mode(0o644))?;
    if !content.is_empty() && call::pwrite(&file, content, 0)? != content.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Sets owner, mode, attributes and times of `name` in `dir`, which is not followed; of `dir` itself without a name.
pub(super) fn describe(dir: &OwnedFd, name: &[u8], attr: &Attr, xattrs: &Xattrs, to: Spelling) -> io::Result<()> {
    let path = sys::proc_path(dir.as_fd(), name);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(attr.uid), Gid::from_raw(attr.gid));
    call::chownat(CWD, &*path, Some(uid), Some(gid), flags)?;
    for (name, value) in xattrs {
        let name = match to {
            Spelling::Aufs => private_xattr::escape(name),
            Spelling::Overlayfs => private_xattr::overlay_escaped(name),
        };
        call::lsetxattr(&*path, &*name, value, XattrFlags::empty())?;
    }
    if attr.kind != Kind::Symlink {
        call::chmod(&*path, Mode::from_raw_mode(attr.mode))?;
    }
    let time = |time: Time| Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() };
    let times = Timestamps { last_access: time(attr.atime), last_modification: time(attr.mtime) };
    Ok(call::utimensat(CWD, &*path, &times, flags)?)
}
