//! Removing a tree of any depth, without ever looking into what it holds.
//!
//! A directory that its owner may not read or change is made usable first: an ordinary user's store that was made before
//! [`layer-modes`](super::format) has the modes of layers' directories on disk. What cannot go does not keep the rest, and
//! another process may remove the same.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::error::{Context as _, Error};
use crate::sys::{Dir, call};

/// Deeper directories than this are moved up first, so that neither descriptors nor stack run out.
const DEPTH: usize = 64;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Removal {
    top: OwnedFd,
    moved_up: u64,
    /// Names from the top to what is being removed.
    at: Vec<Vec<u8>>,
    /// The first that could not go, and why.
    left: Option<(PathBuf, Errno)>,
    /// How many could not.
    count: u64,
}

/// Removes all that is in the directory `dir`, but for its entry `last`, which goes when all else is gone.
///
/// # Errors
/// The first that could not go, and how many there are; the rest is gone.
pub(super) fn remove_content(dir: &Path, last: &str) -> crate::error::Result<()> {
    let top = match open_usable(CWD, dir.as_os_str().as_bytes()) {
        Err(Errno::NOENT) => return Ok(()),
        top => top.doing("open", dir)?,
    };
    let mut removal = Removal { top, moved_up: 0, at: Vec::new(), left: None, count: 0 };
    loop {
        let moved_up = removal.moved_up;
        let top = rustix::io::dup(&removal.top).doing("open", dir)?;
        (removal.left, removal.count) = (None, 0);
        removal.at.clear();
        removal.content(top.as_fd(), last.as_bytes()).doing("read", dir)?;
        if removal.moved_up == moved_up {
            break;
        }
    }
    if let Some((path, error)) = removal.left {
        let source = match removal.count {
            1 => error.into(),
            count => {
                let error = std::io::Error::from(error);
                let others = count.saturating_sub(1);
                std::io::Error::new(error.kind(), format!("{error}; neither can {others} more files or directories"))
            }
        };
        return Err(Error::Io { doing: "remove", path: dir.join(path), source });
    }
    match call::unlinkat(&removal.top, last, AtFlags::empty()) {
        // It is one of the content after all.
        Err(Errno::ISDIR) if !last.is_empty() => remove_content(dir, ""),
        Err(error) if error != Errno::NOENT => Err(error).doing("remove", dir.join(last)),
        _ => Ok(()),
    }
}

/// Makes a directory usable by its owner. No link is followed.
pub(super) fn make_usable(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = call::openat(dir, name, flags, Mode::empty())?;
    call::chmod(&format!("/proc/self/fd/{}", place.as_raw_fd()), Mode::RWXU)
}

fn open_usable(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    match call::openat(dir, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            make_usable(dir, name)?;
            call::openat(dir, name, DIRECTORY, Mode::empty())
        }
        opened => opened,
    }
}

/// Does something in a directory, which is made usable when it has to be.
fn within<T>(dir: BorrowedFd<'_>, act: impl Fn() -> Result<T>) -> Result<T> {
    match act() {
        Err(Errno::ACCESS) => match call::fchmod(dir, Mode::RWXU) {
            // Another user's.
            Err(Errno::PERM) => Err(Errno::ACCESS),
            Err(error) => Err(error),
            Ok(()) => act(),
        },
        done => done,
    }
}

impl Removal {
    /// Removes what is in a directory; false when something is left.
    fn content(&mut self, dir: BorrowedFd<'_>, keep: &[u8]) -> Result<bool> {
        let mut all = true;
        let entries = match Dir::read_from(dir) {
            Err(Errno::NOENT) => return Ok(true),
            entries => entries?,
        };
        for entry in entries {
            let entry = match entry {
                // The directory itself is gone.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || (self.at.is_empty() && name == keep) {
                continue;
            }
            self.at.push(name.to_vec());
            all &= match self.entry(dir, name, entry.file_type() == FileType::Directory) {
                Ok(is_gone) => is_gone,
                Err(error) => self.leave(error),
            };
            self.at.pop();
        }
        Ok(all)
    }

    fn leave(&mut self, error: Errno) -> bool {
        let path = || PathBuf::from(OsStr::from_bytes(&self.at.join(&b'/')));
        if self.left.is_none() {
            self.left = Some((path(), error));
        }
        self.count = self.count.saturating_add(1);
        false
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &[u8], is_directory: bool) -> Result<bool> {
        if !is_directory {
            match within(dir, || call::unlinkat(dir, name, AtFlags::empty())) {
                Err(Errno::ISDIR) => {}
                Ok(()) | Err(Errno::NOENT) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        // Also where this process may not open as many as it is deep.
        let inner = match within(dir, || open_usable(dir, name)) {
            Ok(inner) if self.at.len() <= DEPTH => inner,
            Ok(_) => return self.move_up(dir, name),
            Err(Errno::NOENT) => return Ok(true),
            Err(Errno::MFILE | Errno::NFILE) if self.at.len() > 1 => return self.move_up(dir, name),
            Err(error) => return Err(error),
        };
        if !self.content(inner.as_fd(), b"")? {
            return Ok(false);
        }
        match within(dir, || call::unlinkat(dir, name, AtFlags::REMOVEDIR)) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Moves a directory to the top, from where it goes later.
    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
        loop {
            let place = format!("deep.{}", self.moved_up);
            self.moved_up = self.moved_up.saturating_add(1);
            let rename = || call::renameat(dir, name, &self.top, &*place);
            let moved = match within(dir, rename) {
                // To move a directory is to change its `..`.
                Err(Errno::ACCESS) => make_usable(dir, name).and_then(|()| rename()),
                moved => moved,
            };
            match moved {
                Ok(()) | Err(Errno::NOENT) => return Ok(true),
                // Another process that removes the same has moved one there.
                Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_remove_one_tree_both_succeed() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            for number in 0..200 {
                let place = dir.path().join(format!("d{}/e{number}", number % 10));
                std::fs::create_dir_all(&place).unwrap();
                std::fs::write(place.join("f"), "").unwrap();
            }
            let start = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                let remove = || {
                    start.wait();
                    remove_content(dir.path(), "owner")
                };
                let (first, second) = (scope.spawn(remove), scope.spawn(remove));
                first.join().unwrap().unwrap();
                second.join().unwrap().unwrap();
            });
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("owner"), "").unwrap();
        let mut at = rustix::fs::open(dir.path(), DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::openat(&at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            at = rustix::fs::openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        remove_content(dir.path(), "owner").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
