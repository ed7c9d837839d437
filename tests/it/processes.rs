//! Processes, and what is waited for.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::mounts::read;

/// How long is waited for what comes "eventually": longer than any machine that is busy with other things takes.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// Whether something comes true while it is waited for.
pub(crate) fn eventually(mut is_true: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if is_true() {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    is_true()
}

/// Waits for a child, which must end by itself.
#[track_caller]
pub(crate) fn end_of(child: &mut std::process::Child) -> ExitStatus {
    let mut status = None;
    let ended = eventually(|| {
        status = child.try_wait().expect("it can be waited for");
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
    }
    status.expect("the process has not ended")
}

/// Whether there is such a process, and it is more than a zombie. One whose first thread has ended may have others.
pub(crate) fn is_alive(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.map(|task| fs::read_to_string(task.path().join("stat")).unwrap_or_default());
    let lives = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']));
    stats.into_iter().any(lives)
}

/// The processes that `pid` has started, and those that these have started.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let children = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        for line in children.collect::<Vec<_>>() {
            found.extend(line.split_whitespace().map(|pid| pid.parse::<u32>().expect("a pid")));
        }
        next += 1;
    }
    found.split_off(1)
}

/// Kills it, and waits: it holds its locks and files until the last of its threads is gone.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
    assert!(eventually(|| !is_alive(pid)), "{pid} lives on");
}

/// Whoever has started the tests in the background may have had them ignore signals, and so the programs that they
/// start. What is caught here is not ignored there.
pub(crate) fn hear_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = read(Path::new("/proc/self/status"));
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("the field is there");
        let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a number");
        for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1] {
            if ignored >> (signal.as_raw() - 1) & 1 == 1 {
                signal_hook::flag::register(signal.as_raw(), Arc::default()).expect("it can be caught");
            }
        }
    });
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    // It may be gone by itself.
    let _ = kill_process(pid, signal);
}
