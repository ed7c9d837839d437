//! Processes that become the first of a new pid namespace, and what they run.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
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

/// Raises this process's limit of open files to the hard limit: a server keeps many open, an import one for each layer that
/// the store has. Not for a process that starts other programs, since some of them look at all numbers up to the limit.
pub fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // error: with fewer it works as well, but slower, and not with more than a thousand layers
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap_or_default();
}

/// Gives the calling thread a root, a working directory and a umask of its own, as they are now.
///
/// # Errors
/// As `unshare(2)`.
pub fn unshare_directories() -> rustix::io::Result<()> {
    // SAFETY: the descriptor table stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }
}

/// Lets the programs that this process starts from now on have `kept`, under the same numbers.
///
/// # Errors
/// As `fcntl(2)`.
pub fn pass_on(kept: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    kept.iter().try_for_each(|fd| rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()))
}

/// Closes all descriptors but the standard ones and `kept`, which the process was started with because its parent had them
/// open without close-on-exec. To be called before anything else was opened.
///
/// It is done here and not between `fork(2)` and `execve(2)`: with nothing to do there the standard library starts a process
/// by `posix_spawn(3)`, which copies no memory.
///
/// # Errors
/// As `close_range(2)`.
pub fn close_others(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<c_uint> = kept.iter().filter_map(|fd| c_uint::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut first: c_uint = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if let Some(last) = fd.checked_sub(1).filter(|last| *last >= first) {
            close_range(first, last)?;
        }
        first = fd.saturating_add(1);
    }
    close_range(first, c_uint::MAX)
}

fn close_range(first: c_uint, last: c_uint) -> io::Result<()> {
    // SAFETY: a system call on numbers. Nothing in this process owns one of them yet.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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
/// The largest number of open files that Linux allows by default (`fs.nr_open`, proc_sys_fs(5)).
const MOST_FILES: libc::rlim_t = 1 << 20;
/// What the main thread's stack may take, as everywhere.
const STACK: libc::rlim_t = 8 << 20;

/// Gives this process the highest limits that its rights allow, whatever its parent's are, and the usual priority.
pub fn lift_limits() {
    for (resource, wanted, most) in LIMITS {
        let mut limit = libc::rlimit { rlim_cur: wanted, rlim_max: most };
        // SAFETY: a system call on a structure of this function.
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
}

/// Takes over a descriptor that this process was started with, by [`pass_on`]. To be called before
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
    fn a_process_with_threads_is_not_forked() {
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(fork().unwrap_err().raw_os_error(), Some(libc::EINVAL)));
        });
        assert!(is_ignored(libc::SIGPIPE) && !is_ignored(libc::SIGUSR2));
        assert!(inherited(2).is_err());
        assert!(new_namespaces(UnshareFlags::FILES).is_err());
    }
}
