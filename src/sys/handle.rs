//! File handles of the file system under the upper.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::{Errno, Result};

const DATA_MAX: usize = libc::MAX_HANDLE_SZ as usize;

/// `struct file_handle` (linux/fs.h, `name_to_handle_at(2)`) with room for the largest handle.
#[repr(C)]
struct Handle {
    handle_bytes: u32,
    handle_type: i32,
    data: [u8; DATA_MAX],
}

/// The bytes by which a file system names one inode for as long as it exists, and no other one afterwards: of `name` in
/// `dir`, which is not followed, or of `dir` itself when `name` is empty. `None` where the file system has no handles.
///
/// # Errors
/// As `name_to_handle_at(2)`.
pub fn file_handle(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    // A handle that need not be opened again is known by more file systems, since Linux 6.5.
    for kind in [0, libc::AT_HANDLE_FID] {
        let mut handle = Handle { handle_bytes: libc::MAX_HANDLE_SZ as u32, handle_type: 0, data: [0; DATA_MAX] };
        let (to, mut mount) = ((&raw mut handle).cast::<libc::file_handle>(), 0);
        let flags = libc::AT_EMPTY_PATH | kind;
        // SAFETY: the name ends with a NUL, and `handle` has room for as many bytes as it says.
        let result = unsafe { libc::name_to_handle_at(dir.as_raw_fd(), name.as_ptr(), to, &raw mut mount, flags) };
        if result == 0 {
            return Ok(handle.data.get(..handle.handle_bytes as usize).map(<[u8]>::to_vec));
        }
        match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO) {
            Errno::OPNOTSUPP => {}
            // A kernel that does not know the second kind.
            Errno::INVAL if kind != 0 => {}
            error => return Err(error),
        }
    }
    Ok(None)
}

/// `FILEID_INO64_GEN` (include/linux/exportfs.h): the kind of FUSE's handles (fs/fuse/inode.c, `fuse_encode_fh`).
const FUSE_HANDLE: i32 = 0x81;

/// Opens an inode of the FUSE mount `mount` by its number, without any name.
///
/// # Errors
/// As `open_by_handle_at(2)`: `ESTALE` when the kernel does not know the inode, `EPERM` without `CAP_DAC_READ_SEARCH`.
pub fn open_fuse_inode(mount: BorrowedFd<'_>, number: u64, generation: u32) -> Result<OwnedFd> {
    let mut handle = Handle { handle_bytes: 12, handle_type: FUSE_HANDLE, data: [0; DATA_MAX] };
    let words = [(number >> 32) as u32, number as u32, generation];
    for (to, from) in handle.data.iter_mut().zip(words.into_iter().flat_map(u32::to_ne_bytes)) {
        *to = from;
    }
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: `handle` has as many bytes as it says; the descriptor is new, so that this `OwnedFd` alone owns it.
    unsafe {
        let opened = libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast::<libc::file_handle>(), flags);
        if opened < 0 {
            return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
        }
        Ok(OwnedFd::from_raw_fd(opened))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_file_has_one_handle_and_a_removed_one_has_it_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let open = std::fs::File::open(dir.path()).unwrap();
        let write = |name: &str| std::fs::write(dir.path().join(name), "x").unwrap();
        let handle = |name: &[u8]| file_handle(open.as_fd(), name).unwrap();
        write("a");
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let file = std::fs::File::open(dir.path().join("a")).unwrap();
        let known = handle(b"a");
        assert!(known.is_some());
        assert_eq!((handle(b"b"), file_handle(file.as_fd(), b"").unwrap()), (known.clone(), known.clone()));
        assert_ne!(handle(b""), known);
        std::fs::remove_file(dir.path().join("a")).unwrap();
        std::fs::remove_file(dir.path().join("b")).unwrap();
        drop(file);
        write("c");
        assert_ne!(handle(b"c"), known);
        assert_eq!(file_handle(open.as_fd(), b"a"), Err(Errno::NOENT));
    }
}
