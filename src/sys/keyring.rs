//! The kernel's key service.

#![allow(unsafe_code)]

use std::io;
use std::ptr;

/// `KEYCTL_JOIN_SESSION_KEYRING` (linux/keyctl.h).
const JOIN_SESSION_KEYRING: libc::c_ulong = 1;

/// Replaces the session keyring of the calling thread, and of all processes that it starts later, by an empty one without
/// a name. A kernel without keys has none to replace.
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
