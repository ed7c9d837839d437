//! Who is at the other end of a socket.

#![allow(unsafe_code)]

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::io::{Errno, Result};

/// The process that has begun to listen at the socket that `stream` is connected to, by its number in the pid namespace of
/// this process (`SO_PEERCRED`, unix(7)); `None` when it has none here.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn peer_process(stream: impl AsFd) -> Result<Option<u32>> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel writes no more than `length` bytes, all of which are the structure's.
    let result = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut peer).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(u32::try_from(peer.pid).ok().filter(|pid| *pid != 0))
}
