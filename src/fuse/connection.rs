//! The kernel's control file system for FUSE connections (Documentation/filesystems/fuse/fuse.rst): how many requests of a
//! mount are unanswered, and the end of its connection.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::error::{Context as _, Error, Result};
use crate::sys::call;

const NAME: &str = "fusectl";
/// Where distributions mount it.
const MOUNTED: &str = "/sys/fs/fuse/connections";

/// The control files of one connection. `abort` stays that of this connection: when it has ended it does nothing, also if the
/// kernel has given its number to another one (fs/fuse/control.c, `fuse_ctl_file_conn_get`).
#[derive(Debug)]
pub struct Connection {
    /// The root of the control file system, and the directory of the connection in it.
    root: OwnedFd,
    minor: String,
    abort: OwnedFd,
}

impl Connection {
    /// Opens the control files of the mount with this device number (`major:minor`); `None` if this process may not have
    /// the control file system, or the connection has ended.
    ///
    /// # Errors
    /// [`Error::Io`] when the files cannot be opened for another reason.
    pub fn of(device: &str) -> Result<Option<Self>> {
        let Some(minor) = device.split_once(':').map(|(_, minor)| minor) else { return Ok(None) };
        let root = match control_files() {
            Ok(root) => root,
            // Not root of the initial user namespace, a sandbox, a kernel before 5.2 or without it: it may be mounted.
            Err(Errno::PERM | Errno::ACCESS | Errno::NODEV | Errno::NOSYS | Errno::INVAL) => {
                match call::openat(CWD, MOUNTED, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                    Err(Errno::NOENT | Errno::ACCESS) => return Ok(None),
                    opened => opened.doing("open", MOUNTED)?,
                }
            }
            Err(error) => return Err(error).doing("open the control file system of", "fuse"),
        };
        let path = format!("{minor}/abort");
        match call::openat(root.as_fd(), &*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            // It has ended, or nothing is mounted there, or it is not this user's.
            Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => Ok(None),
            abort => Ok(Some(Self {
                root,
                minor: minor.to_owned(),
                abort: abort.doing("open", format!("{MOUNTED}/{path}"))?,
            })),
        }
    }

    /// How many requests the kernel has that are not answered; 0 when the connection has ended. To be asked only while the
    /// connection is kept from ending, by an open file say: another one might be given its number.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn waiting(&self) -> Result<u64> {
        let path = format!("{}/waiting", self.minor);
        let shown = || format!("{MOUNTED}/{path}");
        // It can be read once only (fs/fuse/control.c, `fuse_conn_waiting_read`).
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = match call::openat(self.root.as_fd(), &*path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(0),
            file => file.doing("open", shown())?,
        };
        let mut text = [0; 32];
        let length = call::read(&file, &mut text).doing("read", shown())?;
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        match text.trim() {
            "" => Ok(0),
            number => number.parse().map_err(|_| Error::corrupt(shown(), "is no number")),
        }
    }

    /// Ends the connection: whatever still has the mount gets `ENOTCONN`, and its server ends.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn abort(&self) -> Result<()> {
        call::write(&self.abort, b"1").map(drop).doing("end", "the connection of a mount")
    }
}

/// The root of the control file system, which is mounted nowhere for that.
fn control_files() -> rustix::io::Result<OwnedFd> {
    let context = fsopen(NAME, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}
