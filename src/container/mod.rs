//! Running a command in the tree of a container.
//!
//! Two processes besides the command: the caller of [`run`], and the first process of the container's pid
//! namespace ([`stage`]), which is this program again, started afresh and with one thread:
//!
//! ```text
//! run ── a thread: unshare(pid), spawn, wait ──▶ init: mounts, pivot_root, reap ──▶ the command
//!  ├──── signals and stops, through a socket ─────▶ └─ kill ────────────────────────▶ │ its session,
//!  └──── keys and output, a pseudo-terminal; files that the caller gave, by pipes ────┘ its process group
//! ```
//!
//! A socket to init carries one line with the [`Spec`] and after that [messages](message). A pipe from init carries
//! whether all was made ready, and what went wrong after all; the command's exec closes it there, and init's end here.
//!
//! Nothing of the caller's terminal is in the container ([`terminal`]), nor is any file that the caller gave as a standard
//! descriptor there to be written ([`streams`]). Init leads a session without a terminal, or with the container's, and the
//! command has a process group in it; what the caller's terminal has to say to the command comes through [`session`].
//! Init dies with the thread that started it, and its namespace with it.

mod capability;
mod descriptors;
mod init;
mod job;
mod message;
mod mounted_files;
mod mounts;
mod program;
mod pty;
mod pump;
mod report;
mod root;
mod seccomp;
mod security;
mod session;
mod standard;
mod streams;
mod terminal;
mod user;
mod working_dir;

use std::io::{Read as _, pipe};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Result};
use crate::sys::{self, Overlay, call};
use report::{READY, Report};
use session::{Session, Signals};
use streams::{Opened, Plan};

pub use init::stage;
pub use mounted_files::MountedFile;
pub use mounts::{MOUNTED_DIRECTORIES, MOUNTED_FILES};
pub use security::Security;
pub use streams::Streams;

/// The first argument of the program when it is to be a container's init: see [`stage`].
pub const STAGE: &str = "container-stage";

/// The exit status of a container whose command was never there.
const NOT_STARTED: u8 = 125;

/// The exit status of a command that `SIGINT` has ended.
const INTERRUPTED: u8 = 130;

/// What is to run, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// A live mount of the container's tree.
    pub rootfs: PathBuf,
    /// What is mounted there first, in the command's mount namespace only.
    pub overlay: Option<Overlay>,
    /// What it has in `etc` of its own.
    pub files: Vec<MountedFile>,
    /// The container's short id.
    pub hostname: String,
    /// The command. Its first word is looked up in the container's `PATH` when it has no `/`.
    pub args: Vec<Vec<u8>>,
    /// `KEY=VALUE`, as in the image. `PATH`, `HOME` and, with a terminal, the caller's `TERM` are added when absent.
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

/// What init begins with.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    spec: Spec,
    plan: Plan,
}

/// How a command has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status as a shell has it: 128+n for signal n.
    pub status: u8,
    /// Why something that it has written is not where the caller wanted it, or something that it was to read was not
    /// all there, if that is so.
    pub lost: Option<Error>,
}

/// Runs the command to its end, or kills it with all it has started as soon as the other end of `host`, a pipe, is closed
/// (by the server of the tree: without files the command can do nothing), with what stands for the caller's standard
/// descriptors, with its network and users, and with mount, pid, ipc and uts namespaces and a session of its own. To be
/// called by the first thread of the process, which is stopped with the command when a terminal stops that.
///
/// From the call on, and also after it, these signals do not end or stop the calling process: `SIGTERM`, `SIGINT`,
/// `SIGHUP`, `SIGQUIT`, `SIGUSR1`, `SIGUSR2`, `SIGTSTP` (those aside that are ignored at the time). They are sent on to
/// the command.
///
/// When the command may have run, `has_run` is set, also if this fails then.
///
/// # Errors
/// [`Error::CommandNotFound`]; [`Error::CommandNotRunnable`]; [`Error::Usage`] for a user that the container does not
/// have; [`Error::Io`] for what the namespaces, mounts, terminals and pipes need.
pub fn run(spec: &Spec, streams: &Streams, host: BorrowedFd<'_>, has_run: &AtomicBool) -> Result<Ended> {
    if spec.args.is_empty() {
        return Err(Error::Usage("there is no command to run".into()));
    }
    let doing = "start a container in";
    let Opened { plan, stdio, devpts, terminals, pumps, files } = streams.open()?;
    let in_foreground = plan.foreground;
    let mut request = serde_json::to_vec(&Request { spec: spec.clone(), plan }).doing(doing, &spec.rootfs)?;
    request.push(b'\n');
    let signals = Signals::catch().doing(doing, &spec.rootfs)?;
    let no_more_signals = signals.handle();
    let (control, requests) = UnixStream::pair().doing(doing, &spec.rootfs)?;
    let mut session = Session::new(signals, control, terminals)?;
    let (ended, end) = pipe().doing(doing, &spec.rootfs)?;
    let (started, start) = mpsc::channel();
    let beginning = Beginning { requests: requests.into(), stdio, devpts, has_terminal: streams.has_terminal() };
    thread::scope(|scope| {
        let spawn_pump = |pump: pump::Pump| {
            let name = "pump".to_owned();
            thread::Builder::new().name(name).spawn_scoped(scope, || pump.run(&ended)).doing(doing, &spec.rootfs)
        };
        // Closed on every way out, which ends the pumps.
        let end = end;
        let pumps = pumps.into_iter().map(spawn_pump).collect::<Result<Vec<_>>>()?;
        let supervisor = thread::Builder::new()
            .name("container".into())
            .spawn_scoped(scope, move || {
                let status = supervise(spec, host, beginning, &started, has_run);
                no_more_signals.close();
                drop(started);
                status
            })
            .doing(doing, &spec.rootfs)?;
        // Without init the supervisor knows why.
        let followed = if start.recv().is_ok() { session.run(&request, in_foreground) } else { Ok(()) };
        let status = joined(supervisor.join());
        drop(end);
        let copied: Vec<_> = pumps.into_iter().map(|pump| joined(pump.join())).collect();
        let given_back = session.end(matches!(status, Ok(INTERRUPTED)));
        let set = files.into_iter().map(streams::ReadFile::finish);
        let followed = match followed {
            // Init then knows only that it was told nothing.
            Err(error) if status.is_err() && !has_run.load(Ordering::Relaxed) => return Err(error),
            followed => followed,
        };
        let all = [followed].into_iter().chain(copied).chain([given_back]).chain(set).collect::<Vec<_>>();
        Ok(Ended { status: status?, lost: all.into_iter().find_map(Result::err) })
    })
}

fn joined<T>(result: thread::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// What init is started with.
struct Beginning {
    requests: OwnedFd,
    stdio: [Stdio; 3],
    devpts: Option<OwnedFd>,
    has_terminal: bool,
}

/// Starts init and waits for it. On a thread of its own: its next child is the first process of a new pid namespace
/// and the last that it can have, and that child is to die when its parent thread does.
fn supervise(
    spec: &Spec,
    host: BorrowedFd<'_>,
    beginning: Beginning,
    started: &mpsc::Sender<()>,
    has_run: &AtomicBool,
) -> Result<u8> {
    let doing = "start a container in";
    let Beginning { requests, stdio: [stdin, stdout, stderr], devpts, has_terminal } = beginning;
    let (mut report, reporter) = pipe().doing(doing, &spec.rootfs)?;
    sys::new_namespaces(UnshareFlags::NEWPID).doing("make a pid namespace for", &spec.rootfs)?;
    let program = own_program()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0("layerctl").arg(STAGE);
    let kept: Vec<_> =
        [requests.as_fd(), reporter.as_fd()].into_iter().chain(devpts.as_ref().map(OwnedFd::as_fd)).collect();
    command.args(kept.iter().map(|fd| fd.as_raw_fd().to_string()));
    // What the container can read of its pid 1 is to say nothing about the host.
    command.env_clear().stdin(stdin).stdout(stdout).stderr(stderr);
    if has_terminal {
        command.envs(std::env::var_os("TERM").map(|term| ("TERM", term)));
    }
    sys::pass_on(&kept).doing(doing, &spec.rootfs)?;
    let mut init = command.spawn().doing(doing, &spec.rootfs)?;
    // Closed before the request is sent, and so before a program of the image runs: then no process can change the mount.
    drop((command, requests, reporter, devpts, program));
    // They are for the first thread. Init would have inherited it.
    sys::block_signals_but(0).doing(doing, &spec.rootfs)?;
    // Without a receiver `run` has ended, which it does not before this thread.
    started.send(()).unwrap_or_default();
    let process = pidfd(&init).doing("wait for the container in", &spec.rootfs)?;
    let mut failure = Vec::new();
    // By this thread, as it cannot have others after it has left its pid namespace. A report fits into the pipe.
    end_with(host, &process);
    let read = report.read_to_end(&mut failure);
    has_run.store(report::tells_of_a_start(&failure), Ordering::Relaxed);
    let status = init.wait().doing("wait for the container in", &spec.rootfs)?;
    read.doing("hear from the container in", &spec.rootfs)?;
    if failure == READY { Ok(shell_status(status)) } else { Err(Report::parse(&failure).into_error(spec)) }
}

/// Opens this program on a read-only mount of its own, from which init is executed. The command reaches init's executable
/// as `/proc/1/exe`, and as `/proc/self/exe` while it is executed itself (as the command, its interpreter, or by a link).
/// The mount keeps the host's file from changes of its content, mode, owner and attributes (CVE-2019-5736).
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
    // error: the only one left is that there is no memory for two descriptors; then init is waited for
    call::poll(&mut fds, None).unwrap_or_default();
    let has_ended = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
    if has_ended(fds.first()) && !has_ended(fds.get(1)) {
        // error: it has just ended
        pidfd_send_signal(init, Signal::KILL).unwrap_or_default();
    }
}

fn shell_status(status: ExitStatus) -> u8 {
    let status = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    let Some(status) = status else { return NOT_STARTED };
    u8::try_from(status).unwrap_or(NOT_STARTED)
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
