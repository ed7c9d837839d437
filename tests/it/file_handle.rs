//! File handles: name_to_handle_at(2) and open_by_handle_at(2), as an NFS server and overlayfs use them.
#![allow(unsafe_code, reason = "two system calls that rustix does not have")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::io::Errno;

/// `struct file_handle` with room for the largest handle.
#[repr(C)]
struct Raw {
    bytes: u32,
    kind: i32,
    data: [u8; libc::MAX_HANDLE_SZ as usize],
}

/// A handle, which means something to the file system that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handle {
    kind: i32,
    data: Vec<u8>,
}

impl Handle {
    /// The handle of what is at `path`, which is not followed.
    #[track_caller]
    pub(crate) fn of(path: &Path) -> Self {
        let name = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        let mut raw = Raw { bytes: libc::MAX_HANDLE_SZ as u32, kind: 0, data: [0; libc::MAX_HANDLE_SZ as usize] };
        let mut mount = 0;
        let to = (&raw mut raw).cast();
        // SAFETY: the name ends with a NUL, and `raw` has room for as many bytes as it says.
        let result = unsafe { libc::name_to_handle_at(libc::AT_FDCWD, name.as_ptr(), to, &raw mut mount, 0) };
        assert_eq!(result, 0, "{}: {}", path.display(), io::Error::last_os_error());
        Self::from_parts(raw.kind, &raw.data[..raw.bytes as usize])
    }

    /// A handle as another interface of the kernel has told it.
    pub(crate) fn from_parts(kind: i32, data: &[u8]) -> Self {
        Self { kind, data: data.to_vec() }
    }

    /// Opens what the handle stands for in the file system that is mounted at `mount`.
    pub(crate) fn open(&self, mount: &Path, flags: i32) -> Result<File, Errno> {
        let mount = File::open(mount).expect("the mount");
        let mut raw = Raw { bytes: self.data.len() as u32, kind: self.kind, data: [0; libc::MAX_HANDLE_SZ as usize] };
        raw.data[..self.data.len()].copy_from_slice(&self.data);
        // SAFETY: `raw` has as many bytes as it says, and lives as long as the call.
        let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut raw).cast(), flags | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(Errno::from_io_error(&io::Error::last_os_error()).expect("an errno"));
        }
        // SAFETY: a new descriptor, which belongs to nothing else.
        Ok(unsafe { File::from_raw_fd(fd) })
    }
}
