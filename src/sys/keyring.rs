//! The kernel's key service.

#![allow(unsafe_code)]

use std::io;
use std::ptr;

/// `KEYCTL_JOIN_SESSION_KEYRING` (linux/keyctl.h).
const JOIN_SESSION_KEYRING: libc::c_ulong = 1;

/// Gives the calling thread, and what it starts and executes, an empty session keyring without a name in place of the
/// one that it was started with. On a kernel without keys there is none to replace.
///
/// # Errors
/// As `keyctl(2)`: `EDQUOT` when the user has too many keys.
pub fn new_session_keyring() -> io::Result<()> {
    // SAFETY: without a name the call takes no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>(), 0, 0, 0) };
    if result >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        error => Err(error),
    }
}
