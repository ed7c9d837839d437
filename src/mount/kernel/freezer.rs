//! A command's processes, stopped without their knowledge: in a control group of their own (cgroups(7)), by its `cgroup.freeze` (cgroup
//! v2, Linux 5.2) or by the controller `freezer` of cgroup v1.
//!
//! Each process goes to a group below the one that it is in, whose limits so hold for it as before, and afterwards back. The names of
//! the groups are written down before they are made: in cgroup v1 not even a kill ends what is frozen, so that the next command
//! thaws what a killed one has left.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Context as _, Error, Result};
use crate::store::Container;
use crate::sys::{self, MountLine, fs};

/// How long the processes may take to stop: one may wait for a disk, say.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);
/// The file in the container's directory that names the groups.
const RECORD: &str = "frozen";

/// Groups of frozen processes.
#[derive(Debug)]
pub(super) struct Frozen {
    hierarchy: Hierarchy,
    name: String,
    record: PathBuf,
    groups: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    at: PathBuf,
    is_v1: bool,
}

impl Hierarchy {
    fn of(line: MountLine) -> Option<Self> {
        let is_v1 = line.fs_type == "cgroup" && line.options.split(',').any(|option| option == "freezer");
        (is_v1 || line.fs_type == "cgroup2").then_some(Self { at: line.mountpoint, is_v1 })
    }

    /// Where a process is in this hierarchy; none when it has ended.
    fn group_of(&self, pid: u32) -> Result<Option<PathBuf>> {
        let Some(text) = read_of_process(pid, "cgroup")? else { return Ok(None) };
        let path = text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_it = if self.is_v1 {
                controllers.split(',').any(|controller| controller == "freezer")
            } else {
                number == "0" && controllers.is_empty()
            };
            is_it.then(|| path.trim_start_matches('/').to_owned())
        });
        let missing = || Error::Unsupported(format!("process {pid} is in no group of {}", self.at.display()));
        let path = path.filter(|path| !path.split('/').any(|name| name == "..")).ok_or_else(missing)?;
        Ok(Some(self.at.join(path)))
    }

    fn set(&self, group: &Path, is_frozen: bool) -> Result<()> {
        match (self.is_v1, is_frozen) {
            (true, true) => write(&group.join("freezer.state"), "FROZEN"),
            (true, false) => write(&group.join("freezer.state"), "THAWED"),
            (false, _) => write(&group.join("cgroup.freeze"), if is_frozen { "1" } else { "0" }),
        }
    }

    fn is_frozen(&self, group: &Path) -> Result<bool> {
        if self.is_v1 {
            return Ok(read(&group.join("freezer.state"))?.trim() == "FROZEN");
        }
        let events = read(&group.join("cgroup.events"))?;
        Ok(events.lines().any(|line| line == "frozen 1" || line == "populated 0"))
    }
}

/// Freezes what `processes` gives, again and again, until no other one is left. As an error, why there is no way to do that here.
///
/// # Errors
/// What was begun and cannot be undone.
pub(super) fn freeze(
    container: &Container,
    processes: &dyn Fn() -> Result<Vec<u32>>,
) -> Result<std::result::Result<Frozen, String>> {
    let mut why = "there is no freezer of control groups".to_owned();
    let found = sys::mount_table().doing("read", "/proc/self/mountinfo")?.into_iter().filter_map(Hierarchy::of);
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|hierarchy| hierarchy.is_v1);
    for hierarchy in found {
        let mut frozen = Frozen {
            hierarchy,
            name: format!("layerctl-{}", container.short_id()),
            record: container.dir().join(RECORD),
            groups: BTreeSet::new(),
        };
        match frozen.add_all(processes) {
            Ok(()) => return Ok(Ok(frozen)),
            Err(error) => {
                why = error.to_string();
                frozen.thaw()?;
            }
        }
    }
    Ok(Err(why))
}

impl Frozen {
    fn add_all(&mut self, processes: &dyn Fn() -> Result<Vec<u32>>) -> Result<()> {
        let began = Instant::now();
        loop {
            let mut is_complete = true;
            for pid in processes()? {
                is_complete &= self.add(pid)?;
            }
            for group in &self.groups {
                is_complete &= self.hierarchy.is_frozen(group)?;
            }
            if is_complete {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(Error::Unsupported("its processes do not stop".to_owned()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether the process was in a group of these already.
    fn add(&mut self, pid: u32) -> Result<bool> {
        let Some(group) = self.hierarchy.group_of(pid)? else { return Ok(true) };
        if group.file_name() == Some(OsStr::new(&self.name)) {
            if self.groups.contains(&group) {
                return Ok(true);
            }
            // One that could not be thawed, or emptied, after an earlier time.
            self.write_down(&group)?;
            self.hierarchy.set(&group, true)?;
            self.groups.insert(group);
            return Ok(false);
        }
        let group = group.join(&self.name);
        if !self.groups.contains(&group) {
            self.write_down(&group)?;
            match fs::create_dir(&group) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.doing("create", &group)?,
            }
            self.groups.insert(group.clone());
            self.hierarchy.set(&group, true)?;
        }
        move_to(&group, pid).map(|()| false)
    }

    fn write_down(&self, group: &Path) -> Result<()> {
        if group.as_os_str().as_bytes().contains(&b'\n') {
            return Err(Error::Unsupported(format!("{}: a group has a line end in its name", group.display())));
        }
        let line = [group.as_os_str().as_bytes(), b"\n"].concat();
        let file = File::options().create(true).append(true).open(&self.record);
        file.and_then(|mut file| file.write_all(&line)).doing("write", &self.record)
    }

    /// Lets the processes go on, where they were before: all that can, whatever keeps one of them.
    ///
    /// # Errors
    /// The first thing that cannot be undone; then the record stays, and the next command tries it.
    pub(super) fn thaw(self) -> Result<()> {
        let mut done = Ok(());
        for group in &self.groups {
            let thawed = match self.hierarchy.set(group, false) {
                // It has gone with its processes.
                Err(Error::Io { source, .. })
                    if source.kind() == ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV) =>
                {
                    Ok(())
                }
                thawed => thawed.and_then(|()| empty(group)),
            };
            done = done.and(thawed);
        }
        done.and_then(|()| remove(&self.record, fs::remove_file(&self.record)))
    }
}

/// Thaws what a killed caller of a command has left. To be called by a process that knows that the caller is gone.
///
/// # Errors
/// What cannot be undone.
pub(crate) fn recover(container: &Container) -> Result<()> {
    let record = container.dir().join(RECORD);
    let text = match std::fs::read(&record) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => text.doing("read", &record)?,
    };
    let name = format!("layerctl-{}", container.short_id());
    for line in text.split(|byte| *byte == b'\n') {
        let group = Path::new(OsStr::from_bytes(line));
        if group.file_name() != Some(OsStr::new(&name)) {
            continue;
        }
        for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = group.join(file);
            if fs::is_there(&file).doing("look at", &file)? {
                write(&file, word)?;
            }
        }
        empty(group)?;
    }
    remove(&record, fs::remove_file(&record))
}

/// Takes all processes out of a group, and removes it.
fn empty(group: &Path) -> Result<()> {
    let Some(parent) = group.parent() else { return Ok(()) };
    let list = group.join("cgroup.procs");
    let began = Instant::now();
    loop {
        let pids = match std::fs::read_to_string(&list) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => return Ok(()),
            pids => pids.doing("read", &list)?,
        };
        for pid in pids.lines().filter_map(|line| line.parse::<u32>().ok()) {
            move_to(parent, pid)?;
        }
        match fs::remove_dir(group) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && began.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
            }
            removed => return remove(group, removed),
        }
    }
}

/// Moves a process, which may have ended.
fn move_to(group: &Path, pid: u32) -> Result<()> {
    match write(&group.join("cgroup.procs"), &pid.to_string()) {
        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        moved => moved,
    }
}

fn remove(path: &Path, removed: std::io::Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.doing("remove", path),
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).doing("read", path)
}

fn write(path: &Path, text: &str) -> Result<()> {
    // In one system call, which is one order.
    let file = File::options().write(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).doing("write to", path)
}

/// A file of a process in `/proc`; none when the process has ended.
pub(super) fn read_of_process(pid: u32, name: &str) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/{name}");
    match std::fs::read(&path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        text => text.map(|text| Some(String::from_utf8_lossy(&text).into_owned())).doing("read", path),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// Whether the process uses its processor.
    fn works(child: &Child) -> bool {
        let time = || {
            let stat = read_of_process(child.id(), "stat").unwrap().unwrap();
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(11).unwrap().to_owned()
        };
        let before = time();
        (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            time() != before
        })
    }

    #[test]
    fn processes_are_frozen_and_go_back_in_each_hierarchy() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for hierarchy in sys::mount_table().unwrap().into_iter().filter_map(Hierarchy::of) {
            let dir = tempfile::tempdir().unwrap();
            let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
            let was = hierarchy.group_of(child.id()).unwrap().unwrap();
            let record = dir.path().join(RECORD);
            let name = format!("layerctl-test-{}", child.id());
            let mut frozen = Frozen { hierarchy: hierarchy.clone(), name, record, groups: BTreeSet::new() };
            let added = frozen.add_all(&|| Ok(vec![child.id()]));
            let groups = frozen.groups.clone();
            let is_frozen = added.is_ok() && !works(&child);
            let is_written_down = frozen.record.exists();
            let thawed = frozen.thaw();
            let (goes_on, is) = (works(&child), hierarchy.group_of(child.id()).unwrap());
            child.kill().unwrap();
            child.wait().unwrap();
            // Where groups cannot be made (a sandbox), it is said, and nothing is left.
            if let Err(Error::Io { source, .. }) = &added
                && matches!(source.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
            {
                continue;
            }
            added.unwrap();
            thawed.unwrap();
            assert!(is_frozen && is_written_down && goes_on, "{hierarchy:?}: {is_frozen} {is_written_down} {goes_on}");
            assert_eq!(is.unwrap(), was);
            assert!(groups.iter().all(|group| !group.exists()) && !dir.path().join(RECORD).exists());
        }
    }
}
