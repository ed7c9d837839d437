//! Pseudo-terminals of a container, made before it is there.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};

use crate::error::{Context as _, Error, Result};
use crate::sys::call;

/// The file system of the terminals that a container has, and no other. It is mounted nowhere until init mounts it on the
/// container's `/dev/pts`, so that a terminal has its name there.
pub(super) struct Devpts(OwnedFd);

impl Devpts {
    pub(super) fn new() -> Result<Self> {
        mount("devpts", &[("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")], MountAttrFlags::MOUNT_ATTR_NOEXEC)
            .map(Self)
    }

    /// Master and slave. The master does not block.
    pub(super) fn open(&self) -> Result<(OwnedFd, OwnedFd)> {
        let doing = "make a pseudo-terminal of";
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let master = call::openat(&self.0, "ptmx", flags, Mode::empty()).doing(doing, "the container")?;
        unlockpt(&master).doing(doing, "the container")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).doing(doing, "the container")?;
        Ok((master, slave))
    }

    pub(super) fn into_mount(self) -> OwnedFd {
        self.0
    }
}

/// A new file system that is mounted nowhere.
pub(super) fn mount(kind: &str, options: &[(&str, &str)], flags: MountAttrFlags) -> Result<OwnedFd> {
    let make = || {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        options.iter().try_for_each(|(key, value)| fsconfig_set_string(&context, *key, *value))?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags | MountAttrFlags::MOUNT_ATTR_NOSUID)
    };
    match make() {
        Err(Errno::NOSYS) => Err(Error::Unsupported("a terminal in a container needs Linux 5.2 or newer".into())),
        made => made.doing("make the container's file system", kind),
    }
}
