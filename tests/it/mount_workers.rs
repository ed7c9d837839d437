//! The threads that answer requests: a request that ends one of them ends nothing else.

use std::fs::{self, File};
use std::path::Path;

use rustix::io::Errno;

use super::mount_commit::image;
use super::mount_container::pid;
use super::mounts::Mounts;

/// Sets a time that fuser 0.18 cannot hold; the errno, or 0.
fn set_earliest_time(path: &Path) -> i32 {
    let time = rustix::fs::Timespec { tv_sec: i64::MIN, tv_nsec: 1 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())
        .map_or_else(Errno::raw_os_error, |()| 0)
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
