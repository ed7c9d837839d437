//! What a live mount shows of itself: `run/si_<id>/`, as AUFS showed `/sys/fs/aufs/si_<id>/`.
//!
//! ```text
//! br0, br1, ...      the branches, uppermost first: "/abs/path=rw\n"
//! brid0, brid1, ...  what each branch is: a container, a layer, or its number
//! mount.json         [`LiveRecord`]
//! lock               held by the server as long as it lives
//! control            a socket that gives a [`Live`] to whoever connects
//! pack               a socket that gives the rw layer, of a container's mount ([`Packing`])
//! ```
//!
//! Every mount has an id of its own: at one mountpoint, a new one may be there before the server of the last one
//! has put all in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Result};
use crate::fuse;
use crate::sys::{fs, open_regular};

/// How long a server may take to say what it is doing.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long a server may take to end after its mount is gone: it may have a large rw layer to remove (`--rm`), and the disk
/// may be busy with other things.
const END_PATIENCE: Duration = Duration::from_secs(600);
/// How long it may take to kill a command, and what is then done at the end of its mount.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);
/// How long is waited when nobody can be answered for want of descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
pub(super) const LOCK: &str = "lock";
pub(super) const CONTROL: &str = "control";

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
    /// Whether nothing waits for the disk (`volatile`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volatile: bool,
}

/// One branch, as `inspect` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveBranch {
    /// 0 is the uppermost.
    #[serde(rename = "Index")]
    pub index: usize,
    /// The directory. In JSON what is not UTF-8 in it is U+FFFD; the file `br*` has the bytes.
    #[serde(rename = "Path", serialize_with = "as_text")]
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
    /// How many messages of each kind the kernel has sent; see [`Counters`](crate::fuse::Counters).
    pub messages: BTreeMap<String, u64>,
}

fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Takes whoever connects, for ever.
pub(super) fn for_each_stream(listener: &UnixListener, mut take: impl FnMut(UnixStream)) {
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => take(stream),
            // Whoever wants to connect still does: at once it would fail again.
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// Asks the server of the mount that is registered at `dir`; `None` when nobody answers.
#[must_use]
pub(super) fn ask(dir: &Path) -> Option<Live> {
    let mut stream = connect(dir, CONTROL)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE)).ok()?;
    let mut json = Vec::new();
    stream.read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Connects to a socket of the server of the mount that is registered at `dir`; `None` when nobody is there.
#[must_use]
pub(super) fn connect(dir: &Path, socket: &str) -> Option<UnixStream> {
    let handle = open_dir(dir).ok()?;
    UnixStream::connect(socket_path(&handle, socket)).ok()
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
        if is_dead(&dir) {
            let _ = std::fs::remove_dir_all(&dir);
        } else {
            live.push(dir);
        }
    }
    live.sort();
    Ok(live)
}

/// Finds the registration of the mount at `mountpoint`: the latest, as others can only be about to end.
///
/// # Errors
/// When the registrations cannot be read.
pub(super) fn at_mountpoint(run: &Path, mountpoint: &Path) -> Result<Option<PathBuf>> {
    let is_there = |dir: &PathBuf| record(dir).is_some_and(|record| record.mountpoint == mountpoint);
    let since = |dir: &PathBuf| dir.join("mount.json").metadata().and_then(|metadata| metadata.modified()).ok();
    Ok(registered(run)?.into_iter().filter(is_there).max_by_key(since))
}

/// Where the union is mounted that writes to `upper`.
///
/// # Errors
/// When the registrations cannot be read.
pub(super) fn writer(run: &Path, upper: &Path) -> Result<Option<PathBuf>> {
    let line = branch_line(upper, "rw");
    let writes = |dir: &PathBuf| read(&dir.join("br0")).is_some_and(|first| first == line);
    let mountpoints = registered(run)?.into_iter().filter(writes).filter_map(|dir| record(&dir));
    Ok(mountpoints.map(|record| record.mountpoint).find(|mountpoint| fuse::is_mountpoint(mountpoint)))
}

/// The directory that takes the changes of the mount that is registered at `dir`, if one does.
#[must_use]
pub(super) fn upper(dir: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut line = read(&dir.join("br0"))?;
    let length = line.strip_suffix(b"=rw\n")?.len();
    line.truncate(length);
    Some(std::ffi::OsString::from_vec(line).into())
}

pub(super) fn branch_line(path: &Path, mode: &str) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    [path.as_os_str().as_bytes(), b"=", mode.as_bytes(), b"\n"].concat()
}

/// What a registration says of its mount.
#[must_use]
pub(super) fn record(dir: &Path) -> Option<LiveRecord> {
    serde_json::from_slice(&read(&dir.join("mount.json"))?).ok()
}

/// What [`wait_for_end`] needs of the server that is registered at `dir`, from when it still was.
#[must_use]
pub(super) fn watch(dir: &Path) -> Option<File> {
    open_regular(&dir.join(LOCK), OFlags::RDONLY).ok().flatten()
}

/// The signal by which a server is told to have its command killed, after which it ends.
pub(super) const END_COMMAND: Signal = Signal::USR1;

/// Has the command of the watched server killed, and waits until the server is gone too; false if that takes too long.
#[must_use]
pub(super) fn end_command(pid: u32, watched: &File) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(server) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return false };
    // As long as it holds its lock, it is the process of this number.
    if is_locked(watched) && pidfd_send_signal(&server, END_COMMAND).is_err() {
        return false;
    }
    wait_until_free(watched, COMMAND_PATIENCE)
}

/// Waits until the watched server is gone; false if it takes too long.
#[must_use]
pub(super) fn wait_for_end(watched: &File) -> bool {
    wait_until_free(watched, END_PATIENCE)
}

fn wait_until_free(watched: &File, patience: Duration) -> bool {
    let mut waited = Duration::ZERO;
    while is_locked(watched) {
        if waited >= patience {
            return false;
        }
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
    true
}

/// Whether the server that was registered at `dir` still is there.
pub(super) fn has_server(dir: &Path) -> bool {
    !is_dead(dir)
}

fn is_dead(dir: &Path) -> bool {
    // One without a lock is being taken away; one that cannot be opened, for want of descriptors say, may well live.
    match open_regular(&dir.join(LOCK), OFlags::RDONLY) {
        Err(error) => error == Errno::NOENT,
        Ok(lock) => lock.is_none_or(|lock| !is_locked(&lock)),
    }
}

fn is_locked(lock: &File) -> bool {
    let locked = rustix::fs::flock(lock, FlockOperation::NonBlockingLockShared).is_err();
    let _ = rustix::fs::flock(lock, FlockOperation::Unlock);
    locked
}

pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path, OFlags::RDONLY).ok()??.read_to_end(&mut bytes).ok().map(|_| bytes)
}

pub(super) fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).doing("write", path)
}

pub(super) fn open_dir(dir: &Path) -> Result<OwnedFd> {
    rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing("open", dir)
}

/// A socket's path may have 108 bytes (unix(7)); a store's directory may have more.
pub(super) fn socket_path(dir: &OwnedFd, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())
}
