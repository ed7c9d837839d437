//! An `fsync` that has failed, told to each process that may have the file open.
//!
//! Linux tells an error of writing once to each open file (`errseq`, lib/errseq.c). The disk's file is open once, here, so
//! that its error is told once to all: to the first process that asks. Requests name no open file where `open` is answered
//! without a message; they name a process. So an error is kept, and told once to each process that was there when it
//! came. One that was started later cannot have had the file open before, and is not told, as by the kernel.

use std::collections::{HashMap, HashSet};
use std::io;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use crate::union::{Errno, FsResult, Ino};

/// A process: its number, and when it was started, in ticks since the machine was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    id: u32,
    started: u64,
}

#[derive(Debug)]
struct Failure {
    error: Errno,
    /// When it came, in the same ticks.
    at: u64,
    told: HashSet<Process>,
}

/// The errors, by file.
#[derive(Debug, Default)]
pub(super) struct FlushFailures {
    files: Mutex<HashMap<Ino, Failure>>,
}

impl FlushFailures {
    /// What a thread of a process is told of an `fsync` that ended like this.
    pub(super) fn answer(&self, ino: Ino, thread: u32, flushed: FsResult<()>) -> FsResult<()> {
        self.answer_at(ino, || process_of(thread), now(), flushed)
    }

    fn answer_at(&self, ino: Ino, process: impl FnOnce() -> Process, now: u64, flushed: FsResult<()>) -> FsResult<()> {
        let mut files = self.files.lock();
        if let Err(error) = flushed {
            files.insert(ino, Failure { error, at: now, told: HashSet::from([process()]) });
            return Err(error);
        }
        let Some(failure) = files.get_mut(&ino) else { return Ok(()) };
        let process = process();
        if process.started > failure.at || !failure.told.insert(process) {
            return Ok(());
        }
        Err(failure.error)
    }

    /// The kernel has forgotten the file: no process has it open.
    pub(super) fn forget(&self, ino: Ino) {
        self.files.lock().remove(&ino);
    }
}

/// Ticks since the machine was started (`CLOCK_BOOTTIME`), as in `/proc/PID/stat`.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let ticks = rustix::param::clock_ticks_per_second();
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(ticks).saturating_add(nanoseconds.saturating_mul(ticks) / 1_000_000_000)
}

/// The process of a thread. One that cannot be looked at, as from another pid namespace, stands for itself and is told.
fn process_of(thread: u32) -> Process {
    // error: a process too many that is told is better than one that is not.
    read_process(thread).unwrap_or(Process { id: thread, started: 0 })
}

/// Reads `Tgid` of `/proc/PID/status`, and `starttime` of `/proc/PID/stat` (proc(5)).
fn read_process(thread: u32) -> io::Result<Process> {
    let unreadable = || io::Error::from(io::ErrorKind::InvalidData);
    let status = std::fs::read_to_string(format!("/proc/{thread}/status"))?;
    let id = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok()).ok_or_else(unreadable)?;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The second field is a name in parentheses, which may have any character; the start is the 22nd.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(unreadable)?;
    let started = fields.split_whitespace().nth(19).and_then(|field| field.parse().ok()).ok_or_else(unreadable)?;
    Ok(Process { id, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_that_was_there_is_told_once() {
        let failures = FlushFailures::default();
        let (file, other) = (Ino(7), Ino(8));
        let asks = |id, started, flushed| failures.answer_at(file, || Process { id, started }, 100, flushed);
        assert_eq!(asks(1, 50, Ok(())), Ok(()));
        assert_eq!(asks(1, 50, Err(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(asks(1, 50, Ok(())), Ok(()));
        assert_eq!(failures.answer_at(other, || Process { id: 2, started: 50 }, 100, Ok(())), Ok(()));
        assert_eq!(asks(2, 100, Ok(())), Err(Errno::EIO));
        assert_eq!(asks(2, 100, Ok(())), Ok(()));
        assert_eq!(asks(3, 101, Ok(())), Ok(()));
        // The number of one that has ended, given to another.
        assert_eq!(asks(2, 60, Ok(())), Err(Errno::EIO));
        failures.forget(file);
        assert_eq!(asks(4, 50, Ok(())), Ok(()));
    }

    #[test]
    fn a_thread_is_found_with_its_process() {
        let own = std::process::id();
        let found = read_process(own).unwrap();
        assert_eq!(found.id, own);
        assert!(found.started > 0 && found.started <= now());
        let in_thread = || {
            let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
            (thread, read_process(thread).unwrap())
        };
        let (thread, process) = std::thread::spawn(in_thread).join().unwrap();
        assert_ne!(thread, own);
        assert_eq!(process, found);
        assert!(read_process(0).is_err());
    }
}
