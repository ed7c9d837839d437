//! By which way a container's tree is reached: by its mount, or by nobody else.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FsWord, Mode, OFlags};
use rustix::io::Errno;

use super::{live, mountpoint};
use crate::error::{Context as _, Error, Result};
use crate::store::{Container, ContainerState, MountRecord, Store};

/// How long is waited for a server that is unmounted and about to end.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);
/// `FUSE_SUPER_MAGIC` (include/uapi/linux/magic.h).
const FUSE_MAGIC: FsWord = 0x6573_5546;

/// The way to a container's tree.
#[derive(Debug)]
pub(super) enum Access {
    /// A server has it, which alone may touch the rw layer.
    Mounted(MountRoot),
    /// It is neither mounted nor removed as long as this is held.
    Locked(File),
}

/// The root of a live mount. It stays what it is, though somebody unmounts it lazily or mounts something over it.
#[derive(Debug)]
pub(super) struct MountRoot {
    /// What is known of the mount.
    pub(super) record: MountRecord,
    root: OwnedFd,
}

impl MountRoot {
    /// A path by which it is found as long as this is there. The directory itself is at it, and not a link to it.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/.", self.root.as_raw_fd()))
    }

    /// A path below [`MountRoot::path`] as the user knows it.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.path()).map_or_else(|_| path.to_owned(), |below| self.record.mountpoint.join(below))
    }

    /// Has the kernel write out what it has gathered.
    pub(super) fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.root).doing("flush", &self.record.mountpoint)
    }
}

/// Finds the way. Where the mount has gone and its server is about to end, that is waited for: what is at the mountpoint
/// then is not the container's.
///
/// # Errors
/// [`Error::InUse`] when somebody else has the container, and its mount is not to be seen from here.
pub(super) fn access(store: &Store, container: &Container) -> Result<Access> {
    let mut waited = Duration::ZERO;
    loop {
        let is_running = container.state()? == ContainerState::Running;
        if is_running
            && mountpoint::is_mounted(store, container)?
            && let Some(record) = container.mount()?
            && let Some(root) = open_root(&record.mountpoint)?
        {
            return Ok(Access::Mounted(MountRoot { record, root }));
        }
        // It writes down its end before it lets go, and that may take a while.
        let mount = container.mount()?;
        let has_server = is_running || mount.is_some_and(|mount| live::has_server(&store.run_dir().join(mount.live)));
        match container.lock() {
            Err(Error::InUse { .. }) if has_server && waited < PATIENCE => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            locked => return locked.map(Access::Locked),
        }
    }
}

/// Takes the container for a server, and waits for the last one if that is just ending.
///
/// # Errors
/// [`Error::InUse`] when somebody else has it.
pub(super) fn lock(store: &Store, container: &Container) -> Result<File> {
    let mut waited = Duration::ZERO;
    loop {
        match container.lock() {
            Err(Error::InUse { .. }) if waited < PATIENCE && !mountpoint::is_mounted(store, container)? => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            locked => return locked,
        }
    }
}

/// Opens the root of what is mounted; none when that has just gone.
fn open_root(mountpoint: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match rustix::fs::open(mountpoint, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTCONN | Errno::CONNABORTED) => return Ok(None),
        opened => opened.doing("open", mountpoint)?,
    };
    Ok(rustix::fs::fstatfs(&root).is_ok_and(|found| found.f_type == FUSE_MAGIC).then_some(root))
}
