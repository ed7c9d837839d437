//! The mount, and the threads that serve it.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as Raw;
use rustix::mount::{MountFlags, UnmountFlags};

use super::counters::Counters;
use super::filesystem::Filesystem;
use super::seek;
use crate::error::{Context as _, Error, Result};
use crate::union::Union;

/// The type that `mount(8)` and `/proc/mounts` show.
const FS_TYPE: &str = "fuse.layerctl";
const DEVICE: &str = "/dev/fuse";

/// How a union is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// What `/proc/mounts` shows as the source (`fsname=`).
    pub source: String,
    /// The kernel's own flags: `ro`, `nosuid`, `nodev`, `noexec`, `noatime`, ...
    pub flags: MountFlags,
    /// Whether the kernel may gather writes before it sends them.
    pub writeback: bool,
    /// How many requests are served at once: one that takes long must not keep others waiting.
    pub threads: usize,
}

/// A live mount whose requests are answered by [`Session::serve`].
pub struct Session {
    session: fuser::Session<Filesystem>,
    counters: Arc<Counters>,
    seek: JoinHandle<()>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Mounts `union` at `mountpoint`. Requests wait until [`Session::serve`] is called.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without `/dev/fuse`; [`Error::Io`] when the kernel refuses the mount.
    pub fn mount(union: Arc<Union>, mountpoint: &Path, options: &MountOptions) -> Result<Self> {
        let device = open_device()?;
        let root_mode = union
            .getattr(crate::union::Ino::ROOT)
            .map_or(libc::S_IFDIR | 0o755, |root| root.kind.mode_bits() | root.mode);
        let data = format!(
            "fd={},rootmode={root_mode:o},user_id={},group_id={},default_permissions,allow_other",
            device.as_raw_fd(),
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let data = CString::new(data).map_err(|_| Error::Usage("a mount option has a NUL byte".into()))?;
        rustix::mount::mount(options.source.as_str(), mountpoint, FS_TYPE, options.flags, data.as_c_str())
            .doing("mount a union at", mountpoint)?;
        let counters = Arc::new(Counters::default());
        let (seeks, questions) = seek::questions();
        let filesystem = Filesystem {
            union: union.clone(),
            seeks,
            counters: counters.clone(),
            writeback: options.writeback,
            no_open: false,
            no_opendir: false,
        };
        let mut config = fuser::Config::default();
        config.n_threads = Some(options.threads.max(1));
        config.clone_fd = options.threads > 1;
        let started = fuser::Session::from_fd(filesystem, device, fuser::SessionACL::All, config)
            .and_then(|session| Ok((seek::answer_all(questions, session.notifier(), union)?, session)));
        match started {
            Ok((seek, session)) => Ok(Self { session, counters, seek }),
            Err(source) => {
                let _ = rustix::mount::unmount(mountpoint, UnmountFlags::DETACH);
                Err(source).doing("begin to serve", mountpoint)
            }
        }
    }

    /// Counts this mount's messages.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Answers requests until somebody unmounts. Afterwards nothing here refers to the union any more.
    ///
    /// # Errors
    /// [`Error::Io`] when the connection to the kernel breaks.
    pub fn serve(self) -> Result<()> {
        let result = self.session.run().doing("serve", DEVICE);
        // Its reference to the union may be the last one, and then the upper is closed by it.
        let _ = self.seek.join();
        result
    }
}

fn open_device() -> Result<OwnedFd> {
    match rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Err(Raw::NOENT | Raw::NODEV | Raw::NXIO) => Err(Error::Unsupported(format!(
            "{DEVICE} is not there: the kernel's fuse module is not loaded, or this container was not given the device"
        ))),
        opened => opened.doing("open", DEVICE),
    }
}

/// Unmounts what is mounted at `mountpoint`.
///
/// # Errors
/// [`Error::Io`] with `EBUSY` while somebody uses it, unless `lazy`: then it vanishes at once, and ends when
/// its last user does.
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(mountpoint, flags | UnmountFlags::NOFOLLOW).doing("unmount", mountpoint)
}

/// Unmounts what is mounted at `mountpoint`, and cuts it off from its server: who still uses it gets errors.
///
/// # Errors
/// [`Error::Io`] when nothing is mounted there.
pub fn abort(mountpoint: &Path) -> Result<()> {
    let flags = UnmountFlags::FORCE | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(mountpoint, flags).doing("unmount", mountpoint)
}

/// Changes the kernel's flags of a live mount (`mount -o remount`).
///
/// # Errors
/// [`Error::Io`] when the kernel refuses.
pub fn set_mount_flags(mountpoint: &Path, flags: MountFlags) -> Result<()> {
    rustix::mount::mount_remount(mountpoint, flags, "").doing("remount", mountpoint)
}

/// Whether the kernel has a mount of ours exactly here.
#[must_use]
pub fn is_mountpoint(mountpoint: &Path) -> bool {
    mounts().any(|(target, fs_type)| fs_type == FS_TYPE && target == mountpoint)
}

/// All mounts of this mount namespace: where, and of which type (`/proc/self/mountinfo`, proc(5)).
pub fn mounts() -> impl Iterator<Item = (PathBuf, String)> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').filter_map(parse_mount).collect();
    lines.into_iter()
}

fn parse_mount(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let target = unescape(fields.nth(4)?);
    let fs_type = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some((PathBuf::from(std::ffi::OsStr::from_bytes(&target)), String::from_utf8_lossy(fs_type).into_owned()))
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
        let (target, fs_type) = parse_mount(line).unwrap();
        assert_eq!(target, Path::new("/mnt 2/a\\b"));
        assert_eq!(fs_type, "fuse.layerctl");
        assert!(parse_mount(b"garbage").is_none());
    }
}
