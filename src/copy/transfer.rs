//! One tree's files into another.

use std::collections::HashMap;
use std::io;

use crate::copy::tree::{Id, Stat, Tree};
use crate::index::{Kind, Meta, Xattrs};
use crate::whiteout;

/// Copies from one tree to another.
pub(super) struct Transfer<'a, S: Tree, D: Tree> {
    from: &'a S,
    to: &'a D,
    /// The user and group that own all that is made, if not those of the source. Then no set-id bit and no extended attribute
    /// is copied: with another owner they would give other rights.
    owner: Option<(u32, u32)>,
    /// The target is a container, which has no names that begin with `.wh.`.
    into_container: bool,
    /// Files of several names, with one that was made.
    made: HashMap<Id, (D::Dir, Vec<u8>, Id)>,
    temporary: u64,
    /// What is being copied, for messages.
    pub(super) at: Vec<u8>,
}

/// The name of a file that is being copied.
const TEMPORARY: &[u8] = b".layerctl-cp";

/// Removes a name, if it is there.
fn unlink<T: Tree>(tree: &T, dir: &T::Dir, name: &[u8]) -> io::Result<()> {
    match tree.unlink(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A directory whose entries are being copied.
struct Frame<S: Tree, D: Tree> {
    from: S::Dir,
    to: D::Dir,
    /// Those still to be copied, last first.
    names: Vec<Vec<u8>>,
    /// What the directory gets when all is in it, which changes its time.
    describe: Option<(Meta, Xattrs)>,
    /// Bytes of the path.
    at: usize,
}

impl<'a, S: Tree, D: Tree> Transfer<'a, S, D> {
    pub(super) fn new(from: &'a S, to: &'a D, owner: Option<(u32, u32)>, into_container: bool) -> Self {
        Self { from, to, owner, into_container, made: HashMap::new(), temporary: 0, at: Vec::new() }
    }

    /// Copies what is in the directory `from` into the directory `to`.
    pub(super) fn content(&mut self, from: S::Dir, to: D::Dir) -> io::Result<()> {
        let frame = self.frame(from, to, None)?;
        self.run(frame)
    }

    /// Copies the entry `name` of the directory `from` to the name `new` in `to`.
    pub(super) fn entry(&mut self, from: &S::Dir, name: &[u8], to: &D::Dir, new: &[u8]) -> io::Result<()> {
        match self.one(from, name, to, new)? {
            Some(frame) => self.run(frame),
            None => Ok(()),
        }
    }

    fn run(&mut self, first: Frame<S, D>) -> io::Result<()> {
        let mut stack = vec![first];
        while let Some(frame) = stack.last_mut() {
            self.at.truncate(frame.at);
            let Some(name) = frame.names.pop() else {
                if let Some((meta, xattrs)) = &frame.describe {
                    self.to.describe(&frame.to, meta, xattrs)?;
                }
                stack.pop();
                continue;
            };
            self.at.push(b'/');
            self.at.extend_from_slice(&name);
            let (from, to) = (frame.from.clone(), frame.to.clone());
            stack.extend(self.one(&from, &name, &to, &name)?);
        }
        Ok(())
    }

    fn frame(&self, from: S::Dir, to: D::Dir, describe: Option<(Meta, Xattrs)>) -> io::Result<Frame<S, D>> {
        let mut names = self.from.names(&from)?;
        names.reverse();
        Ok(Frame { from, to, names, describe, at: self.at.len() })
    }

    /// Copies one entry; of a directory only itself.
    fn one(&mut self, from: &S::Dir, name: &[u8], to: &D::Dir, new: &[u8]) -> io::Result<Option<Frame<S, D>>> {
        if self.into_container && whiteout::is_reserved(new) {
            return Err(io::Error::other(whiteout::RESERVED));
        }
        let stat = self.from.stat(from, name)?.ok_or(rustix::io::Errno::NOENT)?;
        let there = self.to.stat(to, new)?.map(|stat| stat.meta.kind);
        match (stat.meta.kind, there) {
            // No process would listen at a copied socket.
            (Kind::Socket, _) => return Ok(None),
            (Kind::Directory, Some(kind)) if kind != Kind::Directory => return Err(rustix::io::Errno::NOTDIR.into()),
            (Kind::Directory, _) => {}
            (_, Some(Kind::Directory)) => return Err(rustix::io::Errno::ISDIR.into()),
            _ => return self.leaf(&stat, from, name, to, new).map(|()| None),
        }
        if there.is_none() {
            self.to.mkdir(to, new)?;
        }
        let implied = Meta::implied_directory();
        let is_implied = (stat.meta.mode, stat.meta.uid, stat.meta.gid, stat.meta.mtime)
            == (implied.mode, implied.uid, implied.gid, implied.mtime);
        // A tar that has only a path through a directory says nothing of it.
        let describe = match there.is_some() && is_implied {
            true => None,
            false => Some(self.described(&stat, from, name)?),
        };
        self.frame(self.from.enter(from, name)?, self.to.enter(to, new)?, describe).map(Some)
    }

    /// What is no directory is made under another name, so that what it replaces is there until it is whole.
    fn leaf(&mut self, stat: &Stat, from: &S::Dir, name: &[u8], to: &D::Dir, new: &[u8]) -> io::Result<()> {
        let reserved = self.to.reserve(to)?;
        let temporary = self.temporary(reserved.is_some(), to)?;
        let placed = self.make(stat, from, name, to, &temporary).and_then(|made| {
            self.to.rename(to, &temporary, &made, new)?;
            self.to.id(&made)
        });
        // Two names of one file stay two names when one is renamed to the other.
        let is_link = stat.nlink > 1 && self.made.contains_key(&stat.id);
        let id = match placed {
            Ok(id) => id,
            Err(error) => {
                #[expect(
                    clippy::let_underscore_must_use,
                    reason = "the first failure is told; the next copy removes it"
                )]
                let _ = self.to.unlink(to, &temporary);
                return Err(error);
            }
        };
        if is_link {
            unlink(self.to, to, &temporary)?;
        }
        drop(reserved);
        if stat.nlink > 1 {
            self.made.entry(stat.id).or_insert_with(|| (to.clone(), new.to_vec(), id));
        }
        Ok(())
    }

    /// A name for what is not yet whole. Where the directory is reserved it is always the same, and what a killed copy has
    /// left there goes.
    fn temporary(&mut self, is_reserved: bool, to: &D::Dir) -> io::Result<Vec<u8>> {
        if is_reserved {
            match unlink(self.to, to, TEMPORARY) {
                // Another user's, in a directory such as /tmp.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                removed => return removed.map(|()| TEMPORARY.to_vec()),
            }
        }
        self.temporary = self.temporary.saturating_add(1);
        let own = format!("-{}-{}", std::process::id(), self.temporary);
        Ok([TEMPORARY, own.as_bytes()].concat())
    }

    fn make(&self, stat: &Stat, from: &S::Dir, name: &[u8], to: &D::Dir, new: &[u8]) -> io::Result<D::Dir> {
        if let Some((dir, made, id)) = self.made.get(&stat.id).filter(|_| stat.nlink > 1) {
            return self.to.link((dir, made, *id), to, new);
        }
        let made = match stat.meta.kind {
            Kind::File => self.to.file(to, new, &mut *self.from.content(from, name)?)?,
            Kind::Symlink => self.to.symlink(to, new, &self.from.readlink(from, name)?)?,
            _ => self.to.special(to, new, &stat.meta)?,
        };
        let (meta, xattrs) = self.described(stat, from, name)?;
        self.to.describe(&made, &meta, &xattrs)?;
        Ok(made)
    }

    fn described(&self, stat: &Stat, from: &S::Dir, name: &[u8]) -> io::Result<(Meta, Xattrs)> {
        match self.owner {
            Some((uid, gid)) => Ok((Meta { uid, gid, mode: stat.meta.mode & 0o1777, ..stat.meta }, Xattrs::new())),
            None => Ok((stat.meta, self.from.xattrs(from, name)?)),
        }
    }
}
