//! Waiting for a server: after two seconds it is said for what, and after a time without any progress it has an end.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Context as _, Result};
use crate::sys::Dir;

/// How long is waited before it is said for what.
const SILENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether there is progress.
const LOOK: Duration = Duration::from_millis(250);
/// How long one look at what is waited for may take.
pub(crate) const STEP: Duration = Duration::from_millis(2);
/// How long a server that shows no progress is waited for, when the caller does not say.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One wait, by the clock.
#[derive(Debug)]
pub(crate) struct Wait {
    /// For what, as a clause: `the server of container c has written all`.
    what: String,
    server: Option<u32>,
    patience: Duration,
    began: Instant,
    is_said: bool,
    looked: Instant,
    moved: Instant,
    seen: Option<Progress>,
}

/// What changes while a server works: its processor time, its reading and writing, and, when it waits for a disk, what
/// the disks have written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Progress {
    time: Vec<String>,
    io: Option<Vec<String>>,
    written: Option<String>,
}

impl Wait {
    /// Waits for what the process `server` does, for `patience` after it has last shown any progress.
    pub(crate) fn new(what: impl Into<String>, server: Option<u32>, patience: Duration) -> Self {
        let now = Instant::now();
        Self { what: what.into(), server, patience, began: now, is_said: false, looked: now, moved: now, seen: None }
    }

    /// Whether to go on waiting; false when the time has passed.
    ///
    /// # Errors
    /// When the progress cannot be looked at.
    pub(crate) fn goes_on(&mut self) -> Result<bool> {
        let now = Instant::now();
        if !self.is_said && now.duration_since(self.began) >= SILENCE {
            self.is_said = true;
            say(&format!("waiting until {}", self.what));
        }
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            let progress = self.server.map_or(Ok(None), Progress::of)?;
            if self.seen != progress {
                self.seen = progress;
                self.moved = now;
            }
        }
        Ok(now.duration_since(self.moved) < self.patience)
    }

    /// Waits for work that no one can break off, on a thread of its own.
    ///
    /// # Errors
    /// What the work gives; when there is no thread for it.
    pub(crate) fn thread<T: Send + 'static>(&mut self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let worker = std::thread::Builder::new().name("work".to_owned()).spawn(work).doing("start", "a thread")?;
        while !worker.is_finished() {
            self.goes_on()?;
            std::thread::sleep(STEP);
        }
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Progress {
    /// None when the process is gone.
    fn of(process: u32) -> Result<Option<Self>> {
        let Some(stat) = read(Path::new(&format!("/proc/{process}/stat")))? else { return Ok(None) };
        // The 14th and 15th field, counted from the name in parentheses, which is the second.
        let after_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let time = after_name.split_whitespace().skip(11).take(2).map(str::to_owned).collect();
        // What it reads and writes of files on a disk.
        let io = read(Path::new(&format!("/proc/{process}/io")))?;
        let io = io.map(|text| text.lines().filter(|line| line.contains("_bytes: ")).map(str::to_owned).collect());
        let written = if waits_for_a_disk(process)? { read(Path::new("/proc/vmstat"))? } else { None };
        let written =
            written.and_then(|text| text.lines().find(|line| line.starts_with("pgpgout ")).map(str::to_owned));
        Ok(Some(Self { time, io, written }))
    }
}

/// Whether a thread of the process waits for a disk (state `D`): then it is progress when the disks write.
fn waits_for_a_disk(process: u32) -> Result<bool> {
    let dir = format!("/proc/{process}/task");
    let dir = Path::new(&dir);
    let tasks = match Dir::open(dir) {
        Err(Errno::NOENT | Errno::SRCH) => return Ok(false),
        tasks => tasks.doing("read", dir)?,
    };
    for task in tasks {
        let task = match task {
            Err(Errno::NOENT | Errno::SRCH) => return Ok(false),
            task => task.doing("read", dir)?,
        };
        let name = OsStr::from_bytes(task.file_name().to_bytes());
        let Some(stat) = read(&dir.join(name).join("stat"))? else { continue };
        if stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('D')) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A file of `/proc`; none for one that is not there, of a process that is gone, or not for this user.
fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EACCES | libc::EPERM)) => {
            Ok(None)
        }
        read => read.map(Some).doing("read", path),
    }
}

/// Says something beside the result, on standard error.
pub(crate) fn say(sentence: &str) {
    // error: nothing else is there to say it to
    drop(writeln!(std::io::stderr().lock(), "layerctl: {sentence}"));
}
