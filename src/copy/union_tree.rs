//! A union as a tree of `cp`.

use std::io::{self, Read};

use crate::copy::tree::{Id, Reserved, Stat, Tree, copy_data};
use crate::index::{Kind, Meta, Xattrs};
use crate::pack::rw_layer::{Content, meta_of};
use crate::union::{Caller, Errno, Ino, NewFile, RenameMode, SetAttr, SetTime, Times, Union};

/// All that is made is root's at first.
const ROOT: Caller = Caller { uid: 0, gid: 0, process: None };

/// A union, of which this process has the only hold.
pub(super) struct UnionTree<'u>(pub(super) &'u Union);

impl UnionTree<'_> {
    // What was looked up stays known for as long as the command runs.
    fn ino(&self, dir: Ino, name: &[u8]) -> io::Result<Ino> {
        Ok(self.0.lookup(dir, name)?.ino)
    }
}

impl Tree for UnionTree<'_> {
    type Dir = Ino;

    fn root(&self) -> io::Result<Ino> {
        Ok(Ino::ROOT)
    }

    fn stat(&self, dir: &Ino, name: &[u8]) -> io::Result<Option<Stat>> {
        match self.0.lookup(*dir, name) {
            Ok(attr) => Ok(Some(Stat { meta: meta_of(&attr), nlink: attr.nlink, id: (0, attr.ino.0) })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn enter(&self, dir: &Ino, name: &[u8]) -> io::Result<Ino> {
        let attr = self.0.lookup(*dir, name)?;
        if attr.kind == Kind::Directory { Ok(attr.ino) } else { Err(Errno::ENOTDIR.into()) }
    }

    fn names(&self, dir: &Ino) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        self.0.readdir(*dir, 0, false, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                names.push(entry.name.to_vec());
            }
            true
        })?;
        names.sort_unstable();
        Ok(names)
    }

    fn readlink(&self, dir: &Ino, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(self.0.readlink(self.ino(*dir, name)?)?)
    }

    fn xattrs(&self, dir: &Ino, name: &[u8]) -> io::Result<Xattrs> {
        Ok(self.0.xattrs(self.ino(*dir, name)?)?)
    }

    fn content<'a>(&'a self, dir: &Ino, name: &[u8]) -> io::Result<Box<dyn Read + 'a>> {
        Ok(Box::new(Content::new(self.0, self.ino(*dir, name)?)))
    }

    fn mkdir(&self, dir: &Ino, name: &[u8]) -> io::Result<()> {
        self.0.mkdir(*dir, name, 0o700, 0, ROOT)?;
        Ok(())
    }

    fn file(&self, dir: &Ino, name: &[u8], content: &mut dyn Read) -> io::Result<Ino> {
        let new = NewFile { kind: Kind::File, mode: 0o600, umask: 0, rdev: (0, 0) };
        let ino = self.0.create(*dir, name, new, ROOT)?.ino;
        let size =
            copy_data(content, |at, bytes| Ok(self.0.write(ino, at, bytes, None, Times::Move).untold().map(drop)?))?;
        self.0.setattr(ino, &SetAttr { size: Some(size), ..SetAttr::default() }, ROOT).untold()?;
        Ok(ino)
    }

    fn symlink(&self, dir: &Ino, name: &[u8], target: &[u8]) -> io::Result<Ino> {
        Ok(self.0.symlink(*dir, name, target, ROOT)?.ino)
    }

    fn special(&self, dir: &Ino, name: &[u8], meta: &Meta) -> io::Result<Ino> {
        let new = NewFile { kind: meta.kind, mode: 0o600, umask: 0, rdev: meta.rdev };
        Ok(self.0.create(*dir, name, new, ROOT)?.ino)
    }

    fn link(&self, (_, _, (_, ino)): (&Ino, &[u8], Id), dir: &Ino, name: &[u8]) -> io::Result<Ino> {
        self.0.link(Ino(ino), *dir, name)?;
        Ok(Ino(ino))
    }

    fn id(&self, made: &Ino) -> io::Result<Id> {
        Ok((0, made.0))
    }

    fn rename(&self, dir: &Ino, from: &[u8], _: &Ino, to: &[u8]) -> io::Result<()> {
        Ok(self.0.rename((*dir, from), (*dir, to), RenameMode::Replace)?)
    }

    fn unlink(&self, dir: &Ino, name: &[u8]) -> io::Result<()> {
        Ok(self.0.unlink(*dir, name)?)
    }

    fn reserve(&self, _: &Ino) -> io::Result<Option<Reserved>> {
        // The container's lock is held: no other process has its union.
        Ok(Some(Reserved { _lock: None }))
    }

    fn describe(&self, made: &Ino, meta: &Meta, xattrs: &Xattrs) -> io::Result<()> {
        let ino = *made;
        let mode = Some(meta.mode).filter(|_| meta.kind != Kind::Symlink);
        let set = SetAttr { mode, uid: Some(meta.uid), gid: Some(meta.gid), ..SetAttr::default() };
        self.0.setattr(ino, &set, ROOT).untold()?;
        for (name, value) in xattrs {
            match self.0.setxattr(ino, name, value, 0, ROOT).untold() {
                Ok(()) | Err(Errno::ENOTSUP | Errno::EPERM) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let time = Some(SetTime::At(meta.mtime));
        self.0.setattr(ino, &SetAttr { atime: time, mtime: time, ..SetAttr::default() }, ROOT).untold()?;
        Ok(())
    }
}
