//! Calls about terminals, job control and open files that rustix does not have.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr;

/// The number of the terminal device that `fd` is open on, also when it was opened as `/dev/tty` (ioctl_tty(2), `TIOCGDEV`).
///
/// # Errors
/// `ENOTTY` when it is no terminal.
pub fn terminal_device(fd: impl AsFd) -> io::Result<u32> {
    let mut device = 0_u32;
    // SAFETY: the request writes one `unsigned int` through the pointer, which is valid for it.
    match unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGDEV, &raw mut device) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(device),
    }
}

/// Whether both descriptors are one open file, with one offset (kcmp(2)).
///
/// # Errors
/// `ENOSYS` when the kernel was built without the call, `EPERM` in a sandbox without it.
pub fn is_same_open_file(one: impl AsFd, other: impl AsFd) -> io::Result<bool> {
    /// `KCMP_FILE` of linux/kcmp.h.
    const FILE: c_int = 0;
    let (one, other) = (one.as_fd().as_raw_fd(), other.as_fd().as_raw_fd());
    // SAFETY: compares two descriptors of this process and touches no memory of it.
    match unsafe { libc::syscall(libc::SYS_kcmp, libc::getpid(), libc::getpid(), FILE, one, other) } {
        -1 => Err(io::Error::last_os_error()),
        order => Ok(order == 0),
    }
}

/// What a process does with a signal that it does not catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// What signal(7) says.
    Default,
    /// Nothing.
    Ignore,
}

/// Sets what this process does with `signal`, by its number.
///
/// # Errors
/// `EINVAL` for a signal that there is not, or that cannot be ignored.
pub fn set_disposition(signal: c_int, disposition: Disposition) -> io::Result<()> {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // SAFETY: no handler is set that could be called.
    if unsafe { libc::signal(signal, handler) } == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps all signals from the calling thread but `except`: other threads of the process get them. What is sent to this
/// thread itself, as `SIGXFSZ` is for a write that is too large, waits, and the call says its error.
///
/// # Errors
/// None that is known.
pub fn block_signals_but(except: c_int) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` makes the set whole before the others use it.
    let failed = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::sigdelset(set.as_mut_ptr(), except);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut())
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

/// Stops this process and all others of its process group with `signal`, a stop signal of the terminal, as if it had no
/// handler for it. Returns when the process is continued, or at once when its process group is orphaned and so does
/// not stop (setpgid(2)). To be called by the first thread, which the kernel prefers for such signals.
///
/// # Errors
/// `EINVAL` for what is no signal.
pub fn stop_process_group(signal: c_int) -> io::Result<()> {
    let mut caught = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: an action of zeros is the default one with an empty mask; the old one is written out by the first call
    // and read by the last only when that has succeeded.
    unsafe {
        let default = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        if libc::sigaction(signal, &raw const default, caught.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        let sent = if libc::kill(0, signal) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        let restored = libc::sigaction(signal, caught.as_ptr(), ptr::null_mut());
        sent?;
        if restored < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_open_file_is_told_from_two() {
        let file = tempfile::tempfile().unwrap();
        let (same, other) = (rustix::io::dup(&file).unwrap(), tempfile::tempfile().unwrap());
        match is_same_open_file(&file, &same) {
            Ok(is_same) => assert!(is_same && !is_same_open_file(&file, &other).unwrap()),
            Err(error) => assert!(matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)), "{error}"),
        }
        assert_eq!(terminal_device(&file).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert!(set_disposition(libc::SIGKILL, Disposition::Ignore).is_err());
        assert!(stop_process_group(-1).is_err());
    }
}
