//! Operations on a plain directory through ordinary system calls: the oracle's half that is always right.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path as FsPath;

use layerctl::index::{Kind, Time};
use layerctl::union::RenameMode;
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags,
};
use rustix::io::Errno;

use super::tree_op::{Name, Op, Outcome, Path, Stat, Tree, Value, When};

type Res<T> = Result<T, Errno>;

/// A plain directory.
#[derive(Debug)]
pub(crate) struct PlainTree {
    root: OwnedFd,
    slots: BTreeMap<usize, OwnedFd>,
}

impl PlainTree {
    /// Takes an existing directory. The process' umask becomes 0: the operations say their own.
    pub(crate) fn open(dir: &FsPath) -> Self {
        rustix::process::umask(Mode::empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self { root: rustix::fs::open(dir, flags, Mode::empty()).expect("the directory opens"), slots: BTreeMap::new() }
    }

    /// The directory at `path`; no link is followed.
    fn dir(&self, path: &[Name]) -> Res<OwnedFd> {
        let joined = if path.is_empty() { b".".to_vec() } else { path.join(&b'/') };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, joined, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH)
    }

    /// The directory that holds `path`, and the last component: `.` for the root.
    fn parent<'p>(&self, path: &'p [Name]) -> Res<(OwnedFd, &'p [u8])> {
        match path.split_last() {
            Some((name, dirs)) => Ok((self.dir(dirs)?, name)),
            None => Ok((self.dir(path)?, b".")),
        }
    }

    fn file(&self, path: &[Name]) -> Res<OwnedFd> {
        let (dir, name) = self.parent(path)?;
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match Kind::from_mode(stat.st_mode) {
            Some(Kind::File) => {}
            Some(Kind::Directory) => return Err(Errno::ISDIR),
            _ => return Err(Errno::INVAL),
        }
        rustix::fs::openat(&dir, name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// A name by which the `l*xattr` calls reach a file without following it.
    fn proc_path(&self, path: &[Name]) -> Res<(OwnedFd, Vec<u8>)> {
        let (dir, name) = self.parent(path)?;
        rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let text = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
        Ok((dir, text))
    }

    /// Bits that a new file gets: a default ACL of its directory takes the umask's place.
    fn masked(&self, path: &[Name], mode: u32, umask: u32) -> Res<Mode> {
        let (dir, _) = self.parent(path)?;
        let text = format!("/proc/self/fd/{}/.", dir.as_raw_fd());
        let has_default = rustix::fs::lgetxattr(text, "system.posix_acl_default", &mut [0u8; 512]).is_ok();
        Ok(Mode::from_raw_mode(if has_default { mode } else { mode & !umask }))
    }

    /// `fsync` of a file.
    pub(crate) fn sync(&self, path: &[Name]) -> Res<()> {
        rustix::fs::fsync(self.file(path)?)
    }

    fn slot(&self, slot: usize) -> Res<&OwnedFd> {
        self.slots.get(&slot).ok_or(Errno::BADF)
    }

    /// All names of a directory.
    pub(crate) fn names(&self, path: &[Name]) -> Res<BTreeMap<Name, Kind>> {
        // First as a path: what is no directory must fail as it does for the union.
        let dir = self.dir(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&dir, ".", flags, Mode::empty())?;
        let mut names = BTreeMap::new();
        for entry in rustix::fs::Dir::new(dir)? {
            let entry = entry?;
            let kind = Kind::from_mode(entry.file_type().as_raw_mode()).ok_or(Errno::IO)?;
            names.insert(entry.file_name().to_bytes().to_vec(), kind);
        }
        Ok(names)
    }

    fn run(&mut self, op: &Op<Path>) -> Res<Value> {
        match op {
            Op::Create { path, mode, umask } => {
                let mode = self.masked(path, *mode, *umask)?;
                let (dir, name) = self.parent(path)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
                rustix::fs::openat(&dir, name, flags, mode)?;
            }
            Op::Mkdir { path, mode, umask } => {
                let mode = self.masked(path, *mode, *umask)?;
                let (dir, name) = self.parent(path)?;
                rustix::fs::mkdirat(&dir, name, mode)?;
            }
            Op::Mknod { path, kind, mode, rdev } => {
                let (dir, name) = self.parent(path)?;
                let kind = rustix::fs::FileType::from_raw_mode(kind.mode_bits());
                let device = rustix::fs::makedev(rdev.0, rdev.1);
                rustix::fs::mknodat(&dir, name, kind, Mode::from_raw_mode(*mode), device)?;
            }
            Op::Symlink { path, target } => {
                let (dir, name) = self.parent(path)?;
                rustix::fs::symlinkat(target.as_slice(), &dir, name)?;
            }
            Op::Link { from, to } => {
                let (old, old_name) = self.parent(from)?;
                rustix::fs::statat(&old, old_name, AtFlags::SYMLINK_NOFOLLOW)?;
                let (new, new_name) = self.parent(to)?;
                rustix::fs::linkat(&old, old_name, &new, new_name, AtFlags::empty())?;
            }
            Op::Unlink { path } => {
                let (dir, name) = self.parent(path)?;
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
            }
            Op::Rmdir { path } => {
                let (dir, name) = self.parent(path)?;
                rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?;
            }
            Op::Rename { from, to, mode } => {
                let flags = match mode {
                    RenameMode::Replace => RenameFlags::empty(),
                    RenameMode::NoReplace => RenameFlags::NOREPLACE,
                    RenameMode::Exchange => RenameFlags::EXCHANGE,
                    RenameMode::Whiteout => RenameFlags::WHITEOUT,
                };
                let (old, old_name) = self.parent(from)?;
                let (new, new_name) = self.parent(to)?;
                rustix::fs::renameat_with(&old, old_name, &new, new_name, flags)?;
            }
            Op::Write { path, offset, data } => {
                return write_all(&self.file(path)?, *offset, data);
            }
            Op::Append { path, data } => {
                let file = self.file(path)?;
                let end = rustix::fs::fstat(&file)?.st_size.cast_unsigned();
                return write_all(&file, end, data);
            }
            Op::Truncate { path, size } => rustix::fs::ftruncate(self.file(path)?, *size)?,
            Op::Chmod { path, mode } => {
                let (dir, name) = self.parent(path)?;
                let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if Kind::from_mode(stat.st_mode) == Some(Kind::Symlink) {
                    return Err(Errno::OPNOTSUPP);
                }
                rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(*mode), AtFlags::empty())?;
            }
            Op::Chown { path, uid, gid } => {
                let (dir, name) = self.parent(path)?;
                let uid = uid.map(rustix::fs::Uid::from_raw);
                let gid = gid.map(rustix::fs::Gid::from_raw);
                rustix::fs::chownat(&dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Op::Utimens { path, mtime } => {
                let (dir, name) = self.parent(path)?;
                rustix::fs::utimensat(&dir, name, &timestamps(*mtime), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Op::SetXattr { path, name, value, flags } => {
                let (_dir, text) = self.proc_path(path)?;
                let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
                rustix::fs::lsetxattr(text, name.as_slice(), value, flags)?;
            }
            Op::RemoveXattr { path, name } => {
                let (_dir, text) = self.proc_path(path)?;
                rustix::fs::lremovexattr(text, name.as_slice())?;
            }
            Op::GetXattr { path, name } => {
                let (_dir, text) = self.proc_path(path)?;
                return layerctl::sys::read_xattr(&text, name).map(Value::Bytes);
            }
            Op::Fallocate { path, mode, offset, length } => {
                let mode = rustix::fs::FallocateFlags::from_bits_retain(mode.cast_unsigned());
                rustix::fs::fallocate(self.file(path)?, mode, *offset, *length)?;
            }
            Op::Readlink { path } => {
                let (dir, name) = self.parent(path)?;
                let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if Kind::from_mode(stat.st_mode) != Some(Kind::Symlink) {
                    return Err(Errno::INVAL);
                }
                let target = rustix::fs::readlinkat(&dir, name, Vec::new())?;
                return Ok(Value::Bytes(target.into_bytes()));
            }
            Op::Readdir { path } => return self.names(path).map(Value::Names),
            Op::Read { path, offset, length } => return read_all(&self.file(path)?, *offset, *length),
            Op::Seek { path, offset, whence } => {
                let file = self.file(path)?;
                let from = if *whence == libc::SEEK_DATA { SeekFrom::Data(*offset) } else { SeekFrom::Hole(*offset) };
                if *offset >= rustix::fs::fstat(&file)?.st_size.cast_unsigned() {
                    rustix::fs::seek(&file, from)?;
                }
            }
            Op::CopyRange { from, to, offset, length } => {
                let (from, to) = (self.file(from)?, self.file(to)?);
                // Overlapping ranges of one file are refused before a file system is asked: left out.
                if rustix::fs::fstat(&from)?.st_ino == rustix::fs::fstat(&to)?.st_ino {
                    return Err(Errno::INVAL);
                }
                let Value::Bytes(data) = read_all(&from, *offset, usize::try_from(*length).unwrap_or(usize::MAX))?
                else {
                    return Err(Errno::IO);
                };
                if !data.is_empty() {
                    return write_all(&to, *offset, &data);
                }
                return Ok(Value::Number(0));
            }
            Op::Stat { path } => {
                let (dir, name) = self.parent(path)?;
                return stat_of(&rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?).map(Value::Stat);
            }
            Op::Open { path, slot } => {
                let file = self.file(path)?;
                self.slots.insert(*slot, file);
            }
            Op::Close { slot } => drop(self.slots.remove(slot)),
            Op::SlotRead { slot, offset, length } => return read_all(self.slot(*slot)?, *offset, *length),
            Op::SlotWrite { slot, offset, data } => return write_all(self.slot(*slot)?, *offset, data),
            Op::SlotTruncate { slot, size } => rustix::fs::ftruncate(self.slot(*slot)?, *size)?,
            Op::SlotStat { slot } => return stat_of(&rustix::fs::fstat(self.slot(*slot)?)?).map(Value::Stat),
            Op::Reopen => self.slots.clear(),
        }
        Ok(Value::Nothing)
    }

    /// All directories with the root, and all that is none, for picking from.
    pub(crate) fn list(&self) -> (Vec<Path>, Vec<Path>) {
        let (mut dirs, mut files) = (vec![Path::new()], Vec::new());
        let mut at = 0;
        while let Some(dir) = dirs.get(at).cloned() {
            at += 1;
            for (name, kind) in self.names(&dir).unwrap_or_default() {
                if name == b"." || name == b".." {
                    continue;
                }
                let path = [dir.clone(), vec![name]].concat();
                if kind == Kind::Directory { &mut dirs } else { &mut files }.push(path);
            }
        }
        (dirs, files)
    }
}

impl Tree for PlainTree {
    fn apply(&mut self, op: &Op<Path>) -> Outcome {
        self.run(op).map_err(Errno::raw_os_error)
    }
}

fn timestamps(mtime: Option<Time>) -> Timestamps {
    let last_modification = match mtime {
        Some(time) => Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() },
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}

fn write_all(file: &OwnedFd, offset: u64, data: &[u8]) -> Res<Value> {
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        done += rustix::io::pwrite(file.as_fd(), rest, offset + done as u64)?;
    }
    Ok(Value::Number(done as u64))
}

fn read_all(file: &OwnedFd, offset: u64, length: usize) -> Res<Value> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes.len() < length {
        let want = buffer.len().min(length - bytes.len());
        match rustix::io::pread(file.as_fd(), &mut buffer[..want], offset + bytes.len() as u64)? {
            0 => break,
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(Value::Bytes(bytes))
}

/// What two file systems can share of a `stat`.
pub(crate) fn stat_of(stat: &rustix::fs::Stat) -> Res<Stat> {
    let kind = Kind::from_mode(stat.st_mode).ok_or(Errno::IO)?;
    let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    Ok(Stat {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        nlink: u32::try_from(stat.st_nlink).map_err(|_| Errno::OVERFLOW)?,
        rdev: if device { (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) } else { (0, 0) },
        size: if matches!(kind, Kind::File | Kind::Symlink) { stat.st_size.cast_unsigned() } else { 0 },
        mtime: When::new(Time { sec: stat.st_mtime, nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }),
    })
}
