//! What `cp` needs of a tree, whether that is a union or directories of the host; and finding a path in it.
//!
//! Each step goes from an open directory to one name in it, and follows nothing: links are followed here, one by one, and
//! never lead out of the root.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use crate::index::{Kind, Meta, Xattrs};
use crate::sys::retry;

/// The same for all names of one file.
pub(super) type Id = (u64, u64);

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) meta: Meta,
    pub(super) nlink: u32,
    /// The same for all names of one file.
    pub(super) id: Id,
}

/// The right to the temporary name in one directory.
pub(super) struct Reserved {
    pub(super) _lock: Option<OwnedFd>,
}

/// A tree. No call follows a link at the name it is given.
pub(super) trait Tree {
    /// An open directory, or another file that was made: it stays that, whatever its name comes to stand for.
    type Dir: Clone;

    fn root(&self) -> io::Result<Self::Dir>;
    fn stat(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Option<Stat>>;
    fn enter(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::Dir>;
    /// All names in it, sorted.
    fn names(&self, dir: &Self::Dir) -> io::Result<Vec<Vec<u8>>>;
    fn readlink(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Vec<u8>>;
    fn xattrs(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Xattrs>;
    fn content<'a>(&'a self, dir: &Self::Dir, name: &[u8]) -> io::Result<Box<dyn Read + 'a>>;

    fn mkdir(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()>;
    /// Makes a file of all that `content` gives.
    fn file(&self, dir: &Self::Dir, name: &[u8], content: &mut dyn Read) -> io::Result<Self::Dir>;
    fn symlink(&self, dir: &Self::Dir, name: &[u8], target: &[u8]) -> io::Result<Self::Dir>;
    fn special(&self, dir: &Self::Dir, name: &[u8], meta: &Meta) -> io::Result<Self::Dir>;
    /// Gives the file `from` one more name, if it still is the one with this id.
    fn link(&self, from: (&Self::Dir, &[u8], Id), dir: &Self::Dir, name: &[u8]) -> io::Result<Self::Dir>;
    fn id(&self, made: &Self::Dir) -> io::Result<Id>;
    /// Renames the file `made`, if that still has the name `from`. Replaces what is no directory.
    fn rename(&self, dir: &Self::Dir, from: &[u8], made: &Self::Dir, to: &[u8]) -> io::Result<()>;
    fn unlink(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()>;
    /// Keeps the temporary name in a directory for this process, for as long as the value lives; `None` when another has it.
    fn reserve(&self, dir: &Self::Dir) -> io::Result<Option<Reserved>>;
    /// Sets owner, mode, attributes and time.
    fn describe(&self, made: &Self::Dir, meta: &Meta, xattrs: &Xattrs) -> io::Result<()>;
}

/// Where a path leads. Its directory is there; something of its name perhaps.
#[derive(Debug, Clone)]
pub(super) struct Resolved<D> {
    pub(super) dir: D,
    /// Empty for the root.
    pub(super) name: Vec<u8>,
    pub(super) found: Option<Stat>,
}

impl<D> Resolved<D> {
    pub(super) fn is_directory(&self) -> bool {
        self.name.is_empty() || self.found.is_some_and(|stat| stat.meta.kind == Kind::Directory)
    }

    pub(super) fn exists(&self) -> bool {
        self.name.is_empty() || self.found.is_some()
    }
}

/// As `MAXSYMLINKS` of Linux.
const LINKS: usize = 40;

/// Finds a path, which counts from the root. A link at its end is followed if that is wanted.
pub(super) fn resolve<T: Tree>(tree: &T, path: &[u8], follow: bool) -> io::Result<Resolved<T::Dir>> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
    };
    let mut todo: VecDeque<Vec<u8>> = parts(path).into();
    let mut dirs = vec![(tree.root()?, Vec::new())];
    let mut links = 0;
    let here = |dirs: &[(T::Dir, Vec<u8>)]| dirs.last().map(|(dir, _)| dir.clone()).ok_or(io::ErrorKind::InvalidInput);
    while let Some(name) = todo.pop_front() {
        let dir = here(&dirs)?;
        if name == b".." {
            if dirs.len() > 1 {
                dirs.pop();
            }
            continue;
        }
        let found = tree.stat(&dir, &name)?;
        let is_last = todo.is_empty();
        match found.map(|stat| stat.meta.kind) {
            Some(Kind::Symlink) if !is_last || follow => {
                links += 1;
                if links > LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let target = tree.readlink(&dir, &name)?;
                if target.starts_with(b"/") {
                    dirs.truncate(1);
                }
                for part in parts(&target).into_iter().rev() {
                    todo.push_front(part);
                }
            }
            Some(Kind::Directory) => {
                // Also the last one: `..` may come after a link to it.
                let inner = tree.enter(&dir, &name)?;
                dirs.push((inner, name));
            }
            _ if is_last => return Ok(Resolved { dir, name, found }),
            Some(_) => return Err(rustix::io::Errno::NOTDIR.into()),
            None => return Err(rustix::io::Errno::NOENT.into()),
        }
    }
    // A directory, as an entry of the one that it is in.
    let (dir, name) = dirs.pop().ok_or(io::ErrorKind::InvalidInput)?;
    if dirs.is_empty() {
        return Ok(Resolved { dir, name: Vec::new(), found: None });
    }
    let parent = here(&dirs)?;
    let found = tree.stat(&parent, &name)?;
    Ok(Resolved { dir: parent, name, found })
}

/// The directory that was found.
pub(super) fn entered<T: Tree>(tree: &T, found: &Resolved<T::Dir>) -> io::Result<T::Dir> {
    if found.name.is_empty() { Ok(found.dir.clone()) } else { tree.enter(&found.dir, &found.name) }
}

/// Gives the parts of a file that are not zero to `write`, with their places; gives its size.
pub(super) fn copy_data(
    content: &mut dyn Read,
    mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    const PIECE: usize = 128 << 10;
    const BLOCK: usize = 4096;
    let mut buffer = vec![0; PIECE];
    let mut at = 0u64;
    loop {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match retry(|| content.read(rest))? {
                0 => break,
                read => filled += read,
            }
        }
        let bytes = buffer.get(..filled).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(at);
        }
        if bytes.chunks(BLOCK).all(|block| block.iter().any(|byte| *byte != 0)) {
            write(at, bytes)?;
        } else {
            let mut from = at;
            for block in bytes.chunks(BLOCK) {
                if block.iter().any(|byte| *byte != 0) {
                    write(from, block)?;
                }
                from = from.saturating_add(block.len() as u64);
            }
        }
        at = at.saturating_add(bytes.len() as u64);
    }
}
