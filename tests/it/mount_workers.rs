//! The threads that answer requests: a request that ends one of them ends nothing else.
#![allow(unsafe_code, reason = "F_SETLEASE, which rustix does not have")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::mount_commit::image;
use super::mount_container::pid;
use super::mounts::Mounts;
use super::processes::eventually;

/// Sets a time that fuser 0.18 cannot hold; the errno, or 0.
fn set_earliest_time(path: &Path) -> i32 {
    let time = rustix::fs::Timespec { tv_sec: i64::MIN, tv_nsec: 1 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())
        .map_or_else(Errno::raw_os_error, |()| 0)
}

/// The threads of a server that each hold one that answers requests.
fn workers(server: u32) -> BTreeSet<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{server}/task")).unwrap().map(|task| task.unwrap().path());
    let is_worker =
        |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim_end() == "worker");
    tasks.filter(is_worker).collect()
}

/// A union of many files, and its server.
fn union_of_files() -> (Mounts, u32) {
    let mounts = Mounts::new();
    for dir in ["upper", "lower", "mnt"] {
        mounts.mkdir(dir);
    }
    (0..40).for_each(|number| mounts.write(&format!("lower/f{number}"), &"text\n".repeat(1000)));
    mounts.run(&["union", "-o", "dirs=upper:lower", "mnt"]).ok();
    let server = mounts.servers()[0];
    (mounts, server)
}

#[test]
fn a_time_that_cannot_be_taken_fails_alone() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let container = mounts.mount(&["--name", "c", &base]);
    let server = pid(&mounts, "c");
    let file = container.mountpoint.join("file");
    fs::write(&file, "before").unwrap();
    let open = File::options().read(true).write(true).open(&file).unwrap();
    let threads = || fs::read_dir(format!("/proc/{server}/task")).unwrap().count();
    let descriptors = || fs::read_dir(format!("/proc/{server}/fd")).unwrap().count();
    let (threads_before, descriptors_before) = (threads(), descriptors());
    // More than there are threads.
    for _ in 0..40 {
        let errno = set_earliest_time(&file);
        assert!(errno == 0 || errno == libc::ECONNABORTED, "{errno}");
    }
    fs::write(container.mountpoint.join("after"), "1").unwrap();
    std::os::unix::fs::FileExt::write_at(&open, b"BEFORE", 0).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "BEFORE");
    assert_eq!(pid(&mounts, "c"), server);
    // There may be six workers more than at first, of two threads and a descriptor each, and some files are kept open.
    let has_settled = || threads() <= threads_before + 12 && descriptors() <= descriptors_before + 14;
    assert!(
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            has_settled()
        }),
        "{} threads, {} descriptors; before {threads_before}, {descriptors_before}",
        threads(),
        descriptors()
    );
    drop(open);
    mounts.umount("c");
    let again = mounts.mount(&["--name", "c"]);
    assert_eq!(fs::read_to_string(again.mountpoint.join("file")).unwrap(), "BEFORE");
    assert_eq!(fs::read_to_string(again.mountpoint.join("after")).unwrap(), "1");
    mounts.umount("c");
    // The log has the first of them, and does not grow with each.
    let log = fs::read_to_string(mounts.at(&format!("store/containers/{}/log", container.id))).unwrap();
    let panics = log.matches("panicked").count();
    assert!((1..=10).contains(&panics), "{panics} in {log}");
}

/// Whether no process, nor the kernel for one, has the file open to be written: then it can be leased to readers
/// (fs/locks.c, `check_conflicting_open`).
fn is_closed_by_writers(file: &impl std::os::fd::AsFd) -> bool {
    let name = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let reader = File::open(name).unwrap();
    // SAFETY: no memory is given away.
    let leased = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    let error = Errno::from_io_error(&std::io::Error::last_os_error());
    assert!(leased == 0 || error == Some(Errno::AGAIN), "{error:?}");
    leased == 0
}

#[test]
fn a_file_that_a_worker_registered_is_closed_after_the_worker_is_gone() {
    let mounts = Mounts::new();
    for dir in ["upper", "lower", "mnt"] {
        mounts.mkdir(dir);
    }
    mounts.write("lower/file", "lower");
    mounts.run(&["union", "-o", "dirs=upper:lower,io=passthrough", "mnt"]).ok();
    let server = mounts.servers()[0];
    let workers = || workers(server);
    let names = (0..20).map(|at| format!("new{at}")).collect::<Vec<_>>();
    let written = names.iter().map(|name| {
        let file = File::create_new(mounts.at(&format!("mnt/{name}"))).unwrap();
        let upper = mounts.at(&format!("upper/{name}"));
        (file, rustix::fs::open(upper, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap())
    });
    let (written, in_upper) = written.unzip::<_, _, Vec<_>, Vec<_>>();
    let registered = workers();
    assert!(!registered.is_empty());
    assert!(eventually(|| {
        set_earliest_time(&mounts.at("mnt/file"));
        workers().is_disjoint(&registered)
    }));
    drop(written);
    // The server keeps none of its own open when the file is gone.
    for name in &names {
        fs::remove_file(mounts.at(&format!("mnt/{name}"))).unwrap();
    }
    let open = || in_upper.iter().filter(|file| !is_closed_by_writers(file)).count();
    assert!(eventually(|| open() == 0), "the kernel has {} of {} files open", open(), names.len());
}

#[test]
fn more_workers_come_while_all_are_busy() {
    let (mounts, server) = union_of_files();
    assert_eq!(workers(server).len(), 2);
    // Each takes its time to flush a file.
    let pid = server.to_string();
    let log = mounts.at("strace.log");
    let mut slow = mounts.command("strace");
    let calls = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=5000000"];
    slow.args(["-f", "-qq"]).args(calls).args(["-p", &pid, "-o"]);
    let mut slow = slow.arg(&log).spawn().unwrap();
    let is_traced = || !fs::read_to_string(format!("/proc/{server}/status")).unwrap().contains("TracerPid:\t0\n");
    assert!(eventually(is_traced));
    let most = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..20)
            .map(|number| {
                let path = mounts.at(&format!("mnt/new{number}"));
                scope.spawn(move || {
                    let mut file = File::create_new(path).unwrap();
                    file.write_all(b"text").unwrap();
                    file.sync_all().unwrap();
                })
            })
            .collect();
        let mut most = 0;
        assert!(eventually(|| {
            most = most.max(workers(server).len());
            most == 8 || writers.iter().all(std::thread::ScopedJoinHandle::is_finished)
        }));
        super::processes::signal(slow.id(), rustix::process::Signal::INT);
        slow.wait().unwrap();
        most
    });
    assert_eq!(most, 8);
    assert!(workers(server).len() <= 8);
    mounts.umount8("mnt");
}

#[test]
fn a_worker_that_cannot_be_replaced_for_want_of_descriptors_is_so_later() {
    let (mounts, server) = union_of_files();
    let before = workers(server);
    // No number is left for another one.
    let limits = |limit| {
        let pid = rustix::process::Pid::from_raw(server.cast_signed());
        rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap()
    };
    let text = fs::read_to_string(format!("/proc/{server}/limits")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let maximum = line.split_whitespace().nth(1).unwrap().parse().ok();
    let own = limits(rustix::process::Rlimit { current: Some(3), maximum });
    assert_eq!(set_earliest_time(&mounts.at("mnt/f0")), libc::ECONNABORTED);
    assert!(eventually(|| workers(server).len() < before.len()));
    for number in 1..40 {
        assert_eq!(fs::metadata(mounts.at(&format!("mnt/f{number}"))).unwrap().len(), 5000);
    }
    assert!(workers(server).len() < before.len(), "none could be started");
    limits(own);
    assert!(eventually(|| workers(server).len() >= before.len()));
    assert_eq!(fs::read(mounts.at("mnt/f0")).unwrap().len(), 5000);
    mounts.umount8("mnt");
}
