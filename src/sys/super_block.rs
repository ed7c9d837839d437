//! The flags of a file system, whichever mounts there are of it.

use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};

/// Makes the file system whose mount has the root `root` read-only in every mount namespace, or not any more. Each mount of it keeps
/// its own flags.
///
/// # Errors
/// `EBUSY` while a file is open to be written; `EINVAL` when `root` is not the root of a mount; `ENOSYS` before Linux 5.2.
pub fn set_read_only(root: impl AsFd, read_only: bool) -> Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_NO_AUTOMOUNT;
    let picked = fspick(root, "", flags)?;
    fsconfig_set_flag(picked.as_fd(), if read_only { "ro" } else { "rw" })?;
    fsconfig_reconfigure(picked.as_fd())
}
