//! What a live mount shows of itself: `run/si_<id>/`, as AUFS showed `/sys/fs/aufs/si_<id>/`.
//!
//! ```text
//! br0, br1, ...      the branches, uppermost first: "/abs/path=rw\n"
//! brid0, brid1, ...  what each branch is: a container, a layer, or its number
//! mount.json         [`LiveRecord`]
//! lock               held by the server as long as it lives
//! control            a socket that sends a [`Live`] to each client that connects
//! pack               a socket that gives the rw layer, of a container's mount ([`Packing`])
//! ```
//!
//! Every mount has an id of its own: at one mountpoint, a new one may be there before the server of the last one
//! has put all in order.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Result};
use crate::fuse;
use crate::mount::wait::{STEP, Wait};
use crate::sys::{Dir, call, fs, open_regular, peer_process};

/// How long a server may take to say what it is doing.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a failed `accept` (no descriptors or no memory, say), before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// What the name of a registration begins with.
const PREFIX: &[u8] = b"si_";
pub(crate) const LOCK: &str = "lock";
pub(crate) const CONTROL: &str = "control";

/// What is known of a live mount without asking its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The server's process.
    pub pid: u32,
    /// The mount's `major:minor`; a server of an earlier version has not said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
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
    /// What was written and could not be brought to the rw layer, as a clause; none when nothing is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Accepts connections for ever, and calls `take` with each.
pub(crate) fn for_each_stream(listener: &UnixListener, mut take: impl FnMut(UnixStream)) {
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => take(stream),
            // error: a client still waits to connect, and at once it would fail again (no descriptors, no memory)
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// Asks the server of the mount that is registered at `dir`; `None` when none is there, or it has ended meanwhile.
///
/// # Errors
/// When it cannot be asked, and when it is there and does not answer in time.
pub(crate) fn ask(dir: &Path) -> Result<Option<Live>> {
    let Some(mut stream) = connect(dir, CONTROL)? else { return Ok(None) };
    let began = Instant::now();
    stream.set_read_timeout(Some(ANSWER_PATIENCE)).doing("ask the server at", dir)?;
    let mut json = Vec::new();
    match stream.read_to_end(&mut json) {
        // It is busy or stopped, or breaks off, since it ends perhaps.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => {}
        read => {
            read.doing("ask the server at", dir)?;
            // error: half an answer is none
            if let Ok(live) = serde_json::from_slice(&json) {
                return Ok(Some(live));
            }
        }
    }
    while began.elapsed() < ANSWER_PATIENCE && has_server(dir) {
        std::thread::sleep(STEP);
    }
    match record(dir)? {
        Some(record) if has_server(dir) => Err(Error::Unsupported(format!(
            "the mount at {}: its server (process {}) does not answer",
            record.mountpoint.display(),
            record.pid
        ))),
        _ => Ok(None),
    }
}

/// Connects to a socket of the server of the mount that is registered at `dir`; `None` when none is there.
///
/// # Errors
/// When it cannot be connected to for another reason.
pub(crate) fn connect(dir: &Path, socket: &str) -> Result<Option<UnixStream>> {
    let handle = match open_dir(dir) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        handle => handle?,
    };
    let at = if dir == Path::new(".") { socket.to_owned() } else { socket_path(&handle, socket) };
    match UnixStream::connect(at) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        connected => connected.map(Some).doing("connect to the server at", dir),
    }
}

/// The registrations in `run`, dead ones taken away.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn registered(run: &Path) -> Result<Vec<PathBuf>> {
    let entries = match Dir::open(run) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        entries => entries.doing("read", run)?,
    };
    let mut live = Vec::new();
    for entry in entries {
        let entry = entry.doing("read", run)?;
        // Image mounts are there too.
        if !entry.file_name().to_bytes().starts_with(PREFIX) {
            continue;
        }
        let dir = run.join(OsStr::from_bytes(entry.file_name().to_bytes()));
        if !is_dead(&dir) {
            live.push(dir);
        } else if let Err(error) = fs::remove_dir_all(&dir) {
            // Another process takes it away too; what cannot go now is taken away by the next look, and is dead until then.
            drop(error);
        }
    }
    live.sort();
    Ok(live)
}

/// Finds the registration of the mount at `mountpoint`: the latest, as others can only be about to end.
///
/// # Errors
/// When the registrations cannot be read.
pub(crate) fn at_mountpoint(run: &Path, mountpoint: &Path) -> Result<Option<PathBuf>> {
    let mut latest = None;
    for dir in registered(run)? {
        if record(&dir)?.is_none_or(|record| record.mountpoint != mountpoint) {
            continue;
        }
        let path = dir.join("mount.json");
        let since = match fs::metadata(&path).and_then(|metadata| metadata.modified()) {
            // It has just ended.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            since => since.doing("read", &path)?,
        };
        if latest.as_ref().is_none_or(|(before, _)| *before <= since) {
            latest = Some((since, dir));
        }
    }
    Ok(latest.map(|(_, dir)| dir))
}

/// Where the union is mounted that writes to `upper`.
///
/// # Errors
/// When the registrations cannot be read.
pub(crate) fn writer(run: &Path, upper: &Path) -> Result<Option<PathBuf>> {
    let line = branch_line(upper, "rw");
    for dir in registered(run)? {
        if read(&dir.join("br0"))?.is_some_and(|first| first == line)
            && let Some(record) = record(&dir)?
            && fuse::is_mountpoint(&record.mountpoint)?
        {
            return Ok(Some(record.mountpoint));
        }
    }
    Ok(None)
}

/// The directory that takes the changes of the mount that is registered at `dir`, if one does.
///
/// # Errors
/// When the registration cannot be read.
pub(crate) fn upper(dir: &Path) -> Result<Option<PathBuf>> {
    use std::os::unix::ffi::OsStringExt as _;
    let Some(mut line) = read(&dir.join("br0"))? else { return Ok(None) };
    let Some(length) = line.strip_suffix(b"=rw\n").map(<[u8]>::len) else { return Ok(None) };
    line.truncate(length);
    Ok(Some(std::ffi::OsString::from_vec(line).into()))
}

pub(crate) fn branch_line(path: &Path, mode: &str) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    [path.as_os_str().as_bytes(), b"=", mode.as_bytes(), b"\n"].concat()
}

/// What a registration says of its mount; `None` when it has gone.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn record(dir: &Path) -> Result<Option<LiveRecord>> {
    let path = dir.join("mount.json");
    let Some(json) = read(&path)? else { return Ok(None) };
    serde_json::from_slice(&json).map(Some).map_err(|error| Error::corrupt(path, error.to_string()))
}

/// A server, found while it was registered.
#[derive(Debug)]
pub(crate) struct Watched {
    lock: File,
    dir: PathBuf,
}

/// Finds the server that is registered at `dir`; `None` when that is gone.
///
/// # Errors
/// When it cannot be found out.
pub(crate) fn watch(dir: &Path) -> Result<Option<Watched>> {
    let path = dir.join(LOCK);
    match open_regular(&path, OFlags::RDONLY) {
        Err(Errno::NOENT) => Ok(None),
        lock => Ok(lock.doing("open", &path)?.map(|lock| Watched { lock, dir: dir.to_owned() })),
    }
}

impl Watched {
    /// Whether it still is there.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub(crate) fn is_alive(&self) -> Result<bool> {
        is_locked(&self.lock).doing("lock", self.dir.join(LOCK))
    }

    /// Waits until it is gone; false if it was given up before.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub(crate) fn end_within(&self, wait: &mut Wait) -> Result<bool> {
        while self.is_alive()? {
            if !wait.goes_on()? {
                return Ok(false);
            }
            std::thread::sleep(STEP);
        }
        Ok(true)
    }

    /// Sends it a signal: it is the process `pid` as long as it is alive. False when it is gone.
    ///
    /// # Errors
    /// When the signal cannot be sent; [`Error::Unsupported`] when `pid` is its number in another pid namespace only.
    pub(crate) fn signal(&self, pid: u32, signal: Signal) -> Result<bool> {
        // Its socket goes when it ends, and with it the certainty of its number.
        let Some(stream) = connect(&self.dir, CONTROL)? else { return Ok(false) };
        if peer_process(&stream).doing("find the server at", &self.dir)? != Some(pid) {
            return Err(Error::Unsupported(format!(
                "the server at {} is process {pid} of another pid namespace, and can be ended only from there",
                self.dir.display()
            )));
        }
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
        let server = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(false),
            server => server.doing("find the server at", &self.dir)?,
        };
        if !self.is_alive()? {
            return Ok(false);
        }
        match pidfd_send_signal(&server, signal) {
            Err(Errno::SRCH) => Ok(false),
            sent => sent.map(|()| true).doing("send a signal to the server at", &self.dir),
        }
    }
}

/// The signal by which a server is told to have its command killed, after which it ends.
pub(crate) const END_COMMAND: Signal = Signal::USR1;

/// Whether the server that was registered at `dir` still is there.
pub(crate) fn has_server(dir: &Path) -> bool {
    !is_dead(dir)
}

fn is_dead(dir: &Path) -> bool {
    // One without a lock is being taken away; one that cannot be looked at, for want of descriptors say, may well live.
    match open_regular(&dir.join(LOCK), OFlags::RDONLY) {
        Err(error) => error == Errno::NOENT,
        Ok(None) => true,
        Ok(Some(lock)) => match is_locked(&lock) {
            Ok(is_locked) => !is_locked,
            // error: it is not known to be dead, and so not taken away
            Err(_) => false,
        },
    }
}

fn is_locked(lock: &File) -> rustix::io::Result<bool> {
    match call::flock(lock, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Ok(true),
        locked => {
            locked?;
            call::flock(lock, FlockOperation::Unlock)?;
            Ok(false)
        }
    }
}

/// The content of a file of a registration; `None` when that has gone.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match open_regular(path, OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(None),
        file => file.doing("open", path)?,
    };
    let Some(mut file) = file else { return Err(Error::corrupt(path, "is no regular file")) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).doing("read", path)?;
    Ok(Some(bytes))
}

pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).doing("write", path)
}

pub(crate) fn open_dir(dir: &Path) -> Result<OwnedFd> {
    call::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing("open", dir)
}

/// A socket's path may have 108 bytes (unix(7)); a store's directory may have more.
pub(crate) fn socket_path(dir: &OwnedFd, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())
}
