//! How a command reaches a container's tree: through its live mount, or directly while it holds the container's lock.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FsWord, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::mount::live::{self, LiveRecord};
use crate::mount::placed::{Placed, covering};
use crate::mount::task::{self, Action, Outcome};
use crate::mount::wait::{PATIENCE, STEP, Wait};
use crate::mount::{kernel, mountpoint};
use crate::store::{Container, ContainerState, MountRecord, Store};
use crate::sys::{call, fs};

/// How long is waited for a server that is unmounted and shows no progress.
const UNSEEN_PATIENCE: Duration = Duration::from_secs(20);
/// `FUSE_SUPER_MAGIC` (include/uapi/linux/magic.h).
const FUSE_MAGIC: FsWord = 0x6573_5546;

/// The way to a container's tree.
#[derive(Debug)]
pub(crate) enum Access {
    /// A server has it, which alone may touch the rw layer.
    Mounted(MountRoot),
    /// It is neither mounted nor removed as long as this is held.
    Locked(File),
    /// The kernel's overlayfs has it: its rw layer can be read, and changes meanwhile.
    Overlay(OverlayAccess),
}

/// A mount by the kernel's overlayfs.
#[derive(Debug)]
pub(crate) struct OverlayAccess {
    /// What is known of the mount.
    pub(crate) record: MountRecord,
    /// The container's lock; a command's caller has that itself.
    lock: Option<File>,
    /// The rw layer.
    upper: OwnedFd,
}

impl OverlayAccess {
    fn of(container: &Container, record: MountRecord) -> Result<Self> {
        let lock = match container.lock_record() {
            Err(Error::InUse { .. }) => None,
            lock => Some(lock?),
        };
        if lock.is_some() {
            kernel::put_right(container, &record)?;
        }
        let upper = container.upper();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper = call::open(&upper, flags, Mode::empty()).doing("open", &upper)?;
        Ok(Self { record, lock, upper })
    }

    /// Whether no other process can end the mount.
    pub(crate) const fn has_lock(&self) -> bool {
        self.lock.is_some()
    }

    /// That the rw layer which was read was the container's to the end: a command may end meanwhile, and another process then make
    /// the rw layer anew.
    ///
    /// # Errors
    /// [`Error::InUse`] when it is another one now.
    pub(crate) fn check_same(&self, container: &Container) -> Result<()> {
        let path = container.upper();
        let was = call::fstat(&self.upper).doing("look at", &path)?;
        let is = fs::found(&path).doing("look at", &path)?;
        if is.is_some_and(|is| (is.dev(), is.ino()) == (was.st_dev, was.st_ino)) {
            return Ok(());
        }
        let by = "its command has ended and another process mounts or removes it: try again".to_owned();
        Err(Error::InUse { kind: "container", name: container.record.name.clone(), by })
    }
}

/// The root of a live mount. It stays valid when another process unmounts the mount lazily or mounts something over it.
#[derive(Debug)]
pub(crate) struct MountRoot {
    /// What is known of the mount.
    pub(crate) record: MountRecord,
    live: LiveRecord,
    place: Placed,
    dir: PathBuf,
    root: OwnedFd,
}

impl MountRoot {
    /// A path by which it is found as long as this is there. The directory itself is at it, and not a link to it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/.", self.root.as_raw_fd()))
    }

    /// A path below [`MountRoot::path`] as the user knows it.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.path()).map_or_else(|_| path.to_owned(), |below| self.record.mountpoint.join(below))
    }

    /// Has all that was written go to the server; false when it does, but may not be there yet.
    pub(crate) fn sync(&self) -> Result<bool> {
        let what =
            format!("the mount at {}: all that was written to it is in its rw layer", self.record.mountpoint.display());
        let mut wait = Wait::new(what, Some(self.live.pid), PATIENCE);
        let order = self.place.order(&self.live, &self.dir, Action::Flush);
        match task::run(&order, &mut wait)? {
            Some(outcome) => Ok(matches!(outcome, Outcome::Done { .. })),
            None => Err(Error::Unsupported(format!(
                "the mount at {}: its server (process {}) shows no progress",
                self.record.mountpoint.display(),
                self.live.pid
            ))),
        }
    }

    /// What was written and could not be brought to the rw layer, as an error: what is read of the mount lacks it.
    ///
    /// # Errors
    /// That; and when the server cannot be asked.
    pub(crate) fn check_lost(&self, container: &Container) -> Result<()> {
        let lost = live::ask(&self.dir)?.and_then(|live| live.lost);
        lost.map_or(Ok(()), |lost| Err(lacks(container, &lost)))
    }
}

/// That a container lacks what was written to it.
pub(crate) fn lacks(container: &Container, lost: &str) -> Error {
    let name = &container.record.name;
    Error::Unsupported(format!(
        "container {name}: {lost}; `layerctl umount {name}` says it once more, and then it is taken as it is"
    ))
}

/// That nothing is lost of what was written to a container that is not mounted, or that `umount` has said it.
///
/// # Errors
/// What is lost.
pub(crate) fn check_recorded_loss(container: &Container) -> Result<()> {
    let lost = container.mount()?.and_then(|mount| mount.lost);
    lost.map_or(Ok(()), |lost| Err(lacks(container, &lost)))
}

/// Finds the way. Where the mount has gone and its server is about to end, that is waited for: what is at the mountpoint
/// then is not the container's.
///
/// # Errors
/// [`Error::InUse`] when another process has the container, and its mount is not visible from here.
pub(crate) fn access(store: &Store, container: &Container) -> Result<Access> {
    let mut wait = None;
    loop {
        if let Some(record) = container.mount()?
            && (container.has_command(&record)? || container.has_overlay(&record)?)
        {
            return OverlayAccess::of(container, record).map(Access::Overlay);
        }
        let is_running = container.state()? == ContainerState::Running;
        if is_running
            && let Some((live, place)) = mountpoint::mounted(store, container)?
            && place != Placed::Nowhere
            && let Some(record) = container.mount()?
            && let Some(root) = open_root(&live, place)?
        {
            let dir = store.run_dir().join(&record.live);
            return Ok(Access::Mounted(MountRoot { record, live, place, dir, root }));
        }
        // It writes down its end before it lets go, and that may take a while.
        let mount = container.mount()?;
        let has_server =
            is_running || mount.as_ref().is_some_and(|mount| live::has_server(&store.run_dir().join(&mount.live)));
        match container.lock() {
            Err(Error::InUse { .. }) if has_server && goes_on(&mut wait, container, mount.map(|mount| mount.pid))? => {
                std::thread::sleep(STEP);
            }
            Err(Error::InUse { kind, name, .. }) if has_server => {
                let by =
                    "it is unmounted, but its server has not ended: a process may have a file open in it".to_owned();
                return Err(Error::InUse { kind, name, by });
            }
            locked => return locked.map(Access::Locked),
        }
    }
}

/// Whether the last server of a container is waited for any longer.
fn goes_on(wait: &mut Option<Wait>, container: &Container, server: Option<u32>) -> Result<bool> {
    let begin = || {
        Wait::new(format!("container {}: its last server has ended", container.record.name), server, UNSEEN_PATIENCE)
    };
    wait.get_or_insert_with(begin).goes_on()
}

/// Takes the container for a server, and waits for the last one if that is just ending.
///
/// # Errors
/// [`Error::InUse`] when another process has it.
pub(crate) fn lock(store: &Store, container: &Container) -> Result<File> {
    let mut wait = None;
    loop {
        match container.lock() {
            Err(Error::InUse { kind, name, by }) => {
                if mountpoint::is_mounted(store, container)? {
                    return Err(Error::InUse { kind, name, by });
                }
                let server = container.mount()?.map(|mount| mount.pid);
                if !goes_on(&mut wait, container, server)? {
                    let by = "it is unmounted, but its server has not ended: a process may have a file open in it"
                        .to_owned();
                    return Err(Error::InUse { kind, name, by });
                }
                std::thread::sleep(STEP);
            }
            locked => return locked,
        }
    }
}

/// Opens the root of a mount; none when that has just gone.
///
/// # Errors
/// [`Error::InUse`] when something else is mounted over it.
fn open_root(live: &LiveRecord, place: Placed) -> Result<Option<OwnedFd>> {
    let mountpoint = &place.path(live);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match call::open(mountpoint, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTCONN | Errno::CONNABORTED) => return Ok(None),
        opened => opened.doing("open", mountpoint)?,
    };
    match call::fstatfs(&root) {
        Err(Errno::NOTCONN | Errno::CONNABORTED) => Ok(None),
        found => {
            let is_fuse = found.doing("look at", mountpoint)?.f_type == FUSE_MAGIC;
            let device = call::fstat(&root).doing("look at", mountpoint)?.st_dev;
            let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
            if is_fuse && live.device.as_ref().is_none_or(|own| *own == device) {
                return Ok(Some(root));
            }
            covering(live, place)?.map_or(Ok(None), |over| Err(over.in_the_way()))
        }
    }
}
