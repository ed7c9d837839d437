//! Mounts that no path leads to.

#![allow(unsafe_code)]

use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

/// `MOUNT_ATTR_RDONLY` (linux/mount.h).
const RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID` and `MOUNT_ATTR_NODEV`.
const PLAIN: u64 = 0x2 | 0x4;
/// `MOUNT_ATTR_NOEXEC`.
const NOEXEC: u64 = 0x8;
/// `MOUNT_ATTR_NOATIME`, and the field that it is a value of, `MOUNT_ATTR__ATIME`.
const NO_ACCESS_TIMES: u64 = 0x10;
const ACCESS_TIMES: u64 = 0x70;

/// `struct mount_attr` (linux/mount.h), `MOUNT_ATTR_SIZE_VER0`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Makes a read-only, nosuid and nodev bind mount of the file at `path` that belongs to no mount namespace, and opens its
/// root. A file that is opened, executed or mapped through the mount keeps it. After the descriptor is closed, mount(2)
/// and `mount_setattr(2)` refuse to change the mount, since it has no namespace (fs/namespace.c).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` when the mount at `path` is unbindable or of another mount namespace;
/// `ENOSYS` before Linux 5.12; else as `open_tree(2)` and `mount_setattr(2)`.
pub fn detached_read_only(path: &Path) -> rustix::io::Result<OwnedFd> {
    detached(path, &MountAttributes { set: RDONLY | PLAIN, clear: 0, propagation: 0, userns: 0 })
}

/// The same, but as writable as the mount it is a copy of, and reading through it changes no access time.
///
/// # Errors
/// As [`detached_read_only`].
pub fn detached_without_access_times(path: &Path) -> rustix::io::Result<OwnedFd> {
    detached(path, &MountAttributes { set: NO_ACCESS_TIMES, clear: ACCESS_TIMES, propagation: 0, userns: 0 })
}

/// The same, but as writable as the mount it is a copy of unless it is to be `read_only`, and no program is executed from it.
///
/// # Errors
/// As [`detached_read_only`].
pub fn detached_without_programs(path: &Path, read_only: bool) -> rustix::io::Result<OwnedFd> {
    let set = PLAIN | NOEXEC | if read_only { RDONLY } else { 0 };
    detached(path, &MountAttributes { set, clear: 0, propagation: 0, userns: 0 })
}

fn detached(path: &Path, attributes: &MountAttributes) -> rustix::io::Result<OwnedFd> {
    let tree = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    // SAFETY: the empty path is a C string, and the kernel reads as many bytes of the structure as it has.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    if result < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::sys::proc_path;

    #[test]
    fn reading_through_a_mount_without_access_times_leaves_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "content").unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let times = fs::FileTimes::new().set_accessed(old);
        fs::File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
        let mount = detached_without_access_times(&file).unwrap();
        let name = format!("/proc/self/fd/{}", mount.as_raw_fd());
        assert_eq!(fs::read_to_string(&name).unwrap(), "content");
        assert_eq!(fs::metadata(&file).unwrap().accessed().unwrap(), old);
        fs::write(&name, "written").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "written");
    }

    #[test]
    fn a_file_cannot_be_changed_through_its_detached_mount() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "content").unwrap();
        let mount = detached_read_only(&file).unwrap();
        let name = String::from_utf8(proc_path(mount.as_fd(), b"").strip_suffix(b"/").unwrap().to_vec()).unwrap();
        let reader = fs::File::open(&name).unwrap();
        let read_only = Some(libc::EROFS);
        let opened = fs::File::options().write(true).open(&name);
        assert_eq!(opened.unwrap_err().raw_os_error(), read_only);
        drop(mount);
        // The mount lives on with the file that is open.
        let changed = reader.set_permissions(fs::Permissions::from_mode(0o777));
        assert_eq!(changed.unwrap_err().raw_os_error(), read_only);
        assert_eq!(std::io::read_to_string(&reader).unwrap(), "content");
        assert_eq!(detached_read_only(&dir.path().join("none")).unwrap_err(), Errno::NOENT);
    }
}
