//! What the server has of its own, whatever its caller's is: limits, and what the kernel ends first when memory is short.

use rustix::process::{Resource, getrlimit};

use crate::error::{Error, Result};

/// The least number of files that a server must be able to open: branches, threads, sockets, and some of the files in use.
const LEAST_FILES: u64 = 64;
/// The least memory that it must be able to map: it is mostly the indexes of layers.
const LEAST_MEMORY: u64 = 4 << 30;
/// As containerd has it for its shims: a command is killed before the server that its files are from.
const OOM_SCORE: &str = "-998";
const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// Limits that would end a server in the middle of its work when they are less than this, and how a shell names them.
const LEAST: [(Resource, u64, &str, &str); 4] = [
    (Resource::As, LEAST_MEMORY, "address space", "v"),
    (Resource::Data, LEAST_MEMORY, "data segment", "d"),
    (Resource::Cpu, u64::MAX, "processor time", "t"),
    (Resource::Fsize, u64::MAX, "size of files", "f"),
];

/// Makes sure that no limit ends this process later. [`begin`](crate::mount::ourselves::begin) has lifted all that it could.
///
/// # Errors
/// [`Error::Unsupported`] when a limit is left which only a process with `CAP_SYS_RESOURCE` can lift.
pub(crate) fn check() -> Result<()> {
    for (resource, least, name, letter) in LEAST {
        if let Some(limit) = getrlimit(resource).current.filter(|limit| *limit < least) {
            return Err(Error::Unsupported(format!(
                "the mount's server cannot work safely with a hard limit of {limit} on its {name}, and this process may not \
                 lift it: start layerctl with `ulimit -H{letter} unlimited`"
            )));
        }
    }
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < LEAST_FILES => Err(Error::Unsupported(format!(
            "the mount's server needs {LEAST_FILES} open files, and the hard limit is {limit}: start layerctl with \
             `ulimit -Hn {LEAST_FILES}` or more"
        ))),
        _ => Ok(()),
    }
}

/// Has the kernel end other processes first when memory is short.
pub(crate) fn outlive_others() {
    // error: without CAP_SYS_RESOURCE it cannot be lowered, and in a sandbox not written; then the server has its caller's
    drop(crate::sys::fs::write(OOM_SCORE_FILE, OOM_SCORE));
}
