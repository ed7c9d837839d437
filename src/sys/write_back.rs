//! Starting to write early.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd as _};

/// Lets the disk begin to write what a file has in the page cache, and does not wait for its end. What goes wrong
/// then, `syncfs(2)` tells of.
pub fn start_write_back(file: impl AsFd) {
    // SAFETY: a system call on a descriptor that is borrowed meanwhile. It fails where the file is none of a disk's,
    // and then there is nothing to be begun.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
