//! What a live mount shows of itself: `run/si_<id>/`, as AUFS showed `/sys/fs/aufs/si_<id>/`.
//!
//! ```text
//! br0, br1, ...      the branches, uppermost first: "/abs/path=rw\n"
//! brid0, brid1, ...  what each branch is: a container, a layer, or its number
//! mount.json         [`LiveRecord`]
//! lock               held by the server as long as it lives
//! control            a socket that gives a [`Live`] to whoever connects
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Result};
use crate::fuse::Counters;
use crate::union::Branch;

/// How long a server may take to say what it is doing.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long a server may take to end after its mount is gone.
const END_PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);
const LOCK: &str = "lock";

/// What is known of a live mount without asking its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The server's process.
    pub pid: u32,
    /// The container, for a container's mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// One branch, as `inspect` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveBranch {
    /// 0 is the uppermost.
    #[serde(rename = "Index")]
    pub index: usize,
    /// The directory.
    #[serde(rename = "Path")]
    pub path: PathBuf,
    /// `rw` or `ro`.
    #[serde(rename = "Mode")]
    pub mode: String,
    /// A container, a layer, or the branch's number.
    #[serde(rename = "Id")]
    pub id: String,
}

/// All that a server says of its mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// What is also on disk.
    #[serde(flatten)]
    pub record: LiveRecord,
    /// The branches, uppermost first.
    pub branches: Vec<LiveBranch>,
    /// How many messages of each kind the kernel has sent; see [`Counters`].
    pub messages: BTreeMap<String, u64>,
}

/// The server's side: its directory goes when this is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    dir: PathBuf,
    lock: File,
}

/// Numbers the branches and gives each its id.
#[must_use]
pub(super) fn describe(branches: &[Branch], ids: &[String]) -> Vec<LiveBranch> {
    let ids = ids.iter().map(Some).chain(std::iter::repeat(None));
    let numbered = branches.iter().enumerate().zip(ids);
    numbered
        .map(|((index, branch), id)| LiveBranch {
            index,
            path: branch.path.clone(),
            mode: if branch.writable { "rw" } else { "ro" }.to_owned(),
            id: id.cloned().unwrap_or_else(|| index.to_string()),
        })
        .collect()
}

impl Registration {
    /// Writes the directory of a live mount, and answers on its socket from then on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn new(
        dir: &Path,
        record: LiveRecord,
        branches: Vec<LiveBranch>,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        // Made under a name that nobody looks for, so that nobody takes it for a dead one's while it has no lock.
        let place = dir;
        let dir = &place.with_extension("new");
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).doing("create", dir)?;
        let lock = lock_file(dir)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).doing("lock", dir)?;
        for LiveBranch { index, path, mode, id } in &branches {
            use std::os::unix::ffi::OsStrExt as _;
            let line = [path.as_os_str().as_bytes(), format!("={mode}\n").as_bytes()].concat();
            write(&dir.join(format!("br{index}")), &line)?;
            write(&dir.join(format!("brid{index}")), format!("{id}\n").as_bytes())?;
        }
        let json = serde_json::to_vec(&record).map_err(|error| Error::corrupt(dir, error.to_string()))?;
        write(&dir.join("mount.json"), &json)?;
        let handle = open_dir(dir)?;
        let listener = UnixListener::bind(socket_path(&handle)).doing("listen at", dir)?;
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let messages = counters.snapshot().into_iter().map(|(name, count)| (name.to_owned(), count));
                    let live =
                        Live { record: record.clone(), branches: branches.clone(), messages: messages.collect() };
                    answer(stream, &live);
                }
            })
            .doing("start a thread for", dir)?;
        // The last one here, which is dead, or was unmounted lazily and serves its last users.
        let _ = std::fs::remove_dir_all(place);
        std::fs::rename(dir, place).doing("put into place", place)?;
        Ok(Self { dir: place.to_owned(), lock })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt as _;
        // After a lazy unmount something else may have been mounted at the same place, and be registered here.
        let ours = self.lock.metadata().and_then(|ours| {
            std::fs::metadata(self.dir.join(LOCK)).map(|there| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        });
        if ours.is_ok_and(|ours| ours) {
            // What cannot go now is taken for dead by everybody, as its lock is free.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn answer(mut stream: UnixStream, live: &Live) {
    // Who does not take the answer in time does not get it.
    let _ = stream.set_write_timeout(Some(ANSWER_PATIENCE));
    if let Ok(json) = serde_json::to_vec(live) {
        let _ = stream.write_all(&json);
    }
}

/// Asks the server of the mount that is registered at `dir`; `None` when nobody answers.
#[must_use]
pub(super) fn ask(dir: &Path) -> Option<Live> {
    let handle = open_dir(dir).ok()?;
    let mut stream = UnixStream::connect(socket_path(&handle)).ok()?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE)).ok()?;
    let mut json = Vec::new();
    stream.read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

/// The registrations in `run`, dead ones taken away.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn registered(run: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(run) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing("read", run)?,
    };
    let mut live = Vec::new();
    for entry in entries {
        let dir = entry.doing("read", run)?.path();
        if dir.extension().is_some() {
            continue;
        }
        if is_dead(&dir) {
            let _ = std::fs::remove_dir_all(&dir);
        } else {
            live.push(dir);
        }
    }
    live.sort();
    Ok(live)
}

/// Finds the registration of the mount at `mountpoint`.
///
/// # Errors
/// When the registrations cannot be read.
pub(super) fn at_mountpoint(run: &Path, mountpoint: &Path) -> Result<Option<PathBuf>> {
    Ok(registered(run)?.into_iter().find(|dir| record(dir).is_some_and(|record| record.mountpoint == mountpoint)))
}

/// What a registration says of its mount.
#[must_use]
pub(super) fn record(dir: &Path) -> Option<LiveRecord> {
    serde_json::from_slice(&std::fs::read(dir.join("mount.json")).ok()?).ok()
}

/// The server of a mount, whatever comes to be registered in its place.
#[derive(Debug)]
pub(super) struct Server {
    /// Nothing when there was none.
    lock: Option<File>,
}

impl Server {
    /// The one that is registered at `dir`.
    #[must_use]
    pub(super) fn of(dir: &Path) -> Self {
        Self { lock: File::open(dir.join(LOCK)).ok() }
    }

    /// Waits until it has ended; false if it takes too long.
    #[must_use]
    pub(super) fn wait_for_end(&self) -> bool {
        let mut waited = Duration::ZERO;
        while self.lock.as_ref().is_some_and(is_locked) {
            if waited >= END_PATIENCE {
                return false;
            }
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
        true
    }
}

fn is_dead(dir: &Path) -> bool {
    // One without a lock is being taken away; one that cannot be opened, for want of descriptors say, may well live.
    match File::open(dir.join(LOCK)) {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(lock) => !is_locked(&lock),
    }
}

fn is_locked(lock: &File) -> bool {
    let locked = rustix::fs::flock(lock, FlockOperation::NonBlockingLockShared).is_err();
    let _ = rustix::fs::flock(lock, FlockOperation::Unlock);
    locked
}

fn lock_file(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    File::options().write(true).create(true).truncate(false).open(&path).doing("create", &path)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content).doing("write", path)
}

fn open_dir(dir: &Path) -> Result<OwnedFd> {
    rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing("open", dir)
}

/// A socket's path may have 108 bytes (unix(7)); a store's directory may have more.
fn socket_path(dir: &OwnedFd) -> String {
    format!("/proc/self/fd/{}/control", dir.as_raw_fd())
}
