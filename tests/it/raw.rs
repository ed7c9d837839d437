//! System calls of the tests that rustix, as it is used here, does not have: mappings, and locks of open files.
#![allow(unsafe_code, reason = "a mapping and its pointer")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// The first page of a file, mapped `MAP_SHARED`.
pub(crate) struct Mapping {
    start: *mut libc::c_void,
}

pub(crate) const PAGE: usize = 4096;

impl Mapping {
    /// Maps what must be at least one byte long.
    pub(crate) fn new(file: &File, writable: bool) -> Self {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Self { start }
    }

    pub(crate) fn byte(&self, at: usize) -> u8 {
        assert!(at < PAGE);
        // SAFETY: inside the mapping; others may write to it, so that it is read anew each time.
        unsafe { self.start.cast::<u8>().add(at).read_volatile() }
    }

    pub(crate) fn set(&self, at: usize, byte: u8) {
        assert!(at < PAGE);
        // SAFETY: inside the mapping, of which no reference is ever handed out.
        unsafe { self.start.cast::<u8>().add(at).write_volatile(byte) }
    }

    /// Whether the page is in memory, which this does not change (mincore(2)).
    pub(crate) fn is_in_memory(&self) -> bool {
        let mut found = 0;
        // SAFETY: the whole mapping, and one byte for its one page.
        let result = unsafe { libc::mincore(self.start, PAGE, &raw mut found) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        found & 1 == 1
    }

    /// msync(2).
    pub(crate) fn sync(&self) {
        // SAFETY: the whole mapping.
        let result = unsafe { libc::msync(self.start, PAGE, libc::MS_SYNC) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, which nobody uses after this.
        unsafe { libc::munmap(self.start, PAGE) };
    }
}

/// truncate(2), which is another call than ftruncate(2).
pub(crate) fn truncate(path: &std::path::Path, length: i64) -> io::Result<()> {
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).expect("no NUL");
    // SAFETY: the name ends with a NUL, and lives as long as the call.
    let result = unsafe { libc::truncate(name.as_ptr(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes a lock of the whole file that belongs to the open file (fcntl(2), `F_OFD_SETLK`), without waiting.
pub(crate) fn lock_open_file(file: &File, kind: libc::c_int) -> io::Result<()> {
    let lock = libc::flock {
        l_type: i16::try_from(kind).expect("F_RDLCK and the like are small"),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: `lock` lives as long as the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
