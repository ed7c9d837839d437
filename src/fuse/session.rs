//! The mount: its beginning and its end.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as Raw;
use rustix::mount::MountFlags;

use super::attr_invalidation::AttrInvalidation;
use super::behaviour::Behaviour;
use super::counters::Counters;
use super::cpu_latency::CpuLatency;
use super::deferred;
use super::filesystem::Filesystem;
use super::freeze::Freeze;
use super::gathered::{Gatherer, WriteOut};
use super::io::Io;
use super::load::Load;
use super::losses::Losses;
use super::mounts::{self, FS_TYPE, Mount};
use super::negotiation::Negotiated;
use super::page_cache;
use super::passthrough::OpenFiles;
use super::read_ahead::{self, ReadAhead};
use super::renew;
use super::room::{Remount, Room};
use super::seek;
use super::under_overlay;
use super::workers::{AT_FIRST, Channel, Workers};
use crate::error::{Context as _, Error, Result};
use crate::sys::call;
use crate::union::Union;

const DEVICE: &str = "/dev/fuse";
/// `OVERLAYFS_SUPER_MAGIC` (include/uapi/linux/magic.h).
const OVERLAYFS_MAGIC: rustix::fs::FsWord = 0x794c_7630;

/// How a union is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// What `/proc/mounts` shows as the source (`fsname=`).
    pub source: String,
    /// The kernel's own flags: `ro`, `nosuid`, `nodev`, `noexec`, `noatime`, ...
    pub flags: MountFlags,
    /// By which way the data of files go.
    pub io: Io,
    /// How many requests are served at once, at the most: one that takes long must not keep others waiting.
    pub threads: usize,
    /// What is otherwise than by default.
    pub behaviour: Behaviour,
}

/// A live mount whose requests are answered by [`Session::serve`].
pub struct Session {
    channel: Channel,
    filesystem: Filesystem,
    counters: Arc<Counters>,
    freeze: Arc<Freeze>,
    gatherer: Arc<Gatherer>,
    losses: Arc<Losses>,
    room: Option<Arc<Room>>,
    /// Threads that hold the union.
    threads: [JoinHandle<()>; 4],
    mount: Mount,
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
        let (dev, device) = open_device()?;
        let device = Arc::new(device);
        let root = union.getattr(crate::union::Ino::ROOT).map_err(std::io::Error::from);
        let root = root.doing("read the root of", mountpoint)?;
        let root_mode = root.kind.mode_bits() | root.mode;
        let stack_depth = stack_depth(&union)?;
        let Behaviour { volatile, without_access_lists, under_overlay, ids, labels, .. } = &options.behaviour;
        let mut data = format!(
            "fd={},rootmode={root_mode:o},user_id={},group_id={},default_permissions,allow_other",
            device.as_raw_fd(),
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        labels.iter().for_each(|label| data.extend([",", label]));
        let data = CString::new(data).map_err(|_| Error::Usage("a mount option has a NUL byte".into()))?;
        let upper = union.branches().first().filter(|branch| branch.writable).map(|branch| branch.path.clone());
        let gathers = options.io == Io::Cached && !options.flags.contains(MountFlags::RDONLY);
        // With it the kernel drops what it knows of a file's blocks at each close (fs/fuse/file.c, `fuse_flush`), and
        // asks again at the next `stat`: not where nothing is written.
        let room = upper.filter(|_| gathers).map(|upper| Room::of(&upper)).transpose()?;
        let mut flags = options.flags;
        if room.as_ref().is_some_and(|room| room.is_synchronous()) {
            flags |= MountFlags::SYNCHRONOUS;
        }
        rustix::mount::mount(options.source.as_str(), mountpoint, FS_TYPE, flags, data.as_c_str())
            .doing("mount a union at", mountpoint)?;
        if let Some(propagation) = options.behaviour.propagation()
            && let Err(error) = rustix::mount::mount_change(mountpoint, propagation)
        {
            mounts::unmount(mountpoint, true)?;
            return Err(error).doing("change the propagation of", mountpoint);
        }
        let counters = Arc::new(Counters::default());
        let (seeks, questions) = seek::questions();
        let (renewals, outdated) = renew::renewals();
        let (read_ahead, batches) = ReadAhead::new();
        let (deferred, requests) = deferred::requests();
        let invalidation = Arc::new(AttrInvalidation::new());
        let freeze = Arc::new(Freeze::default());
        let gatherer = Arc::new(Gatherer::default());
        let losses = Arc::new(Losses::default());
        let filesystem = Filesystem {
            union: union.clone(),
            seeks,
            renewals,
            invalidation: invalidation.clone(),
            flush_failures: Arc::default(),
            freeze: freeze.clone(),
            losses: losses.clone(),
            room: room.clone(),
            cpu_latency: CpuLatency::start(),
            read_ahead: Arc::new(read_ahead),
            deferred,
            counters: counters.clone(),
            load: Arc::new(Load::new(AT_FIRST, options.threads.max(1))),
            negotiated: Negotiated {
                access_lists: !without_access_lists,
                handles: !under_overlay || !under_overlay::loses_handles(),
                ..Negotiated::new(room.is_some(), stack_depth)
            },
            ids: ids.clone(),
            volatile: *volatile,
            under_overlay: *under_overlay,
            open_files: (options.io == Io::Passthrough)
                .then(|| Arc::new(OpenFiles::new(options.flags.contains(MountFlags::NOATIME), device.clone()))),
        };
        let mount = mounts::mount_at(mountpoint).and_then(|mount| {
            mount
                .ok_or(std::io::ErrorKind::NotFound)
                .map_err(std::io::Error::from)
                .doing("find the mount at", mountpoint)
        });
        let started = Channel::begin(dev, device).and_then(|channel| {
            let notifying = channel.agree(filesystem.clone())?;
            invalidation.invalidate_by(notifying.notifier());
            let read_ahead = read_ahead::make_ready(batches, union.clone())?;
            let deferred = deferred::do_all(requests, freeze.clone(), union.clone())?;
            let renewing = renew::do_all(outdated, notifying.notifier())?;
            Ok(([read_ahead, deferred, renewing, seek::answer_all(questions, gatherer.clone(), union)?], channel))
        });
        match (started, mount) {
            (Ok((threads, channel)), Ok(mount)) => {
                page_cache::widen(mount.device());
                if let Some(Err(error)) = room.as_ref().map(|room| room.keep(mount.device())) {
                    mounts::abort(mountpoint)?;
                    return Err(error).doing("start a thread for", mountpoint);
                }
                Ok(Self { channel, filesystem, counters, freeze, gatherer, losses, room, threads, mount })
            }
            (started, mount) => {
                // Nothing is served, so nothing may wait for it.
                let ended = mounts::abort(mountpoint);
                // error: it is said below
                if options.io == Io::Passthrough
                    && started.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::Unsupported)
                {
                    ended?;
                    return Err(Error::Unsupported(
                        "this kernel's FUSE cannot pass data through (Linux 6.9 can)".into(),
                    ));
                }
                started.doing("begin to serve", mountpoint)?;
                mount.and(ended)?;
                Err(Error::Unsupported(format!("{}: cannot be served", mountpoint.display())))
            }
        }
    }

    /// Counts this mount's messages.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// By which all changes can be held back.
    #[must_use]
    pub fn freeze(&self) -> Arc<Freeze> {
        self.freeze.clone()
    }

    /// By which the kernel is made to write out what it has gathered.
    #[must_use]
    pub fn gatherer(&self) -> Arc<Gatherer> {
        self.gatherer.clone()
    }

    /// How that is done. To be called before [`Session::serve`].
    pub fn write_out_by(&self, write_out: WriteOut) {
        self.gatherer.write_out_by(write_out);
    }

    /// What could not be stored.
    #[must_use]
    pub fn losses(&self) -> Arc<Losses> {
        self.losses.clone()
    }

    /// By which the mount is made synchronous when there is little room, and gathers writes again when there is enough. To be
    /// called before [`Session::serve`].
    pub fn remount_by(&self, remount: Remount) {
        if let Some(room) = &self.room {
            room.remount_by(remount);
        }
    }

    /// The mount, as others may unmount it too.
    #[must_use]
    pub fn mounted(&self) -> Mount {
        self.mount.clone()
    }

    /// Begins to answer requests; returns when threads do that. More are started when all are busy.
    ///
    /// # Errors
    /// [`Error::Io`] when the threads cannot be started. Then the mount must be ended, and this process.
    pub fn serve(self) -> Result<Serving> {
        let Self { channel, filesystem, threads, mount, .. } = self;
        let workers = Workers::start(channel, filesystem).doing("begin to serve", &mount.mountpoint)?;
        Ok(Serving { workers, threads })
    }
}

/// A mount whose requests are answered.
#[derive(Debug)]
pub struct Serving {
    workers: Workers,
    threads: [JoinHandle<()>; 4],
}

impl Serving {
    /// Waits for the end of the mount. Afterwards nothing here refers to the union any more.
    ///
    /// # Errors
    /// [`Error::Io`] when the connection to the kernel breaks.
    pub fn end(self) -> Result<()> {
        // After an error other threads may never end.
        self.workers.end().doing("serve", DEVICE)?;
        for thread in self.threads {
            // Its reference to the union may be the last one, and then the upper is closed by it.
            if thread.join().is_err() {
                return Err(Error::Unsupported("a thread that serves a mount has panicked".into()));
            }
        }
        Ok(())
    }
}

/// How many file systems are under the files of the upper, and this one on top of them: the fewer it says, the more may be
/// stacked on it (include/linux/fs.h, `FILESYSTEM_MAX_STACK_DEPTH`).
fn stack_depth(union: &Union) -> Result<u32> {
    let Some(branch) = union.branches().first() else { return Ok(1) };
    let found = call::statfs(&*branch.path).doing("find the file system of", &branch.path)?;
    Ok(if found.f_type == OVERLAYFS_MAGIC { 2 } else { 1 })
}

/// The directory of the device, and the device.
fn open_device() -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dev = call::open("/dev", flags, Mode::empty()).doing("open", "/dev")?;
    match call::openat(&dev, "fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Err(Raw::NOENT | Raw::NODEV | Raw::NXIO) => Err(Error::Unsupported(format!(
            "{DEVICE} is not there: the kernel's fuse module is not loaded, or this container was not given the device"
        ))),
        opened => opened.map(|device| (dev, device)).doing("open", DEVICE),
    }
}
