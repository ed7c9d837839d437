//! What of a directory is no part of the tree that it is read for.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Result;

use crate::sys::{Dir, call};

/// Tells by its attributes what is to be left out. A directory is, when all that is in it is as well.
#[derive(Clone, Copy)]
pub(super) struct LeftOut<'a>(Option<&'a dyn Fn(&Stat) -> bool>);

impl<'a> LeftOut<'a> {
    pub(super) const NOTHING: Self = Self(None);

    pub(super) fn of(tells: &'a dyn Fn(&Stat) -> bool) -> Self {
        Self(Some(tells))
    }

    /// Whether `name` in `dir`, which has these attributes, is left out.
    ///
    /// # Errors
    /// When a directory that may be cannot be read.
    pub(super) fn has(self, dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<bool> {
        let Some(tells) = self.0 else { return Ok(false) };
        if !tells(stat) {
            return Ok(false);
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(true);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = call::openat(dir, name, flags, Mode::empty())?;
        for entry in Dir::read_from(&inner)? {
            let entry = entry?;
            if entry.is_dots() {
                continue;
            }
            let name = entry.file_name().to_bytes();
            let stat = call::statat(&inner, name, AtFlags::SYMLINK_NOFOLLOW)?;
            // What is left out is so few and so shallow that this has an end: a link is no directory.
            if !self.has(inner.as_fd(), name, &stat)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
