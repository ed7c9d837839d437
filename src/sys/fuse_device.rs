//! Descriptors of `/dev/fuse`.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use super::{call, retry};

/// `FUSE_DEV_IOC_CLONE` (include/uapi/linux/fuse.h): `_IOR(229, 0, uint32_t)`.
const CLONE: libc::Ioctl = 0x8004_e500_u32 as libc::Ioctl;
/// `FUSE_DEV_IOC_BACKING_CLOSE` (include/uapi/linux/fuse.h): `_IOW(229, 2, uint32_t)`.
const BACKING_CLOSE: libc::Ioctl = 0x4004_e502_u32 as libc::Ioctl;

/// Opens one more descriptor of the connection that `device` belongs to. What is read at a descriptor is answered at the
/// same one; when it is closed, the kernel ends with `ECONNABORTED` what was read there and is not answered
/// (fs/fuse/dev.c, `fuse_dev_release`).
///
/// # Errors
/// As `open(2)` of `fuse` in `dev`; `EINVAL` when `device` is not mounted.
pub fn clone_fuse_device(dev: impl AsFd, device: impl AsFd) -> Result<OwnedFd> {
    let new = call::openat(dev, "fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let source = device.as_fd().as_raw_fd();
    // SAFETY: the call reads one number of 32 bits, which lives meanwhile.
    retry(|| match unsafe { libc::ioctl(new.as_raw_fd(), CLONE, &raw const source) } {
        0 => Ok(()),
        _ => Err(last_error()),
    })?;
    Ok(new)
}

/// Lets the kernel close a file that was registered at any descriptor of the connection: the numbers are the connection's
/// (fs/fuse/backing.c, `fuse_backing_close`). The kernel keeps the file for what has it open.
///
/// # Errors
/// `ENOENT` when no such file is registered; `EPERM` once the connection has ended, which has closed all of them.
pub fn close_backing_file(device: impl AsFd, id: u32) -> Result<()> {
    let device = device.as_fd().as_raw_fd();
    // SAFETY: the call reads one number of 32 bits, which lives meanwhile.
    retry(|| match unsafe { libc::ioctl(device, BACKING_CLOSE, &raw const id) } {
        0 => Ok(()),
        _ => Err(last_error()),
    })
}

/// Lets the descriptor `at` refer to what `by` refers to (`dup3(2)`). A system call that another thread makes with `at` at
/// this time ends on what it referred to before. The caller holds what closes `at`.
///
/// # Errors
/// As `dup3(2)`.
pub fn refer_to(at: RawFd, by: &OwnedFd) -> Result<()> {
    // SAFETY: no memory is given away. The owner of `at` keeps it and closes it, whatever it refers to.
    retry(|| match unsafe { libc::dup3(by.as_raw_fd(), at, libc::O_CLOEXEC) } {
        0.. => Ok(()),
        _ => Err(last_error()),
    })
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
