//! The first process of a container's pid namespace.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::{process, thread};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Pid, Signal, chdir, set_dumpable_behavior, set_parent_process_death_signal, setsid, umask,
};
use rustix::system::sethostname;
use rustix::thread::{
    Gid, Uid, UnshareFlags, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::job::{self, Job};
use super::program::Program;
use super::report::{READY, Report};
use super::user::User;
use super::{NOT_STARTED, Request, capability, descriptors, mounts, seccomp, working_dir};
use crate::error::{Context as _, Error, Result};
use crate::sys::{self, Instruction, call};

/// Entry point of the program when its first argument is [`super::STAGE`], to be called before all else with all of
/// the process' arguments. Becomes the init of a container, for [`super::run`] in another process.
pub fn stage(args: &[OsString]) -> ! {
    let status = match given(args) {
        Ok((requests, reporter, devpts)) => init(requests, File::from(reporter), devpts),
        Err(error) => {
            eprintln!("layerctl: {} is for layerctl itself: {error}", super::STAGE);
            NOT_STARTED
        }
    };
    process::exit(status.into())
}

/// The descriptors that [`super::run`] has given, and no other stays open: of what else the caller has open nothing is to be in
/// the container.
fn given(args: &[OsString]) -> io::Result<(OwnedFd, OwnedFd, Option<OwnedFd>)> {
    let number = |word: &OsString| word.to_str().and_then(|word| word.parse::<RawFd>().ok());
    let numbers = args.iter().skip(2).map(number).collect::<Option<Vec<_>>>().ok_or(io::ErrorKind::InvalidInput)?;
    let (requests, reporter, devpts) = match numbers[..] {
        [requests, reporter] => (requests, reporter, None),
        [requests, reporter, devpts] => (requests, reporter, Some(devpts)),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    sys::close_others(&numbers)?;
    Ok((sys::inherited(requests)?, sys::inherited(reporter)?, devpts.map(sys::inherited).transpose()?))
}

/// Returns the exit status. In two processes: that of init, and, if it could not become the command, its child.
fn init(requests: OwnedFd, mut reporter: File, devpts: Option<OwnedFd>) -> u8 {
    let report = match start(requests, &mut reporter, devpts) {
        Ok((command, reports)) => match job::reap(command, reports) {
            Ok(status) => return status,
            Err(error) => Report::NotWaitedFor(error.raw_os_error()),
        },
        Err(error) => Report::from(&error),
    };
    let said = serde_json::to_vec(&report).map_err(io::Error::from);
    // error: the caller is gone, or sees an empty report and says that
    drop(said.and_then(|report| reporter.write_all(&report)));
    NOT_STARTED
}

/// The command, and where its stops are reported.
fn start(requests: OwnedFd, reporter: &mut File, devpts: Option<OwnedFd>) -> Result<(Pid, File)> {
    let doing = "prepare the first process of";
    set_parent_process_death_signal(Some(Signal::KILL)).doing(doing, "the container")?;
    if is_closed(&requests).doing(doing, "the container")? {
        return Err(Error::Usage("the caller died before its container was there".into()));
    }
    // Root in the container can neither read nor trace this process, which is more than it is to have.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(doing, "the container")?;
    rustix::thread::set_name(c"layerctl-init").doing(doing, "the container")?;
    // Signals of the caller's terminal are not for the container, nor is the terminal.
    setsid().doing("make a session for", "the container")?;
    let requests = File::from(requests);
    let reports = requests.try_clone().doing(doing, "the container")?;
    let mut requests = BufReader::new(requests);
    let mut line = Vec::new();
    requests.read_until(b'\n', &mut line).doing("read what to do for", "the container")?;
    let Request { spec, plan } = serde_json::from_slice(&line).doing("read what to do for", "the container")?;
    let namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    sys::new_namespaces(namespaces).doing("make namespaces for", &spec.rootfs)?;
    sethostname(spec.hostname.as_bytes()).doing("set the host name", &spec.hostname)?;
    sys::new_session_keyring().doing("make a session keyring for", "the container")?;
    // Modes are to be as they are given, and for the command as everywhere.
    umask(Mode::empty());
    mounts::enter(&spec, devpts)?;
    umask(Mode::from_raw_mode(0o022));
    working_dir::enter(&spec.working_dir)?;
    let user = User::find(&spec.user)?;
    let term = std::env::var_os("TERM").map(OsString::into_vec);
    let filter = if spec.security.seccomp { Some(seccomp::default_filter()?) } else { None };
    let program = Program::find(&spec, &user.home, term.as_deref())?;
    descriptors::prepare(&plan, user.uid)?;
    let terminal = descriptors::take_terminal(&plan)?;
    // By its name, which is the command's as soon as that runs.
    let null = descriptors::null()?;
    reporter.write_all(READY).doing("report from", "the container")?;
    let Some(command) = sys::fork().doing(doing, "the container")? else {
        job::enter(terminal.as_ref(), plan.foreground)?;
        confine(filter.as_deref(), spec.security.no_new_privileges)?;
        change_to(&user).doing("become the user", &spec.user)?;
        return Err(program.execute());
    };
    let job = Job::new(command, terminal)?;
    let forwarder = thread::Builder::new().name("signals".into()).spawn(move || job.obey(requests));
    forwarder.doing("forward signals to", "the container's command")?;
    descriptors::close(&null)?;
    // Nothing is to be busy because of init.
    chdir("/").doing("change to", "/")?;
    Ok((command, reports))
}

/// Whether no process holds the pipe's other end any more.
fn is_closed(pipe: &impl AsFd) -> rustix::io::Result<bool> {
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    call::poll(&mut fds, Some(&Timespec::default()))?;
    Ok(fds.iter().any(|fd| fd.revents().contains(PollFlags::HUP)))
}

/// Filters the system calls of this process from here on. Without `no_new_privs`, which would keep set-user-id programs from
/// gaining privileges, that needs `CAP_SYS_ADMIN`, so it comes before the capabilities are dropped.
fn confine(filter: Option<&[Instruction]>, no_new_privileges: bool) -> Result<()> {
    if no_new_privileges {
        set_no_new_privs(true).doing("set no_new_privs for", "the container's command")?;
    }
    let Some(filter) = filter else { return Ok(()) };
    match sys::filter_system_calls(filter) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Err(Error::Unsupported(
            "this kernel filters no system calls: --security-opt seccomp=unconfined runs the command without".into(),
        )),
        filtered => filtered.doing("filter the system calls of", "the container's command"),
    }
}

/// Gives up what the command is not to have. For one thread, which is all that the process has.
fn change_to(user: &User) -> rustix::io::Result<()> {
    capability::limit()?;
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}
