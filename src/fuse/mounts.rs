//! What is mounted where (`/proc/self/mountinfo`, proc(5)), and its end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::{Context as _, Result};

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
    /// `major:minor`.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// Unmounts it, if it is still what is to be seen at its place.
    ///
    /// # Errors
    /// As [`unmount`].
    pub fn unmount(&self, lazy: bool) -> Result<()> {
        if mount_at(&self.mountpoint).is_some_and(|there| there.device == self.device) {
            unmount(&self.mountpoint, lazy)?;
        }
        Ok(())
    }

    /// Ends it for everybody, after all that was written has reached the server. Other mount namespaces may have
    /// copies of it, which would else keep it alive for as long as they are there.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when it cannot be unmounted.
    pub fn end(&self) -> Result<()> {
        if mount_at(&self.mountpoint).is_some_and(|there| there.device == self.device) {
            let written = std::fs::File::open(&self.mountpoint).map(|root| rustix::fs::syncfs(&root));
            // What could not be written then cannot be written at all.
            let _ = written;
            abort(&self.mountpoint)?;
        }
        Ok(())
    }
}

/// Unmounts what is mounted at `mountpoint`.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) with `EBUSY` while somebody uses it, unless `lazy`: then it vanishes at once, and ends when
/// its last user does.
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(mountpoint, flags | UnmountFlags::NOFOLLOW).doing("unmount", mountpoint)
}

/// Unmounts what is mounted at `mountpoint`, and cuts it off from its server: who still uses it gets errors.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when nothing is mounted there.
pub fn abort(mountpoint: &Path) -> Result<()> {
    let flags = UnmountFlags::FORCE | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(mountpoint, flags).doing("unmount", mountpoint)
}

/// Changes the kernel's flags of a live mount (`mount -o remount`).
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the kernel refuses.
pub fn set_mount_flags(mountpoint: &Path, flags: MountFlags) -> Result<()> {
    rustix::mount::mount_remount(mountpoint, flags, "").doing("remount", mountpoint)
}

/// Whether the kernel has a mount of ours exactly here.
#[must_use]
pub fn is_mountpoint(mountpoint: &Path) -> bool {
    mounts().any(|mount| mount.fs_type == FS_TYPE && mount.mountpoint == mountpoint)
}

/// What is mounted exactly here, and not under something else.
#[must_use]
pub(super) fn mount_at(mountpoint: &Path) -> Option<Mount> {
    mounts().filter(|mount| mount.mountpoint == mountpoint).last()
}

/// All mounts of this mount namespace, in the order in which they were made.
pub fn mounts() -> impl Iterator<Item = Mount> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').filter_map(parse_mount).collect();
    lines.into_iter()
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let mut fields = line.split(|byte| *byte == b' ');
    let device = text(fields.nth(2)?);
    let mountpoint = PathBuf::from(OsStr::from_bytes(&unescape(fields.nth(1)?)));
    let fs_type = text(fields.skip_while(|field| *field != b"-").nth(1)?);
    Some(Mount { mountpoint, device, fs_type })
}

/// Reads the octal escapes that the kernel writes for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = digits {
            let value = digits.iter().fold(0u32, |value, digit| value << 3 | u32::from(digit - b'0'));
            bytes.push(u8::try_from(value).unwrap_or(b'?'));
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_lines_are_read_with_their_escapes() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402/a\\134b rw,noatime master:1 - fuse.layerctl src rw,errors=continue";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.mountpoint, Path::new("/mnt 2/a\\b"));
        assert_eq!((mount.device.as_str(), mount.fs_type.as_str()), ("98:0", FS_TYPE));
        assert!(parse_mount(b"garbage").is_none());
    }
}
