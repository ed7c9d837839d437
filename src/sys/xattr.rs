//! Extended attributes of whole files.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::{Errno, Result};

/// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` (linux/limits.h).
const XATTR_MAX: usize = 65_536;

/// Names a file that is reached through a descriptor: `name` in the directory `dir`, or `dir` itself when
/// `name` is empty. The `l*xattr` calls take it without following a link in the last component, also for
/// files that cannot be opened (devices, symbolic links).
#[must_use]
pub fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    // With nothing after it the slash follows the magic link, so that `dir` itself is meant.
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

fn grown(mut call: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < XATTR_MAX => buffer.resize(XATTR_MAX, 0),
            Err(error) => return Err(error),
        }
    }
}

fn names(list: &[u8]) -> Vec<Vec<u8>> {
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The names of all extended attributes at `path`, which is not followed.
///
/// # Errors
/// As `llistxattr(2)`.
pub fn list_xattrs(path: &[u8]) -> Result<Vec<Vec<u8>>> {
    grown(|buffer| super::call::llistxattr(path, buffer)).map(|list| names(&list))
}

/// The names of all extended attributes at `path`, which is followed.
///
/// # Errors
/// As `listxattr(2)`.
pub fn list_xattrs_following(path: &[u8]) -> Result<Vec<Vec<u8>>> {
    grown(|buffer| super::call::listxattr(path, buffer)).map(|list| names(&list))
}

/// The value of one extended attribute at `path`, which is not followed.
///
/// # Errors
/// As `lgetxattr(2)`.
pub fn read_xattr(path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    grown(|buffer| super::call::lgetxattr(path, name, buffer))
}

/// The value of one extended attribute at `path`, which is followed.
///
/// # Errors
/// As `getxattr(2)`.
pub fn read_xattr_following(path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    grown(|buffer| super::call::getxattr(path, name, buffer))
}

/// The value of one extended attribute of an open file.
///
/// # Errors
/// As `fgetxattr(2)`.
pub fn read_xattr_of(file: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    grown(|buffer| super::call::fgetxattr(file, name, buffer))
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
    let value = |name: &[u8]| match read_xattr(path, name) {
        // The kernel takes a capability that is empty, lists it, and does not give it back.
        Err(Errno::INVAL) if name == b"security.capability" => Ok(Vec::new()),
        value => value,
    };
    names.into_iter().map(|name| value(&name).map(|value| (name, value))).collect()
}
