//! Operations on a [`Union`] by path, as a mount would carry them out.
//!
//! A mount's kernel looks at a call before FUSE sees it. So that results can be compared with those of a
//! plain directory, the driver makes exactly these checks, each named where it is made, and no others:
//! walking a path, what exists already, what is a directory, and the loops of `rename`.
//! Every reference that an operation takes is given back (or all are kept, as a kernel with much memory does).

use std::collections::BTreeMap;
use std::sync::Arc;

use layerctl::index::Kind;
use layerctl::union::{Attr, Caller, Errno, FsResult, Ino, NewFile, RenameMode, SetAttr, SetTime, Union};

use super::tree_op::{Name, Op, Outcome, Path, Stat, Tree, Value, When};

/// The user whose operations these are.
pub(crate) const ROOT_USER: Caller = Caller { uid: 0, gid: 0, process: None };

/// An inode with the reference that a lookup or a creation took.
#[derive(Debug)]
pub(crate) struct Held {
    union: Arc<Union>,
    pub(crate) attr: Attr,
    counted: bool,
}

impl Held {
    pub(crate) fn ino(&self) -> Ino {
        self.attr.ino
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.counted {
            self.union.forget(self.attr.ino, 1);
        }
    }
}

/// A union with paths for names.
#[derive(Debug)]
pub(crate) struct UnionTree {
    pub(crate) union: Arc<Union>,
    /// Whether references are kept until the tree is dropped.
    keep: bool,
    kept: Vec<Held>,
    slots: BTreeMap<usize, Held>,
}

impl UnionTree {
    pub(crate) fn new(union: Arc<Union>, keep: bool) -> Self {
        Self { union, keep, kept: Vec::new(), slots: BTreeMap::new() }
    }

    /// Gives back every reference, so that the union can be dropped.
    pub(crate) fn close(&mut self) {
        self.slots.clear();
        self.kept.clear();
    }

    pub(crate) fn held(&self, attr: Attr) -> Held {
        Held { union: Arc::clone(&self.union), attr, counted: true }
    }

    fn root(&self) -> FsResult<Held> {
        Ok(Held { union: Arc::clone(&self.union), attr: self.union.getattr(Ino::ROOT)?, counted: false })
    }

    /// Walks `path` without following a link at its end; a link on the way is ELOOP, as `RESOLVE_NO_SYMLINKS`
    /// says, and anything else on the way that is no directory ENOTDIR (`link_path_walk`).
    pub(crate) fn lookup(&self, path: &[Name]) -> FsResult<Held> {
        let mut at = self.root()?;
        for name in path {
            enter(&at)?;
            at = self.held(self.union.lookup(at.ino(), name)?);
        }
        Ok(at)
    }

    /// The directory that holds `path`, and the last component. The root has no name: EBUSY.
    fn parent<'p>(&self, path: &'p [Name]) -> FsResult<(Held, &'p [u8])> {
        let (name, dirs) = path.split_last().ok_or(Errno::EBUSY)?;
        let parent = self.lookup(dirs)?;
        enter(&parent)?;
        Ok((parent, name))
    }

    /// `filename_create`: what exists is EEXIST before the file system is asked to make it.
    fn absent<'p>(&self, path: &'p [Name]) -> FsResult<(Held, &'p [u8])> {
        let (parent, name) = self.parent(path)?;
        match self.union.lookup(parent.ino(), name) {
            Ok(attr) => {
                drop(self.held(attr));
                Err(Errno::EEXIST)
            }
            Err(Errno::ENOENT) => Ok((parent, name)),
            Err(other) => Err(other),
        }
    }

    /// A regular file. EISDIR and, for what the oracle leaves alone, EINVAL: both halves say the same.
    pub(crate) fn file(&self, path: &[Name]) -> FsResult<Held> {
        let held = self.lookup(path)?;
        match held.attr.kind {
            Kind::File => Ok(held),
            Kind::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    fn done(&mut self, held: impl IntoIterator<Item = Held>) -> FsResult<Value> {
        let held = held.into_iter();
        if self.keep {
            self.kept.extend(held);
        } else {
            held.for_each(drop);
        }
        Ok(Value::Nothing)
    }

    fn set(&mut self, held: Held, set: &SetAttr) -> FsResult<Value> {
        self.union.setattr(held.ino(), set, ROOT_USER).untold()?;
        self.done([held])
    }

    fn slot(&self, slot: usize) -> FsResult<Ino> {
        self.slots.get(&slot).map(Held::ino).ok_or(Errno(libc::EBADF))
    }

    /// `xattr_permission`: `user.*` is for regular files and directories only.
    fn xattr_target(&self, path: &[Name], name: &[u8], refused: Errno) -> FsResult<Held> {
        let held = self.lookup(path)?;
        if name.starts_with(b"user.") && !matches!(held.attr.kind, Kind::File | Kind::Directory) {
            return Err(refused);
        }
        Ok(held)
    }

    fn rename(&mut self, from: &[Name], to: &[Name], mode: RenameMode) -> FsResult<Value> {
        let (old, old_name) = self.parent(from)?;
        let (new, new_name) = self.parent(to)?;
        let source = self.held(self.union.lookup(old.ino(), old_name)?);
        let target = match self.union.lookup(new.ino(), new_name) {
            Ok(attr) => Some(self.held(attr)),
            Err(Errno::ENOENT) => None,
            Err(other) => return Err(other),
        };
        // do_renameat2, in its order: flags against what exists, then the two loops.
        match (mode, &target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Errno::EEXIST),
            (RenameMode::Exchange, None) => return Err(Errno::ENOENT),
            _ => {}
        }
        if to.len() > from.len() && to.starts_with(from) {
            return Err(Errno::EINVAL);
        }
        if from.len() > to.len() && from.starts_with(to) {
            return Err(if mode == RenameMode::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if let Some(target) = &target {
            // vfs_rename: two names of one file stay as they are.
            if target.ino() == source.ino() {
                return Ok(Value::Nothing);
            }
            // may_delete: a directory replaces directories only, and nothing else replaces one.
            if mode != RenameMode::Exchange {
                match (source.attr.kind, target.attr.kind) {
                    (Kind::Directory, Kind::Directory) => {}
                    (Kind::Directory, _) => return Err(Errno::ENOTDIR),
                    (_, Kind::Directory) => return Err(Errno::EISDIR),
                    _ => {}
                }
            }
        }
        self.union.rename((old.ino(), old_name), (new.ino(), new_name), mode)?;
        self.done([old, new, source].into_iter().chain(target))
    }

    fn run(&mut self, op: &Op<Path>) -> FsResult<Value> {
        match op {
            Op::Create { path, mode, umask } => {
                let (parent, name) = self.absent(path)?;
                let new = NewFile { kind: Kind::File, mode: *mode, umask: *umask, rdev: (0, 0) };
                let made = self.union.create(parent.ino(), name, new, ROOT_USER)?;
                self.done([self.held(made), parent])
            }
            Op::Mkdir { path, mode, umask } => {
                let (parent, name) = self.absent(path)?;
                // vfs_prepare_mode: no suid or sgid for a new directory.
                let made = self.union.mkdir(parent.ino(), name, mode & 0o1777, *umask, ROOT_USER)?;
                self.done([self.held(made), parent])
            }
            Op::Mknod { path, kind, mode, rdev } => {
                let (parent, name) = self.absent(path)?;
                let new = NewFile { kind: *kind, mode: *mode, umask: 0, rdev: *rdev };
                let made = self.union.create(parent.ino(), name, new, ROOT_USER)?;
                self.done([self.held(made), parent])
            }
            Op::Symlink { path, target } => {
                let (parent, name) = self.absent(path)?;
                let made = self.union.symlink(parent.ino(), name, target, ROOT_USER)?;
                self.done([self.held(made), parent])
            }
            Op::Link { from, to } => {
                let source = self.lookup(from)?;
                let (parent, name) = self.absent(to)?;
                // vfs_link: a directory has one name.
                if source.attr.kind == Kind::Directory {
                    return Err(Errno::EPERM);
                }
                let made = self.held(self.union.link(source.ino(), parent.ino(), name)?);
                if made.ino() != source.ino() {
                    return Err(Errno::EIO);
                }
                self.done([made, source, parent])
            }
            Op::Unlink { path } => {
                let (parent, name) = self.parent(path)?;
                let victim = self.held(self.union.lookup(parent.ino(), name)?);
                // may_delete
                if victim.attr.kind == Kind::Directory {
                    return Err(Errno::EISDIR);
                }
                self.union.unlink(parent.ino(), name)?;
                self.done([victim, parent])
            }
            Op::Rmdir { path } => {
                let (parent, name) = self.parent(path)?;
                let victim = self.held(self.union.lookup(parent.ino(), name)?);
                // may_delete
                if victim.attr.kind != Kind::Directory {
                    return Err(Errno::ENOTDIR);
                }
                self.union.rmdir(parent.ino(), name)?;
                self.done([victim, parent])
            }
            Op::Rename { from, to, mode } => self.rename(from, to, *mode),
            Op::Write { path, offset, data } => {
                let file = self.file(path)?;
                self.write(file.ino(), *offset, data)
            }
            Op::Append { path, data } => {
                let file = self.file(path)?;
                self.write(file.ino(), file.attr.size, data)
            }
            Op::Truncate { path, size } => {
                let file = self.file(path)?;
                self.set(file, &SetAttr { size: Some(*size), ..SetAttr::default() })
            }
            Op::Chmod { path, mode } => {
                let file = self.lookup(path)?;
                // fchmodat follows links, and the oracle follows none.
                if file.attr.kind == Kind::Symlink {
                    return Err(Errno::ENOTSUP);
                }
                self.set(file, &SetAttr { mode: Some(*mode), ..SetAttr::default() })
            }
            Op::Chown { path, uid, gid } => {
                let file = self.lookup(path)?;
                self.set(file, &SetAttr { uid: *uid, gid: *gid, ..SetAttr::default() })
            }
            Op::Utimens { path, mtime } => {
                let file = self.lookup(path)?;
                let mtime = Some(mtime.map_or(SetTime::Now, SetTime::At));
                self.set(file, &SetAttr { mtime, ..SetAttr::default() })
            }
            Op::SetXattr { path, name, value, flags } => {
                let file = self.xattr_target(path, name, Errno::EPERM)?;
                self.union.setxattr(file.ino(), name, value, *flags, ROOT_USER).untold()?;
                self.done([file])
            }
            Op::RemoveXattr { path, name } => {
                let file = self.xattr_target(path, name, Errno::EPERM)?;
                self.union.removexattr(file.ino(), name).untold()?;
                self.done([file])
            }
            Op::GetXattr { path, name } => {
                let file = self.xattr_target(path, name, Errno::ENODATA)?;
                self.union.getxattr(file.ino(), name).map(Value::Bytes)
            }
            Op::Fallocate { path, mode, offset, length } => {
                let file = self.file(path)?;
                self.union
                    .fallocate(file.ino(), *offset, *length, *mode, ROOT_USER, layerctl::union::Times::Move)
                    .untold()?;
                self.done([file])
            }
            Op::Readlink { path } => {
                let file = self.lookup(path)?;
                if file.attr.kind != Kind::Symlink {
                    return Err(Errno::EINVAL);
                }
                self.union.readlink(file.ino()).map(Value::Bytes)
            }
            Op::Readdir { path } => {
                let dir = self.lookup(path)?;
                enter(&dir)?;
                let names = self.entries(dir.ino())?;
                Ok(Value::Names(names.into_iter().map(|(name, (_, kind))| (name, kind)).collect()))
            }
            Op::Read { path, offset, length } => {
                let file = self.file(path)?;
                self.read(file.ino(), *offset, *length).map(Value::Bytes)
            }
            Op::Seek { path, offset, whence } => self.seek(path, *offset, *whence),
            Op::CopyRange { from, to, offset, length } => {
                let (from, to) = (self.file(from)?, self.file(to)?);
                // Overlapping ranges of one file are refused before a file system is asked: left out.
                if from.ino() == to.ino() {
                    return Err(Errno::EINVAL);
                }
                let mut done = 0;
                while done < *length {
                    let at = offset + done;
                    match self
                        .union
                        .copy_file_range(
                            (from.ino(), at),
                            (to.ino(), at),
                            length - done,
                            ROOT_USER,
                            layerctl::union::Times::Move,
                        )
                        .untold()?
                    {
                        0 => break,
                        copied => done += copied,
                    }
                }
                Ok(Value::Number(done))
            }
            Op::Stat { path } => {
                let file = self.lookup(path)?;
                let stat = stat_of(&self.union.getattr(file.ino())?);
                self.done([file])?;
                Ok(Value::Stat(stat))
            }
            Op::Open { path, slot } => {
                let file = self.file(path)?;
                self.slots.insert(*slot, file);
                Ok(Value::Nothing)
            }
            Op::Close { slot } => self.slots.remove(slot).map_or(Ok(Value::Nothing), |held| self.done([held])),
            Op::SlotRead { slot, offset, length } => self.read(self.slot(*slot)?, *offset, *length).map(Value::Bytes),
            Op::SlotWrite { slot, offset, data } => self.write(self.slot(*slot)?, *offset, data),
            Op::SlotTruncate { slot, size } => {
                let set = SetAttr { size: Some(*size), ..SetAttr::default() };
                self.union.setattr(self.slot(*slot)?, &set, ROOT_USER).untold().map(|_| Value::Nothing)
            }
            Op::SlotStat { slot } => Ok(Value::Stat(stat_of(&self.union.getattr(self.slot(*slot)?)?))),
            Op::Reopen => {
                self.close();
                Ok(Value::Nothing)
            }
        }
    }

    fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> FsResult<Value> {
        self.union.write(ino, offset, data, None, layerctl::union::Times::Move).untold().map(Value::Number)
    }

    /// Reads as the kernel does, in pieces.
    pub(crate) fn read(&self, ino: Ino, offset: u64, length: usize) -> FsResult<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 4096];
        while bytes.len() < length {
            let want = buffer.len().min(length - bytes.len());
            let read = self.union.read(ino, offset + bytes.len() as u64, &mut buffer[..want])?;
            bytes.extend_from_slice(&buffer[..read]);
            if read < want {
                break;
            }
        }
        Ok(bytes)
    }

    /// ENXIO past the end; otherwise the answer must lie in the file, and what it passes over be zeros.
    fn seek(&self, path: &[Name], offset: u64, whence: i32) -> FsResult<Value> {
        let file = self.file(path)?;
        let size = self.union.getattr(file.ino())?.size;
        let start = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        match self.union.lseek(file.ino(), start, whence) {
            Err(Errno::ENXIO) if offset >= size => Err(Errno::ENXIO),
            Err(Errno::ENXIO) if whence == libc::SEEK_DATA => self.zeros(file.ino(), offset, size),
            Ok(found) if offset >= size || found < offset || found > size => Err(Errno::EIO),
            Ok(found) if whence == libc::SEEK_DATA => self.zeros(file.ino(), offset, found),
            other => other.map(|_| Value::Nothing),
        }
    }

    fn zeros(&self, ino: Ino, from: u64, to: u64) -> FsResult<Value> {
        let length = usize::try_from(to - from).map_err(|_| Errno::EFBIG)?;
        let bytes = self.read(ino, from, length)?;
        if bytes.iter().all(|byte| *byte == 0) { Ok(Value::Nothing) } else { Err(Errno::EIO) }
    }

    /// All entries of a directory, read a few at a time.
    pub(crate) fn entries(&self, ino: Ino) -> FsResult<BTreeMap<Name, (Ino, Kind)>> {
        let mut names = BTreeMap::new();
        let (mut offset, mut batch) = (0, 1);
        loop {
            let mut left = batch;
            let mut twice = false;
            self.union.readdir(ino, offset, false, &mut |entry| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                offset = entry.next;
                twice |= names.insert(entry.name.to_vec(), (entry.ino, entry.kind)).is_some();
                true
            })?;
            if twice {
                return Err(Errno::EIO);
            }
            if left == batch {
                return Ok(names);
            }
            batch = batch * 2 + 1;
        }
    }
}

impl Tree for UnionTree {
    fn apply(&mut self, op: &Op<Path>) -> Outcome {
        self.run(op).map_err(|errno| errno.0)
    }
}

/// `link_path_walk`: what is walked through.
fn enter(held: &Held) -> FsResult<()> {
    match held.attr.kind {
        Kind::Directory => Ok(()),
        Kind::Symlink => Err(Errno::ELOOP),
        _ => Err(Errno::ENOTDIR),
    }
}

/// What two file systems can share of a `stat`.
pub(crate) fn stat_of(attr: &Attr) -> Stat {
    Stat {
        kind: attr.kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        nlink: attr.nlink,
        rdev: attr.rdev,
        size: if matches!(attr.kind, Kind::File | Kind::Symlink) { attr.size } else { 0 },
        mtime: When::new(attr.mtime),
    }
}
