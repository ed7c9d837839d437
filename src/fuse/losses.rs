//! What programs have written that could not be brought to the upper.
//!
//! With the write-back cache a program is told that its data are written as soon as the kernel has them. When the server then
//! cannot store them, for want of room say, only a program that flushes the file (`fsync`) hears of it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use parking_lot::Mutex;

use crate::union::{Errno, Ino, Union};

/// Files that are counted.
const MOST_FILES: usize = 10_000;

/// The losses of one mount.
#[derive(Debug, Default)]
pub struct Losses {
    lost: Mutex<Option<Lost>>,
}

#[derive(Debug)]
struct Lost {
    files: HashSet<Ino>,
    first: Option<Vec<u8>>,
    error: Errno,
}

impl Losses {
    /// Something that was written to a file long ago cannot be stored.
    pub(super) fn add(&self, union: &Union, ino: Ino, error: Errno) {
        let mut lost = self.lost.lock();
        let lost = lost.get_or_insert_with(|| Lost { files: HashSet::new(), first: union.path(ino), error });
        if lost.files.len() <= MOST_FILES {
            lost.files.insert(ino);
        }
    }

    /// What is lost, as a clause; `None` when nothing is.
    #[must_use]
    pub fn clause(&self) -> Option<String> {
        let lost = self.lost.lock();
        let lost = lost.as_ref()?;
        let files = match lost.files.len() {
            1 => "a file".to_owned(),
            count if count > MOST_FILES => format!("more than {MOST_FILES} files"),
            count => format!("{count} files"),
        };
        let error = std::io::Error::from(lost.error);
        let first = lost.first.as_ref().map(|path| format!(", first to /{}", OsStr::from_bytes(path).display()));
        Some(format!("what programs have written to {files} is lost in part{}: {error}", first.unwrap_or_default()))
    }
}
