//! fanotify(7) with marks of inodes, whose events name files by their handles.
#![allow(unsafe_code, reason = "two system calls that rustix does not have")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::file_handle::Handle;

/// A group of marks.
pub(crate) struct Watch(File);

/// `struct fanotify_event_metadata`, then of its first record `struct fanotify_event_info_header`, a file system id, and
/// `struct file_handle` (linux/fanotify.h).
const METADATA: usize = 24;
const RECORD: usize = METADATA + 4 + 8;
const HANDLE: usize = RECORD + 8;

impl Watch {
    pub(crate) fn new() -> Self {
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_REPORT_FID | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        // SAFETY: numbers go in, and a new descriptor comes out.
        let fd = unsafe { libc::fanotify_init(flags, 0) };
        assert!(fd >= 0, "fanotify_init: {}", io::Error::last_os_error());
        // SAFETY: a new descriptor, which belongs to nothing else.
        Self(unsafe { File::from_raw_fd(fd) })
    }

    /// Marks the inode at `path`.
    pub(crate) fn mark(&self, path: &Path, events: u64) {
        let name = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        let (group, flags) = (self.0.as_raw_fd(), libc::FAN_MARK_ADD);
        // SAFETY: the name ends with a NUL, and lives as long as the call.
        let result = unsafe { libc::fanotify_mark(group, flags, events, libc::AT_FDCWD, name.as_ptr()) };
        assert_eq!(result, 0, "{}: {}", path.display(), io::Error::last_os_error());
    }

    /// What has happened, and to which files.
    pub(crate) fn events(&self) -> Vec<(u64, Handle)> {
        let mut buffer = vec![0; 1 << 16];
        let length = match rustix::io::read(&self.0, &mut buffer[..]) {
            Ok(length) => length,
            Err(rustix::io::Errno::AGAIN) => 0,
            Err(error) => panic!("{error}"),
        };
        let number = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().expect("four bytes"));
        let (mut events, mut at) = (Vec::new(), 0);
        while at < length {
            let mask = u64::from_ne_bytes(buffer[at + 8..at + 16].try_into().expect("eight bytes"));
            let (size, kind) = (number(at + RECORD) as usize, number(at + RECORD + 4));
            let data = &buffer[at + HANDLE..at + HANDLE + size];
            events.push((mask, Handle::from_parts(kind.cast_signed(), data)));
            at += number(at) as usize;
        }
        events
    }
}
