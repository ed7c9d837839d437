//! The standard descriptors: their names in messages, and how they were opened.

use std::os::fd::BorrowedFd;

use rustix::fs::{OFlags, fcntl_getfl};

use crate::error::{Context as _, Result};

/// How messages name the descriptors.
const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

pub(super) fn name(number: usize) -> &'static str {
    NAMES.get(number).copied().unwrap_or("a standard descriptor")
}

/// How the descriptor was opened: `RDONLY`, `WRONLY` or `RDWR`.
pub(super) fn access(number: usize, fd: BorrowedFd<'_>) -> Result<OFlags> {
    Ok(fcntl_getfl(fd).doing("examine", name(number))? & OFlags::RWMODE)
}
