//! Removing a tree of any depth, without ever looking into what it holds.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::sys::{Dir, call};

/// Deeper directories than this are moved up first, so that neither descriptors nor stack run out.
const DEPTH: usize = 64;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Removal {
    top: OwnedFd,
    moved_up: u64,
}

/// Removes all that is in the directory `dir`, but for its entry `last`, which goes when all else is gone.
pub(super) fn remove_content(dir: &Path, last: &str) -> std::io::Result<()> {
    let top = call::open(dir, DIRECTORY, Mode::empty())?;
    let mut removal = Removal { top, moved_up: 0 };
    loop {
        let moved_up = removal.moved_up;
        let top = rustix::io::dup(&removal.top)?;
        removal.content(top.as_fd(), 0, last.as_bytes())?;
        if removal.moved_up == moved_up {
            break;
        }
    }
    match call::unlinkat(&removal.top, last, AtFlags::empty()) {
        // It is one of the content after all.
        Err(Errno::ISDIR) if !last.is_empty() => remove_content(dir, ""),
        Err(error) if error != Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

impl Removal {
    fn content(&mut self, dir: BorrowedFd<'_>, depth: usize, keep: &[u8]) -> Result<()> {
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || (depth == 0 && name == keep) {
                continue;
            }
            if entry.file_type() != FileType::Directory {
                match call::unlinkat(dir, name, AtFlags::empty()) {
                    Err(Errno::ISDIR) => {}
                    Err(Errno::NOENT) => continue,
                    done => {
                        done?;
                        continue;
                    }
                }
            }
            // Also where this process may not open as many as it is deep.
            let inner = match call::openat(dir, name, DIRECTORY, Mode::empty()) {
                Ok(inner) if depth < DEPTH => inner,
                Ok(_) => {
                    self.move_up(dir, name)?;
                    continue;
                }
                Err(Errno::MFILE | Errno::NFILE) if depth > 0 => {
                    self.move_up(dir, name)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.content(inner.as_fd(), depth + 1, b"")?;
            call::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let place = format!("deep.{}", self.moved_up);
        self.moved_up += 1;
        call::renameat(dir, name, &self.top, &place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
