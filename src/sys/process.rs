//! Processes that become the first of a new pid namespace, and what they run.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Moves the calling thread (and, for a pid namespace, its next children only) into new namespaces.
///
/// # Errors
/// As `unshare(2)`; `EINVAL` when `namespaces` has a bit that is none of mount, pid, ipc and uts.
pub fn new_namespaces(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    let known = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if !known.contains(namespaces) {
        return Err(rustix::io::Errno::INVAL);
    }
    // SAFETY: the descriptor table stays shared, as `UnshareFlags::FILES` is not among the known ones.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

/// Makes `command` start with the standard descriptors and `kept` only, whatever else is open here without
/// close-on-exec. The descriptors of `kept` keep their numbers and must stay open until the command was started.
pub fn keep_only(command: &mut Command, kept: &[BorrowedFd<'_>]) {
    let kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    let in_child = move || {
        // Close-on-exec and not closed, since the standard library still reports through one of them.
        // SAFETY: system calls on numbers, which allocate nothing and take no lock.
        let mut failed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } < 0;
        for fd in &kept {
            // SAFETY: as above.
            failed |= unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) } < 0;
        }
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure runs between fork and exec, and does nothing there but the calls above.
    unsafe { command.pre_exec(in_child) };
}

/// What may end or hinder a server in the middle: the soft and the hard limit.
const LIMITS: [(libc::__rlimit_resource_t, libc::rlim_t, libc::rlim_t); 11] = {
    const NONE: libc::rlim_t = libc::RLIM_INFINITY;
    [
        (libc::RLIMIT_AS, NONE, NONE),
        (libc::RLIMIT_CPU, NONE, NONE),
        (libc::RLIMIT_DATA, NONE, NONE),
        (libc::RLIMIT_FSIZE, NONE, NONE),
        (libc::RLIMIT_LOCKS, NONE, NONE),
        (libc::RLIMIT_MEMLOCK, NONE, NONE),
        (libc::RLIMIT_NOFILE, MOST_FILES, MOST_FILES),
        (libc::RLIMIT_NPROC, NONE, NONE),
        (libc::RLIMIT_RSS, NONE, NONE),
        (libc::RLIMIT_SIGPENDING, NONE, NONE),
        (libc::RLIMIT_STACK, STACK, NONE),
    ]
};
/// The largest number of open files that Linux allows where nobody has changed that (`fs.nr_open`, proc_sys_fs(5)).
const MOST_FILES: libc::rlim_t = 1 << 20;
/// What the main thread's stack may take, as everywhere; without a limit the kernel lays out memory in another way.
const STACK: libc::rlim_t = 8 << 20;

/// Makes `command` start with the highest limits that its rights allow, whatever those of this process are, and with the
/// usual priority.
pub fn lift_limits(command: &mut Command) {
    let in_child = || {
        for (resource, wanted, most) in LIMITS {
            let mut limit = libc::rlimit { rlim_cur: wanted, rlim_max: most };
            // SAFETY: a system call on a structure of this function, which allocates nothing and takes no lock.
            if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 {
                continue;
            }
            // Without CAP_SYS_RESOURCE the hard limit is the most. What is too little for a server, it says itself.
            // SAFETY: as above; the structure is read only when the first call has filled it.
            unsafe {
                if libc::getrlimit(resource, &raw mut limit) == 0 {
                    limit.rlim_cur = limit.rlim_max.min(wanted);
                    libc::setrlimit(resource, &raw const limit);
                }
            }
        }
        // Without CAP_SYS_NICE it stays as it is, which makes it slower and does not end it.
        // SAFETY: a system call on numbers.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec, and does nothing there but the calls above.
    unsafe { command.pre_exec(in_child) };
}

/// Takes over a descriptor that this process was started with, as [`keep_only`] left it. To be called before
/// anything else was opened, and once for each number.
///
/// # Errors
/// `EBADF` when it is not open or a standard one.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `F_SETFD` only changes a flag, and fails on a number that is not open.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and came from the parent process, so that nothing in this one owns it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether this process ignores `signal`, by its number.
#[must_use]
pub fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the old one is written out, and read only when that has been done.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Forks: the new process' id in the parent, `None` in the child, which is a full copy of the process.
///
/// # Errors
/// `EINVAL` when the process has more than one thread, else as `fork(2)`.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: with this flag alone nothing is done but the check that there is one thread only.
    if unsafe { libc::unshare(libc::CLONE_THREAD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: there is no other thread that could hold a lock in the child for ever.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// Replaces this process by the program at `path`, with the action of `SIGPIPE`, which Rust ignores, as it was.
/// Comes back only to say why that failed. A file that is no program stays one: no shell is tried on it.
#[must_use]
pub fn execute(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |words: &[CString]| -> Vec<*const c_char> {
        words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: sets a default action; both arrays end with a null, and the strings in them outlive the call.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr());
    }
    io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_command_has_the_kept_descriptors_only() {
        let (reader, writer) = io::pipe().unwrap();
        let kept = rustix::io::dup(&writer).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ls /proc/$$/fd"]);
        rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty()).unwrap();
        keep_only(&mut command, &[rustix::fd::AsFd::as_fd(&kept)]);
        let output = command.output().unwrap();
        let mut numbers: Vec<i32> =
            String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, kept.as_raw_fd()]);
    }

    #[test]
    fn a_process_with_threads_is_not_forked() {
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(fork().unwrap_err().raw_os_error(), Some(libc::EINVAL)));
        });
        assert!(is_ignored(libc::SIGPIPE) && !is_ignored(libc::SIGUSR2));
        assert!(inherited(2).is_err());
        assert!(new_namespaces(UnshareFlags::FILES).is_err());
    }
}
