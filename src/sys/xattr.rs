//! Extended attributes of whole files.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::{Errno, Result};

/// Names a file that is reached through a descriptor: `name` in the directory `dir`, or `dir` itself when
/// `name` is empty. The `l*xattr` calls take it without following a link in the last component, also for
/// files that cannot be opened (devices, symbolic links).
#[must_use]
pub fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes();
    // A trailing slash follows the magic link, so that `dir` itself is meant.
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

fn grown<T>(mut call: impl FnMut(&mut Vec<u8>) -> Result<usize>, done: impl FnOnce(Vec<u8>) -> T) -> Result<T> {
    let mut buffer = vec![0; 512];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(done(buffer));
            }
            // XATTR_SIZE_MAX and XATTR_LIST_MAX are 64 KiB (linux/limits.h).
            Err(Errno::RANGE) if buffer.len() < 65_536 => buffer.resize(65_536, 0),
            Err(error) => return Err(error),
        }
    }
}

/// The names of all extended attributes at `path`, which is not followed.
///
/// # Errors
/// As `llistxattr(2)`.
pub fn list_xattrs(path: &[u8]) -> Result<Vec<Vec<u8>>> {
    grown(
        |buffer| rustix::fs::llistxattr(path, buffer),
        |list| list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect(),
    )
}

/// The value of one extended attribute at `path`, which is not followed.
///
/// # Errors
/// As `lgetxattr(2)`.
pub fn read_xattr(path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    grown(|buffer| rustix::fs::lgetxattr(path, name, buffer), |value| value)
}

/// All extended attributes at `path`, which is not followed. None where the file system has none.
///
/// # Errors
/// As `llistxattr(2)` and `lgetxattr(2)`.
pub fn read_xattrs(path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let names = match list_xattrs(path) {
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        names => names?,
    };
    names.into_iter().map(|name| read_xattr(path, &name).map(|value| (name, value))).collect()
}
