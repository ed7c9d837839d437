//! The mount, and the threads that serve it.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as Raw;
use rustix::mount::MountFlags;

use super::behaviour::Behaviour;
use super::counters::Counters;
use super::filesystem::Filesystem;
use super::flush_failures::FlushFailures;
use super::gate::Gate;
use super::gathered::{Gatherer, WriteOut};
use super::given::Given;
use super::io::Io;
use super::late;
use super::losses::Losses;
use super::mounts::{self, FS_TYPE, Mount};
use super::opens::Opens;
use super::page_cache;
use super::read_ahead::{self, ReadAhead};
use super::renew;
use super::room::{Remount, Room};
use super::seek;
use super::terms::Terms;
use super::under_overlay;
use super::wakeful::Wakeful;
use crate::error::{Context as _, Error, Result};
use crate::sys::{Dir, call};
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
    /// How many requests are served at once: one that takes long must not keep others waiting.
    pub threads: usize,
    /// What is otherwise than by default.
    pub behaviour: Behaviour,
}

/// A live mount whose requests are answered by [`Session::serve`].
pub struct Session {
    session: fuser::Session<Filesystem>,
    counters: Arc<Counters>,
    gate: Arc<Gate>,
    gatherer: Arc<Gatherer>,
    losses: Arc<Losses>,
    room: Option<Arc<Room>>,
    /// Threads that hold the union.
    threads: [JoinHandle<()>; 4],
    mount: Mount,
    /// How many threads answer requests.
    wanted: usize,
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
        let (late, requests) = late::requests();
        let given = Arc::new(Given::new());
        let gate = Arc::new(Gate::default());
        let gatherer = Arc::new(Gatherer::default());
        let losses = Arc::new(Losses::default());
        let filesystem = Filesystem {
            union: union.clone(),
            seeks,
            renewals,
            given: given.clone(),
            flush_failures: FlushFailures::default(),
            gate: gate.clone(),
            losses: losses.clone(),
            room: room.clone(),
            wakeful: Wakeful::start(),
            read_ahead,
            late,
            counters: counters.clone(),
            terms: Terms {
                access_lists: !without_access_lists,
                handles: !under_overlay || !under_overlay::loses_handles(),
                ..Terms::new(room.is_some(), stack_depth)
            },
            ids: ids.clone(),
            volatile: *volatile,
            under_overlay: *under_overlay,
            opens: (options.io == Io::Passthrough)
                .then(|| Arc::new(Opens::new(options.flags.contains(MountFlags::NOATIME)))),
        };
        let mut config = fuser::Config::default();
        config.n_threads = Some(options.threads.max(1));
        config.clone_fd = options.threads > 1;
        let mount = mounts::mount_at(mountpoint).and_then(|mount| {
            mount
                .ok_or(std::io::ErrorKind::NotFound)
                .map_err(std::io::Error::from)
                .doing("find the mount at", mountpoint)
        });
        let started = fuser::Session::from_fd(filesystem, device, fuser::SessionACL::All, config).and_then(|session| {
            let read_ahead = read_ahead::make_ready(batches, union.clone())?;
            let late = late::do_all(requests, gate.clone(), union.clone())?;
            let renewing = renew::do_all(outdated, session.notifier())?;
            Ok(([read_ahead, late, renewing, seek::answer_all(questions, gatherer.clone(), union)?], session))
        });
        match (started, mount) {
            (Ok((threads, session)), Ok(mount)) => {
                given.invalidate_by(session.notifier());
                page_cache::widen(mount.device());
                if let Some(Err(error)) = room.as_ref().map(|room| room.keep(mount.device())) {
                    mounts::abort(mountpoint)?;
                    return Err(error).doing("start a thread for", mountpoint);
                }
                Ok(Self {
                    session,
                    counters,
                    gate,
                    gatherer,
                    losses,
                    room,
                    threads,
                    mount,
                    wanted: options.threads.max(1),
                })
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
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
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

    /// Begins to answer requests; returns when all threads do that.
    ///
    /// # Errors
    /// [`Error::Io`] when not all threads can be started. Then the mount must be ended, and this process.
    pub fn serve(self) -> Result<Serving> {
        let Self { session, threads, mount, wanted, .. } = self;
        let before = all_threads()?;
        let running = std::thread::Builder::new().name("session".to_owned()).spawn(move || session.run());
        let running = running.doing("start a thread for", &mount.mountpoint)?;
        // fuser does not say when its threads run. No other thread starts one now; but others may end.
        let begun = Instant::now();
        while all_threads()? <= before.saturating_add(wanted) {
            if begun.elapsed() > COUNTING && answering_threads()? >= wanted {
                break;
            }
            if running.is_finished() {
                let serving = Serving { running, threads };
                // With the connection ended at once there is nothing to be served, which is no failure.
                return if mounts::mount_at(&mount.mountpoint)?.is_some_and(|there| there == mount) {
                    Err(serving
                        .end()
                        .err()
                        .unwrap_or_else(|| Error::Unsupported("the mount's threads have ended".into())))
                } else {
                    Ok(serving)
                };
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(Serving { running, threads })
    }
}

/// What the names of fuser's threads begin with.
const ANSWERING: &[u8] = b"fuser-";

/// A mount whose requests are answered.
#[derive(Debug)]
pub struct Serving {
    running: JoinHandle<std::io::Result<()>>,
    threads: [JoinHandle<()>; 4],
}

impl Serving {
    /// Waits for the end of the mount. Afterwards nothing here refers to the union any more.
    ///
    /// # Errors
    /// [`Error::Io`] when the connection to the kernel breaks.
    pub fn end(self) -> Result<()> {
        let result = match self.running.join() {
            Ok(result) => result.doing("serve", DEVICE),
            Err(_) => Err(Error::Unsupported("a thread that serves a mount has panicked".into())),
        };
        // error: it is given back; after it other threads may never end
        if result.is_ok() {
            for thread in self.threads {
                // Its reference to the union may be the last one, and then the upper is closed by it.
                if thread.join().is_err() {
                    return Err(Error::Unsupported("a thread that serves a mount has panicked".into()));
                }
            }
        }
        result
    }
}

/// For how long all threads are counted, which costs little, before those of fuser are, each by its name.
const COUNTING: Duration = Duration::from_millis(2);

/// How many threads this process has.
fn all_threads() -> Result<usize> {
    let tasks = "/proc/self/task";
    // A directory has two links more than directories in it (fs/proc/base.c, `proc_task_getattr`).
    let links = crate::sys::fs::metadata(tasks).doing("read", tasks)?.nlink();
    Ok(usize::try_from(links).unwrap_or(usize::MAX))
}

/// How many threads of fuser this process has. Others come and go meanwhile, and so do not count.
fn answering_threads() -> Result<usize> {
    let tasks = "/proc/self/task";
    let mut count = 0;
    for task in Dir::open(Path::new(tasks)).doing("read", tasks)? {
        let task = task.doing("read", tasks)?;
        let path = Path::new(tasks).join(OsStr::from_bytes(task.file_name().to_bytes())).join("comm");
        let name = match fs::read(&path) {
            // It has ended.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => continue,
            name => name.doing("read", &path)?,
        };
        count += usize::from(name.starts_with(ANSWERING));
    }
    Ok(count)
}

/// How many file systems are under the files of the upper, and this one on top of them: the fewer it says, the more may be
/// stacked on it (include/linux/fs.h, `FILESYSTEM_MAX_STACK_DEPTH`).
fn stack_depth(union: &Union) -> Result<u32> {
    let Some(branch) = union.branches().first() else { return Ok(1) };
    let found = call::statfs(&*branch.path).doing("find the file system of", &branch.path)?;
    Ok(if found.f_type == OVERLAYFS_MAGIC { 2 } else { 1 })
}

fn open_device() -> Result<OwnedFd> {
    match call::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Err(Raw::NOENT | Raw::NODEV | Raw::NXIO) => Err(Error::Unsupported(format!(
            "{DEVICE} is not there: the kernel's fuse module is not loaded, or this container was not given the device"
        ))),
        opened => opened.doing("open", DEVICE),
    }
}
