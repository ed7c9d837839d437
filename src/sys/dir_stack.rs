//! The directories from the top of a tree down to one in it, for a walk over a tree of any depth.
//!
//! A tree that comes from outside may be deeper than a process may have files open, and its paths longer than a system call
//! takes. So only the deepest directories are open, and the way back up to another goes by `..`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use super::call;

/// How many directories are open at most, besides the top.
const OPEN: usize = 16;

/// A device and an inode number.
type Inode = (u64, u64);

/// See above.
#[derive(Debug)]
pub struct DirStack {
    top: Arc<OwnedFd>,
    flags: OFlags,
    /// Below the top. The last one is open, and some before it.
    below: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    inode: Inode,
    open: Option<Arc<OwnedFd>>,
}

impl DirStack {
    /// At the top of a tree. The directories below are opened with these flags, and no link is followed.
    #[must_use]
    pub fn new(top: Arc<OwnedFd>, flags: OFlags) -> Self {
        let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self { top, flags, below: Vec::new() }
    }

    /// How many directories below the top this is.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.below.len()
    }

    /// The names from the top to here.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.below.iter().map(|level| &*level.name)
    }

    /// The directory.
    ///
    /// # Errors
    /// `ESTALE` after a [`DirStack::leave_to`] that failed.
    pub fn dir(&self) -> Result<Arc<OwnedFd>> {
        match self.below.last() {
            None => Ok(self.top.clone()),
            Some(level) => level.open.clone().ok_or(Errno::STALE),
        }
    }

    /// Goes down to the directory `name` in this one.
    ///
    /// # Errors
    /// As `openat(2)`; then this is still where it was.
    pub fn enter(&mut self, name: &[u8]) -> Result<()> {
        let (open, inode) = self.open(&*self.dir()?, name)?;
        self.below.push(Level { name: name.to_vec(), inode, open: Some(open) });
        let far = self.below.len().checked_sub(OPEN + 1).and_then(|far| self.below.get_mut(far));
        if let Some(level) = far {
            level.open = None;
        }
        Ok(())
    }

    /// Goes up to the directory at this depth.
    ///
    /// # Errors
    /// As `openat(2)`; `ESTALE` when a directory on the way is not where it was.
    pub fn leave_to(&mut self, depth: usize) -> Result<()> {
        while self.below.len() > depth {
            let Some(left) = self.below.pop() else { return Ok(()) };
            let Some(level) = self.below.last() else { return Ok(()) };
            if level.open.is_some() {
                continue;
            }
            let wanted = level.inode;
            let parent = left.open.ok_or(Errno::STALE).and_then(|dir| self.open(&dir, b".."));
            let open = match parent {
                Ok((open, inode)) if inode == wanted => open,
                // error: it was moved or removed, and its names say whether the other is still where it was
                Ok(_) | Err(Errno::NOENT | Errno::STALE) => self.by_names(wanted)?,
                Err(error) => return Err(error),
            };
            if let Some(level) = self.below.last_mut() {
                level.open = Some(open);
            }
        }
        Ok(())
    }

    fn by_names(&self, wanted: Inode) -> Result<Arc<OwnedFd>> {
        let mut found = (self.top.clone(), wanted);
        for level in &self.below {
            found = self.open(&found.0, &level.name)?;
        }
        if found.1 == wanted { Ok(found.0) } else { Err(Errno::STALE) }
    }

    fn open(&self, dir: &OwnedFd, name: &[u8]) -> Result<(Arc<OwnedFd>, Inode)> {
        let open = call::openat(dir, name, self.flags, Mode::empty())?;
        let stat = call::fstat(&open)?;
        Ok((Arc::new(open), (stat.st_dev, stat.st_ino)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_levels(stack: &DirStack) -> usize {
        stack.below.iter().filter(|level| level.open.is_some()).count()
    }

    #[test]
    fn a_deep_tree_is_walked_with_few_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let top = Arc::new(rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap());
        let mut stack = DirStack::new(top, OFlags::RDONLY);
        let mut inodes = Vec::new();
        for _ in 0..100 {
            let here = stack.dir().unwrap();
            inodes.push(rustix::fs::fstat(&here).unwrap().st_ino);
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            stack.enter(b"d").unwrap();
            assert!(open_levels(&stack) <= OPEN);
        }
        assert_eq!(stack.enter(b"none"), Err(Errno::NOENT));
        assert_eq!((stack.depth(), stack.names().count()), (100, 100));
        for depth in (0..100).rev() {
            stack.leave_to(depth).unwrap();
            assert_eq!(rustix::fs::fstat(stack.dir().unwrap()).unwrap().st_ino, inodes[depth]);
            assert!(open_levels(&stack) <= OPEN);
        }
    }

    #[test]
    fn a_directory_that_was_moved_leads_to_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let names = vec!["d"; 40].join("/");
        std::fs::create_dir_all(dir.path().join(&names)).unwrap();
        let top = Arc::new(rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap());
        let mut stack = DirStack::new(top, OFlags::RDONLY);
        (0..40).for_each(|_| stack.enter(b"d").unwrap());
        let inode = rustix::fs::statat(rustix::fs::CWD, dir.path().join("d/d"), rustix::fs::AtFlags::empty());
        // Its parent is open no more, and now another.
        std::fs::create_dir(dir.path().join("other")).unwrap();
        let moved = vec!["d"; 30].join("/");
        std::fs::rename(dir.path().join(moved), dir.path().join("other/d")).unwrap();
        stack.leave_to(2).unwrap();
        assert_eq!(rustix::fs::fstat(stack.dir().unwrap()).unwrap().st_ino, inode.unwrap().st_ino);
        // And one whose names lead nowhere.
        (2..29).for_each(|_| stack.enter(b"d").unwrap());
        for (depth, to) in [(14, "other/e"), (13, "other/f")] {
            std::fs::rename(dir.path().join(vec!["d"; depth].join("/")), dir.path().join(to)).unwrap();
        }
        let gone = stack.leave_to(13);
        assert!(matches!(gone, Err(Errno::NOENT | Errno::STALE)), "{gone:?}");
        assert!(stack.dir().is_err());
        stack.leave_to(12).unwrap();
        assert!(stack.dir().is_ok() && stack.enter(b"d").is_err());
    }
}
