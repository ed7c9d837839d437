//! Running a command in the tree of a container.
//!
//! Two processes besides the command: the caller of [`run`], and the first process of the container's pid
//! namespace ([`stage`]), which is this program again, started afresh and with one thread:
//!
//! ```text
//! run ── a thread: unshare(pid), spawn, wait ──▶ init: mounts, pivot_root, reap ──▶ the command
//!  └──── signals sent to run, through a pipe ───────▶ └─ kill ────────────────────────▶
//! ```
//!
//! A pipe to init carries one line with the [`Spec`] and after that one byte per signal. A pipe from init carries
//! whether all was made ready, and what went wrong after all; it is closed by the command's exec.
//!
//! Signals that the kernel sends for a terminal reach the whole foreground process group, and so the command,
//! directly. For that only signals sent by a process are passed on, and init, which as pid 1 ignores what it does
//! not handle, is sent none. Init dies with the thread that started it, and its namespace with it.

mod capability;
mod init;
mod mounts;
mod program;
mod report;
mod root;
mod seccomp;
mod security;
mod user;
mod working_dir;

use std::ffi::c_int;
use std::io::{IsTerminal as _, PipeReader, Read as _, Write as _, pipe};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use crate::error::{Context as _, Error, Result};
use crate::sys;
use report::{READY, Report};

pub use init::stage;
pub use security::Security;

/// The first argument of the program when it is to be a container's init: see [`stage`].
pub const STAGE: &str = "container-stage";

/// The exit status of a container whose command was never there.
const NOT_STARTED: u8 = 125;

const FORWARDED: [c_int; 8] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH];

/// What is to run, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// A live mount of the container's tree.
    pub rootfs: PathBuf,
    /// The container's short id.
    pub hostname: String,
    /// The command. Its first word is looked up in the container's `PATH` when it has no `/`.
    pub args: Vec<Vec<u8>>,
    /// `KEY=VALUE`, as in the image. `PATH`, `HOME` and, with a terminal as standard input, the caller's `TERM` are
    /// added when absent.
    pub env: Vec<Vec<u8>>,
    /// Absolute; empty for `/`. Created with mode 0755 when missing.
    pub working_dir: Vec<u8>,
    /// The image's `User`: empty, `uid`, `name`, `uid:gid`, `name:group`, by the container's `/etc/passwd` and
    /// `/etc/group`.
    pub user: String,
    /// Nothing in the container's tree can be changed, whatever the mount at `rootfs` would let happen.
    pub read_only: bool,
    /// What the command may do.
    pub security: Security,
}

/// Runs the command to its end, or kills it with all it has started as soon as the other end of `host`, a pipe, is closed
/// (by who serves the tree: without files there is nothing left to do), with the caller's standard descriptors, terminal,
/// network and users, and with mount, pid, ipc and uts namespaces of its own. Returns its exit status as a shell has it: 128+n for signal n.
///
/// From the call on, and also after it, these signals do not end the calling process: `SIGTERM`, `SIGINT`, `SIGHUP`,
/// `SIGQUIT`, `SIGUSR1`, `SIGUSR2` (those aside that are ignored at the time). They are sent on to the command.
///
/// # Errors
/// [`Error::CommandNotFound`]; [`Error::CommandNotRunnable`]; [`Error::Usage`] for a user that the container does not
/// have; [`Error::Io`] for what the namespaces, mounts and pipes need.
pub fn run(spec: &Spec, host: BorrowedFd<'_>) -> Result<u8> {
    if spec.args.is_empty() {
        return Err(Error::Usage("there is no command to run".into()));
    }
    let doing = "start a container in";
    let mut request = serde_json::to_vec(spec).doing(doing, &spec.rootfs)?;
    request.push(b'\n');
    // A signal that is ignored (`nohup`) stays so for the command too, as it would without a container.
    let forwarded = FORWARDED.into_iter().filter(|signal| !sys::is_ignored(*signal));
    let mut signals = SignalsInfo::<WithOrigin>::new(forwarded).doing(doing, &spec.rootfs)?;
    let (requests, mut control) = pipe().doing(doing, &spec.rootfs)?;
    let (started, start) = mpsc::channel();
    let no_more_signals = signals.handle();
    thread::scope(|scope| {
        let supervisor = thread::Builder::new()
            .name("container".into())
            .spawn_scoped(scope, move || {
                let status = supervise(spec, host, requests, &started);
                no_more_signals.close();
                drop(started);
                status
            })
            .doing(doing, &spec.rootfs)?;
        // An init that is gone does not read: the supervisor knows why.
        if start.recv().is_ok() && control.write_all(&request).is_ok() {
            for origin in signals.forever() {
                if let (Cause::Sent(_), Ok(signal)) = (origin.cause, u8::try_from(origin.signal)) {
                    let _ = control.write_all(&[signal]);
                }
            }
        }
        supervisor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Starts init and waits for it. On a thread of its own: its next child is the first process of a new pid namespace
/// and the last that it can have, and that child is to die when its parent thread does.
fn supervise(spec: &Spec, host: BorrowedFd<'_>, requests: PipeReader, started: &mpsc::Sender<()>) -> Result<u8> {
    let doing = "start a container in";
    let (mut report, reporter) = pipe().doing(doing, &spec.rootfs)?;
    sys::new_namespaces(UnshareFlags::NEWPID).doing("make a pid namespace for", &spec.rootfs)?;
    let program = own_program()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0("layerctl").arg(STAGE);
    command.args([requests.as_raw_fd(), reporter.as_raw_fd()].map(|fd| fd.to_string()));
    // What the container can read of its pid 1 is to say nothing about the host.
    command.env_clear().stdin(Stdio::inherit());
    if std::io::stdin().is_terminal() {
        command.envs(std::env::var_os("TERM").map(|term| ("TERM", term)));
    }
    sys::keep_only(&mut command, &[requests.as_fd(), reporter.as_fd()]);
    let mut init = command.spawn().doing(doing, &spec.rootfs)?;
    // Before the request is sent, and so before anything of the image runs: from now on nothing changes the mount.
    drop((command, requests, reporter, program));
    // Without a receiver `run` has ended, which it does not before this thread.
    let _ = started.send(());
    let process = pidfd(&init).doing("wait for the container in", &spec.rootfs)?;
    let mut failure = Vec::new();
    // By this thread, as it cannot have others after it has left its pid namespace. A report fits into the pipe.
    end_with(host, &process);
    let read = report.read_to_end(&mut failure);
    let status = init.wait().doing("wait for the container in", &spec.rootfs)?;
    read.doing("hear from the container in", &spec.rootfs)?;
    if failure == READY { Ok(shell_status(status)) } else { Err(Report::parse(&failure).into_error(spec)) }
}

/// This program on a mount of its own, from which init is executed. The container's first process is an executable that
/// the command reaches as `/proc/self/exe` while it is being executed (also as its interpreter, or by a link), and
/// as `/proc/1/exe`. There, the mount is what keeps the host's file from changes of its content, mode, owner and
/// attributes (CVE-2019-5736).
fn own_program() -> Result<OwnedFd> {
    match sys::detached_read_only(Path::new("/proc/self/exe")) {
        Err(Errno::NOSYS) => {
            Err(Error::Unsupported("running a command in a container needs Linux 5.12 or newer".into()))
        }
        Err(Errno::INVAL) => Err(Error::Unsupported(
            "the program layerctl is on a mount that is unbindable or of another mount namespace: \
             run a copy of it that is elsewhere"
                .into(),
        )),
        program => program.doing("bind read-only for the container", "/proc/self/exe"),
    }
}

/// Stands for a child that was not waited for yet, and so is the one of this number.
fn pidfd(child: &Child) -> rustix::io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::empty())
}

/// Waits for the end of init, and kills it, and with it all of its namespace, when `host` is closed before it.
fn end_with(host: BorrowedFd<'_>, init: &OwnedFd) {
    let mut fds = [PollFd::new(&host, PollFlags::IN), PollFd::new(init, PollFlags::IN)];
    while poll(&mut fds, None) == Err(Errno::INTR) {}
    let has_ended = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
    if has_ended(fds.first()) && !has_ended(fds.get(1)) {
        // It may have ended just now.
        let _ = pidfd_send_signal(init, Signal::KILL);
    }
}

fn shell_status(status: ExitStatus) -> u8 {
    let status = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    status.and_then(|status| u8::try_from(status).ok()).unwrap_or(NOT_STARTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_that_of_a_shell() {
        for (raw, status) in [(0, 0), (7 << 8, 7), (255 << 8, 255), (15, 143), (9, 137), (11 | 0x80, 139)] {
            assert_eq!(shell_status(ExitStatus::from_raw(raw)), status, "{raw:#x}");
        }
    }
}
