//! Reading large files without a copy.
#![allow(unsafe_code, reason = "the bytes of a mapping are another's")]

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// The bytes of a file that no process changes any more.
///
/// If another process truncates the file, or the disk cannot read it again, this process is killed (`SIGBUS`, mmap(2)).
///
/// # Errors
/// When the file system cannot do it.
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the store replaces its files and never writes to one that has its name, and all that is made of these
    // bytes is numbers and names that are checked at each use.
    unsafe { Mmap::map(file) }
}
