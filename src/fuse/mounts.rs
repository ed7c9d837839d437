//! What is mounted where (`/proc/self/mountinfo`, proc(5)), and its end.

use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::{Context as _, Error, Result};
use crate::sys::{MountLine, call, mount_table_at};

/// The type that `mount(8)` and `/proc/mounts` show for mounts of ours.
pub(super) const FS_TYPE: &str = "fuse.layerctl";

/// A mount of this mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub mountpoint: PathBuf,
    /// `major:minor`, which no two live file systems share.
    device: String,
    /// What kind of file system.
    pub fs_type: String,
}

impl Mount {
    /// `major:minor`, which no two live file systems share.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// That it is mounted over one of ours, as an error.
    #[must_use]
    pub fn in_the_way(&self) -> Error {
        Error::InUse {
            kind: "mountpoint",
            name: self.mountpoint.display().to_string(),
            by: format!("a file system of type {} is mounted over it", self.fs_type),
        }
    }

    /// Whether it is one of ours.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.fs_type == FS_TYPE
    }
}

/// Unmounts what is mounted at `mountpoint`.
///
/// # Errors
/// [`Error::Io`] with `EBUSY` while a process uses it, unless `lazy`: then it vanishes at once, and ends when
/// its last user does.
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(mountpoint, flags | UnmountFlags::NOFOLLOW).doing("unmount", mountpoint)
}

/// Unmounts what is mounted at `mountpoint`, and cuts it off from its server: programs that still use it get errors.
///
/// # Errors
/// [`Error::Io`] when nothing is mounted there.
pub fn abort(mountpoint: &Path) -> Result<()> {
    let flags = UnmountFlags::FORCE | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(mountpoint, flags).doing("unmount", mountpoint)
}

/// Unmounts this mount lazily, and says whether that is done: not while something else is mounted over it, nor when it is gone.
///
/// # Errors
/// As [`mounts`] and [`unmount`].
pub fn detach_only(mount: &Mount) -> Result<bool> {
    if mount_at(&mount.mountpoint)?.as_ref() != Some(mount) {
        return Ok(false);
    }
    unmount(&mount.mountpoint, true).map(|()| true)
}

/// Changes the kernel's flags of a live mount (`mount -o remount`). One that is synchronous stays so: it may be that for want
/// of room on the disk.
///
/// # Errors
/// [`Error::Io`] when the kernel refuses.
pub fn set_mount_flags(mountpoint: &Path, flags: MountFlags) -> Result<()> {
    let is = call::statvfs(mountpoint).doing("look at", mountpoint)?.f_flag;
    let kept = if is.contains(StatVfsMountFlags::SYNCHRONOUS) { MountFlags::SYNCHRONOUS } else { MountFlags::empty() };
    rustix::mount::mount_remount(mountpoint, flags | kept, "").doing("remount", mountpoint)
}

/// Whether the kernel has a mount of ours exactly here, which may be under something else.
///
/// # Errors
/// As [`mounts`].
pub fn is_mountpoint(mountpoint: &Path) -> Result<bool> {
    Ok(mounts()?.into_iter().any(|mount| mount.is_ours() && mount.mountpoint == mountpoint))
}

/// What is mounted exactly here, and not under something else.
///
/// # Errors
/// As [`mounts`].
pub fn mount_at(mountpoint: &Path) -> Result<Option<Mount>> {
    Ok(mounts()?.into_iter().rfind(|mount| mount.mountpoint == mountpoint))
}

/// All mounts of this mount namespace, in the order in which they were made.
///
/// # Errors
/// [`Error::Io`] when the kernel's list cannot be read: then it is not known what is mounted.
pub fn mounts() -> Result<Vec<Mount>> {
    read_mounts("/proc/self/mountinfo").doing("read", "/proc/self/mountinfo")
}

/// All mounts of the mount namespace of a process; none when there is no such process any more.
///
/// # Errors
/// As [`mounts`].
pub fn mounts_of(process: u32) -> Result<Vec<Mount>> {
    let path = format!("/proc/{process}/mountinfo");
    match read_mounts(&path) {
        // A zombie's list is `EINVAL`.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EINVAL)) => Ok(Vec::new()),
        read => read.doing("read", path),
    }
}

fn read_mounts(path: &str) -> std::io::Result<Vec<Mount>> {
    let table = mount_table_at(path)?.into_iter();
    Ok(table.map(|MountLine { mountpoint, device, fs_type, .. }| Mount { mountpoint, device, fs_type }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_over_another_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mount_one = || rustix::mount::mount("none", dir.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        mount_one();
        let lower = mount_at(dir.path()).unwrap().unwrap();
        mount_one();
        let upper = mount_at(dir.path()).unwrap().unwrap();
        assert!(!detach_only(&lower).unwrap());
        assert_eq!(mount_at(dir.path()).unwrap().as_ref(), Some(&upper));
        assert!(detach_only(&upper).unwrap() && detach_only(&lower).unwrap());
        assert_eq!(mount_at(dir.path()).unwrap(), None);
    }
}
