//! The processes of a command that this process runs, and its tree as they see it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Context as _, Error, Result};
use crate::mount::kernel::freezer::read_of_process;
use crate::sys::{self, Dir, call};

/// The parent of each process that has not ended.
fn parents() -> Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for entry in Dir::open(Path::new("/proc")).doing("read", "/proc")? {
        let entry = entry.doing("read", "/proc")?;
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        let Some(stat) = read_of_process(pid, "stat")? else { continue };
        // The name before it may have any bytes.
        let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let (state, parent) = (fields.next().unwrap_or_default(), fields.next());
        let Some(parent) = parent.and_then(|parent| parent.parse().ok()) else { continue };
        if !matches!(state, "Z" | "X") {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

/// The pid namespace of a process; none when the process has ended.
fn namespace_of(pid: u32) -> Result<Option<Vec<u8>>> {
    let path = format!("/proc/{pid}/ns/pid");
    match call::readlinkat(CWD, &*path) {
        // It has ended, or is another user's in a sandbox: a process that comes from the command is found by its parent.
        Err(Errno::NOENT | Errno::SRCH | Errno::PERM | Errno::ACCESS) => Ok(None),
        link => link.map(|link| Some(link.into_bytes())).doing("read", path),
    }
}

/// The first process of the command's pid namespace, which is a child of this process; none before it is there.
pub(super) fn init() -> Result<Option<u32>> {
    let own = std::process::id();
    let here = namespace_of(own)?;
    for (pid, _) in parents()?.into_iter().filter(|(_, parent)| *parent == own) {
        if namespace_of(pid)?.is_some_and(|there| Some(there) != here) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// The processes of the command, with the first: all that are in its pid namespace or come from one in it.
pub(super) fn processes(init: u32) -> Result<Vec<u32>> {
    let parents = parents()?;
    let there = namespace_of(init)?;
    let mut found = BTreeSet::new();
    for pid in parents.keys() {
        if there.is_some() && namespace_of(*pid)? == there {
            found.insert(*pid);
        }
    }
    loop {
        let more: Vec<_> =
            parents.iter().filter(|(pid, parent)| found.contains(*parent) && !found.contains(*pid)).collect();
        if more.is_empty() {
            return Ok(found.into_iter().collect());
        }
        found.extend(more.into_iter().map(|(pid, _)| *pid));
    }
}

/// A mount of the overlay with this source that the command has as its root, without what is mounted in it; none before the command
/// has it.
pub(super) fn tree(init: u32, source: &str) -> Result<Option<OwnedFd>> {
    let path = format!("/proc/{init}/ns/mnt");
    let namespace = call::open(&*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).doing("open", &path)?;
    let path = format!("/proc/{init}/mountinfo");
    let table = sys::mount_table_at(&path).doing("read", &path)?;
    let enter = move || -> Result<OwnedFd> {
        // The root and the working directory of a thread that enters a mount namespace are its own.
        sys::unshare_directories().doing("enter", &path)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).doing("enter", &path)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, "/", flags).doing("open", "the root of a command")
    };
    let thread = std::thread::Builder::new().name("enter".to_owned()).spawn(enter);
    let thread = thread.doing("start", "a thread")?;
    let tree = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let device = call::fstat(&tree).doing("look at", "the root of a command")?.st_dev;
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // Before that its root is the host's.
    let is_it = table.iter().any(|line| line.fs_type == sys::OVERLAY && line.source == source && line.device == device);
    Ok(Some(tree).filter(|_| is_it))
}

/// That the command is not yet there.
pub(super) fn not_there() -> Error {
    Error::Unsupported("its command is just starting or ending: try again".to_owned())
}
