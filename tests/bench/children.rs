//! The processes that belong to this benchmark: servers that put themselves into the background become ours again, and so can be
//! waited for, and ended.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes orphans among our descendants our children.
pub(crate) fn adopt() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("cannot become the reaper of servers")
}

/// From here on Ctrl-C ends the benchmark between two rows, with everything unmounted.
pub(crate) fn watch_for_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(())
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// The processes whose parent we are, and that still run.
pub(crate) fn list() -> BTreeSet<i32> {
    let own = getpid().as_raw_nonzero().get();
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| parent(*pid) == Some(own)).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.next()?.parse().ok()
}

/// Waits until none of `pids` is left; ends those that stay.
pub(crate) fn see_off(pids: &BTreeSet<i32>) {
    let until = Instant::now() + PATIENCE;
    let mut left: Vec<Pid> = pids.iter().filter_map(|pid| Pid::from_raw(*pid)).collect();
    let mut is_late = false;
    while !left.is_empty() {
        // Anything but "still running" means that it is gone.
        left.retain(|pid| matches!(waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None)));
        if !is_late && Instant::now() > until {
            is_late = true;
            for pid in &left {
                let _ = kill_process(*pid, Signal::KILL);
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Takes the exit status of children that nobody waits for. To be called when no [`std::process::Child`] is around.
pub(crate) fn reap() {
    while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
}

/// Runs a command without a terminal; its standard output, or what it complained about.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        bail!("{name}: {}: {line}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How long a command takes that prints nothing of use.
pub(crate) fn time(command: &mut Command) -> Result<f64> {
    time_from(command, Stdio::null())
}

/// The same with something to read.
pub(crate) fn time_from(command: &mut Command, input: Stdio) -> Result<f64> {
    let name = command.get_program().display().to_string();
    let errors = tempfile::tempfile()?;
    command.stdin(input).stdout(Stdio::null()).stderr(errors.try_clone()?);
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        use std::io::{Read as _, Seek as _};
        let (mut errors, mut text) = (errors, String::new());
        errors.rewind()?;
        errors.read_to_string(&mut text).ok();
        bail!("{name}: {status}: {}", text.lines().next_back().unwrap_or("no message"));
    }
    Ok(seconds)
}
