//! The one rule for `EINTR`: the call is made again.

use std::io;

use rustix::io::Errno;

/// An error of a system call, in one of the two forms that this program has for it.
pub trait SystemError {
    /// Whether a signal interrupted the call (`EINTR`, signal(7)).
    fn is_interrupted(&self) -> bool;
}

impl SystemError for Errno {
    fn is_interrupted(&self) -> bool {
        *self == Self::INTR
    }
}

impl SystemError for io::Error {
    fn is_interrupted(&self) -> bool {
        self.kind() == io::ErrorKind::Interrupted
    }
}

/// Makes a system call, again for as long as a signal interrupts it.
///
/// No signal means anything to this program in the middle of a call: what a signal ends, a thread of its own ends. A
/// network or FUSE file system below a store interrupts calls that a local disk never does. Not for `close`, which has
/// closed the descriptor all the same.
///
/// # Errors
/// The first error of `call` that is not `EINTR`.
pub fn retry<T, E: SystemError>(mut call: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    loop {
        match call() {
            Err(error) if error.is_interrupted() => {}
            result => return result,
        }
    }
}

/// Whether a call failed for a want of descriptors, memory or rights of this process, which says nothing of the file.
#[must_use]
pub fn is_want(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
            | Errno::AGAIN
            | Errno::NOBUFS
            | Errno::NOSPC
            | Errno::DQUOT
            | Errno::ACCESS
            | Errno::PERM
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again_and_no_other() {
        let mut left = vec![Err(Errno::IO), Ok(1), Err(Errno::INTR), Err(Errno::INTR)];
        assert_eq!(retry(|| left.pop().unwrap()), Ok(1));
        assert_eq!(retry(|| left.pop().unwrap()), Err(Errno::IO));
        let mut left = vec![Ok(2), Err(io::Error::from_raw_os_error(libc::EINTR))];
        assert_eq!(retry(|| left.pop().unwrap()).unwrap(), 2);
    }
}
