//! Having the kernel write what it has gathered of a file.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd as _};

use rustix::io::{Errno, Result};

/// Lets the disk begin to write what a file has in the page cache, and does not wait for its end. What goes wrong
/// then, `syncfs(2)` tells of.
pub fn start_write_back(file: impl AsFd) {
    // SAFETY: a system call on a descriptor that is borrowed meanwhile. It fails where the file is none of a disk's,
    // and then there is nothing to be begun.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Writes what the page cache has of a file, from an offset on for so many bytes, and waits for that; of a file on FUSE, to
/// its server, without a word of `fsync`.
///
/// # Errors
/// As `sync_file_range(2)`.
pub fn write_back(file: impl AsFd, from: i64, length: i64) -> Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    super::retry(|| {
        // SAFETY: a system call on a descriptor that is borrowed meanwhile.
        match unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), from, length, flags) } {
            0 => Ok(()),
            _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    })
}
