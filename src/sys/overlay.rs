//! The kernel's overlayfs (Documentation/filesystems/overlayfs.rst).

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::FsWord;
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, mount};
use serde::{Deserialize, Serialize};

/// The type that `mount(8)` shows.
pub const OVERLAY: &str = "overlay";
/// `OVERLAYFS_SUPER_MAGIC` (include/uapi/linux/magic.h).
pub const OVERLAY_MAGIC: FsWord = 0x794c_7630;
/// With an index hard links of a layer stay links, and the kernel mounts no upper twice; inode numbers stay over a copy-up and
/// over a mount; directories of a layer can be renamed; a change of owner or mode copies no data.
const OPTIONS: &str = "index=on,redirect_dir=on,metacopy=on,xino=on";
/// Marks in a layer that has been an upper are followed.
const OPTIONS_WITHOUT_UPPER: &str = "redirect_dir=follow,metacopy=on,xino=on";

/// Another process that [asks](is_upper_in_use) whether a mount has the upper has it for an instant itself: so often it is tried
/// again, and so long is waited before that.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_micros(300);

/// The directory that takes the changes, and what overlayfs needs beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upper {
    /// The directory.
    pub dir: PathBuf,
    /// One of the same file system, for overlayfs itself.
    pub work: PathBuf,
    /// Whether nothing waits for the disk.
    pub volatile: bool,
}

/// What is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// What `/proc/mounts` shows as the source.
    pub source: String,
    /// The layers, nearest first. Without an upper there are two at least.
    pub lowers: Vec<PathBuf>,
    /// What takes the changes; nothing can be changed without.
    pub upper: Option<Upper>,
    /// Whether nothing can be changed.
    pub read_only: bool,
    /// Further flags of the mount.
    pub flags: u32,
    /// Whether `/proc/mounts` does not show the directories: a command in the tree reads it.
    pub is_hidden: bool,
}

impl Overlay {
    /// Mounts it at `target`. Reading leaves no access times.
    ///
    /// # Errors
    /// As `mount(2)`: `EBUSY` while another mount has the upper.
    pub fn mount(&self, target: &Path) -> Result<()> {
        let mut tries = 0..TRIES;
        loop {
            match self.try_mount(target) {
                Err(Errno::BUSY) if tries.next().is_some() => sleep(PAUSE),
                mounted => return mounted,
            }
        }
    }

    fn try_mount(&self, target: &Path) -> Result<()> {
        // A path with a comma or colon is an option or a list for the kernel.
        let mut kept = Vec::new();
        let mut named = |path: &Path| -> Result<Vec<u8>> {
            let bytes = path.as_os_str().as_bytes();
            if !self.is_hidden && !bytes.iter().any(|byte| b",:\\\"".contains(byte)) {
                return Ok(bytes.to_vec());
            }
            let dir = File::open(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            let name = format!("/proc/self/fd/{}", dir.as_raw_fd());
            kept.push(dir);
            Ok(name.into_bytes())
        };
        let lowers = self.lowers.iter().map(|lower| named(lower)).collect::<Result<Vec<_>>>()?.join(&b':');
        let mut data = match &self.upper {
            Some(_) => [OPTIONS.as_bytes(), b",lowerdir=", &lowers].concat(),
            None => [OPTIONS_WITHOUT_UPPER.as_bytes(), b",lowerdir=", &lowers].concat(),
        };
        if let Some(upper) = &self.upper {
            for (option, dir) in [(&b",upperdir="[..], &upper.dir), (b",workdir=", &upper.work)] {
                data.extend([option, &named(dir)?].concat());
            }
            if upper.volatile {
                data.extend(b",volatile");
            }
        }
        let data = CString::new(data).map_err(|_| Errno::INVAL)?;
        let is_read_only = self.read_only || self.upper.is_none();
        let read_only = if is_read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        let flags = MountFlags::from_bits_retain(self.flags) | MountFlags::NOATIME | read_only;
        mount(self.source.as_str(), target, OVERLAY, flags, data.as_c_str())
    }
}

/// Whether a mount of overlayfs has the directory `upper` as its upper, in whichever mount namespace: the kernel refuses a second
/// mount of it then (`ovl_get_upper`, fs/overlayfs/super.c), and only after that a work directory in the upper.
///
/// # Errors
/// `EPERM` for a process that may not mount; `ENODEV` without overlayfs.
pub fn is_upper_in_use(upper: &Path) -> Result<bool> {
    let probe = Overlay {
        source: "probe".to_owned(),
        lowers: vec![upper.to_owned()],
        upper: Some(Upper { dir: upper.to_owned(), work: upper.to_owned(), volatile: false }),
        read_only: true,
        flags: 0,
        is_hidden: false,
    };
    // Tried again while it is in use: another process may just be asking the same.
    match probe.mount(upper) {
        Err(Errno::BUSY) => Ok(true),
        Err(Errno::INVAL | Errno::NOENT | Errno::STALE) => Ok(false),
        Err(error) => Err(error),
        // No kernel does that.
        Ok(()) => rustix::mount::unmount(upper, rustix::mount::UnmountFlags::DETACH).map(|()| false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upper_is_in_use_while_it_is_mounted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a,b:c", "upper", "work", "mnt"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("a,b:c").join("file"), "of the layer").unwrap();
        let overlay = Overlay {
            source: "test".into(),
            lowers: vec![at("a,b:c")],
            upper: Some(Upper { dir: at("upper"), work: at("work"), volatile: false }),
            read_only: false,
            flags: 0,
            is_hidden: false,
        };
        assert_eq!(is_upper_in_use(&at("upper")), Ok(false));
        overlay.mount(&at("mnt")).unwrap();
        let found = std::fs::read_to_string(at("mnt/file"));
        let in_use = is_upper_in_use(&at("upper"));
        let again = overlay.mount(&at("mnt"));
        rustix::mount::unmount(at("mnt"), rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!((found.unwrap().as_str(), in_use, again), ("of the layer", Ok(true), Err(Errno::BUSY)));
        assert_eq!(is_upper_in_use(&at("upper")), Ok(false));
        assert_eq!(is_upper_in_use(&at("none")), Ok(false));
    }
}
