//! Times through real mounts that were told once: none changes by itself.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags};

use super::beside::{Beside, forget};
use super::file_clock;
use super::mount_times::{CHANGES, Change, fill, open};
use super::mounts::{Mounts, passes_through};
use super::raw;

/// Times by name, of all names below a directory, in the order of the names.
fn all_times(dir: &Path) -> Vec<(String, [(i64, i64); 2])> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        let meta = fs::symlink_metadata(&at).unwrap();
        let times = [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
        found.push((at.strip_prefix(dir).unwrap().display().to_string(), times));
        if meta.is_dir() {
            todo.extend(fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

/// That no time changes by itself: the one of change as long as the mount lives, the one of modification never.
#[track_caller]
fn assert_times_stay(beside: &Beside, what: &str) {
    let top = beside.mnt("");
    let told = all_times(&top);
    for round in 0..2 {
        File::open(&top).and_then(|dir| Ok(rustix::fs::syncfs(dir)?)).unwrap();
        forget();
        let wrong: Vec<_> = told.iter().zip(all_times(&top)).filter(|(told, now)| **told != *now).collect();
        assert!(wrong.is_empty(), "{what}: told, and told later (forgotten, {round}): {wrong:#?}");
    }
    beside.mount_again();
    let mtimes = |times: Vec<(String, [(i64, i64); 2])>| times.into_iter().map(|(name, [mtime, _])| (name, mtime));
    let wrong: Vec<_> = mtimes(told).zip(mtimes(all_times(&top))).filter(|(told, now)| told != now).collect();
    assert!(wrong.is_empty(), "{what}: told, and told when mounted again: {wrong:#?}");
}

/// More changes than those of [`CHANGES`]: what reaches the disk later or by another way than the kernel remembers it.
const LATE: &[(&str, Change)] = &[
    ("direct-after-buffered", |d| {
        open(&d.join("f")).write_all_at(b"buffered", 0).unwrap();
        let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(d.join("f")).unwrap();
        let buffer = vec![b'x'; 8192];
        let start = buffer.as_ptr().align_offset(4096);
        file.write_all_at(&buffer[start..start + 4096], 0).unwrap();
    }),
    ("copy-after-buffered", |d| {
        let (from, to) = (open(&d.join("g")), open(&d.join("f")));
        to.write_all_at(b"buffered", 0).unwrap();
        to.sync_all().unwrap();
        rustix::fs::copy_file_range(from, None, to, None, 5).unwrap();
    }),
    ("allocate-after-buffered", |d| {
        let file = open(&d.join("f"));
        file.write_all_at(b"buffered", 0).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fallocate(file, FallocateFlags::empty(), 0, 9000).unwrap();
    }),
    ("write-and-chmod", |d| {
        let file = open(&d.join("f"));
        file.write_all_at(b"written", 0).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        file.set_len(3).unwrap();
    }),
    ("made-and-linked", |d| {
        fs::write(d.join("made"), "made").unwrap();
        fs::hard_link(d.join("made"), d.join("made-too")).unwrap();
        fs::rename(d.join("made"), d.join("other/made")).unwrap();
    }),
];

fn fill_late(dir: &Path) {
    fill(dir);
    for number in 0..8 {
        for (name, _) in LATE {
            let at = dir.join(format!("{name}-{number}"));
            fs::create_dir_all(at.join("other")).unwrap();
            for path in ["f", "g"] {
                fs::write(at.join(path), "content").unwrap();
            }
        }
    }
}

fn change_all(top: &Path) {
    CHANGES.iter().for_each(|(name, change)| change(&top.join(name)));
    for number in 0..8 {
        // At other moments of the clock that files have their times from.
        std::thread::sleep(std::time::Duration::from_micros(700 * number));
        LATE.iter().for_each(|(name, change)| change(&top.join(format!("{name}-{number}"))));
    }
}

#[test]
fn no_time_of_a_changed_lower_file_moves_by_itself() {
    let beside = Beside::over(&[&fill_late]);
    all_times(&beside.mnt(""));
    file_clock::moves_on();
    change_all(&beside.mnt(""));
    assert_times_stay(&beside, "changed");
    // And once more, of what is in the upper now.
    for (name, _) in CHANGES.iter().filter(|(name, _)| name.starts_with("rename") || name.contains("link")) {
        fs::remove_dir_all(beside.mnt(name)).unwrap();
    }
    assert_times_stay(&beside, "removed");
}

#[test]
fn no_time_of_a_changed_new_file_moves_by_itself() {
    let beside = Beside::over(&[]);
    fill_late(&beside.mnt(""));
    assert_times_stay(&beside, "made");
    file_clock::moves_on();
    change_all(&beside.mnt(""));
    assert_times_stay(&beside, "changed");
}

#[test]
fn a_mount_without_access_times_reads_without_a_trace() {
    let mounts = Mounts::new();
    for dir in ["upper", "lower", "mnt"] {
        mounts.mkdir(dir);
    }
    mounts.write("lower/low", "content");
    for (options, moves) in [("noatime", false), ("relatime", passes_through())] {
        mounts.run(&["union", "-o", &format!("dirs=upper:lower,{options}"), "mnt"]).ok();
        let file = mounts.at("mnt").join(options);
        fs::write(&file, "content").unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        for path in [&file, &mounts.at("mnt/low")] {
            open(path).set_times(fs::FileTimes::new().set_accessed(old)).unwrap();
        }
        for path in [&file, &mounts.at("mnt/low")] {
            let moved = || fs::metadata(path).unwrap().accessed().unwrap() != old;
            let opened = open(path);
            assert_eq!(std::io::read_to_string(&opened).unwrap(), "content");
            drop(opened);
            forget();
            assert_eq!(moved(), moves, "{options} {}", path.display());
        }
        mounts.umount("mnt");
    }
}

#[test]
fn a_time_that_the_disk_cannot_hold_is_shown_as_it_will_be() {
    // Year 2603, after the end of ext4's time, and 1833, before its beginning.
    let far = [20_000_000_000, -4_300_000_000].map(|sec| rustix::fs::Timespec { tv_sec: sec, tv_nsec: 5 });
    let set = |path: &Path, time| {
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    let make = |dir: &Path| {
        for (number, time) in far.into_iter().enumerate() {
            let at = |name: &str| dir.join(format!("{name}{number}"));
            fs::write(at("file"), "content").unwrap();
            fs::create_dir(at("dir")).unwrap();
            symlink("nowhere", at("link")).unwrap();
            for name in ["file", "dir", "link"] {
                set(&at(name), time);
            }
        }
    };
    let times = |dir: &Path| -> Vec<_> {
        let names = ["file0", "dir0", "link0", "file1", "dir1", "link1"];
        let of = |name: &str| fs::symlink_metadata(dir.join(name)).unwrap();
        names.map(|name| (name, of(name).mtime(), of(name).mtime_nsec(), of(name).atime())).to_vec()
    };
    let beside = Beside::over(&[]);
    beside.same(|dir| {
        make(dir);
        times(dir)
    });
    forget();
    beside.same(times);
    beside.mount_again();
    beside.same(times);
}

#[test]
fn a_truncation_to_the_same_length_moves_the_time_of_modification() {
    let beside = Beside::over(&[&|dir| fs::write(dir.join("low"), "content").unwrap()]);
    beside.same(|dir| fs::write(dir.join("new"), "content").unwrap());
    beside.same(|dir| fs::write(dir.join("empty"), "").unwrap());
    for (name, length) in [("low", 7), ("new", 7), ("empty", 0), ("low", 7)] {
        let truncated: [(&str, Change); 2] = [
            ("truncate", |path| raw::truncate(path, fs::metadata(path).unwrap().len().try_into().unwrap()).unwrap()),
            ("ftruncate", |path| open(path).set_len(fs::metadata(path).unwrap().len()).unwrap()),
        ];
        for (call, truncate) in truncated {
            file_clock::moves_on();
            let path = beside.mnt(name);
            let mtime = || fs::metadata(&path).unwrap().modified().unwrap();
            let before = mtime();
            truncate(&path);
            let told = mtime();
            assert!(told > before, "{name}: {call}");
            assert_eq!(fs::metadata(&path).unwrap().len(), length);
            forget();
            assert_eq!(mtime(), told, "{name}: {call}, forgotten");
        }
    }
    assert_times_stay(&beside, "truncated");
}

/// The truncation waits, with the file's lock, until the kernel has given up the name; the rename waits for the file with the
/// directory's lock.
#[test]
fn a_truncation_and_a_rename_do_not_wait_for_each_other() {
    let mounts = Mounts::new();
    for dir in ["upper", "lower", "mnt"] {
        mounts.mkdir(dir);
    }
    mounts.run(&["union", "-o", "io=cached,dirs=upper:lower", "mnt"]).ok();
    mounts.write("mnt/first", "content");
    mounts.write("mnt/other", "content");
    let dir = mounts.at("mnt");
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let truncate = |name: &'static str| {
        let (path, done) = (dir.join(name), done.clone());
        move || {
            for _ in 0..1000 {
                raw::truncate(&path, 7).unwrap();
            }
            drop(done);
        }
    };
    let rename = || {
        let (dir, done) = (dir.clone(), done.clone());
        move || {
            for _ in 0..1000 {
                fs::rename(dir.join("first"), dir.join("moved")).unwrap();
                fs::rename(dir.join("moved"), dir.join("first")).unwrap();
                fs::hard_link(dir.join("other"), dir.join("again")).unwrap();
                fs::remove_file(dir.join("again")).unwrap();
            }
            drop(done);
        }
    };
    std::thread::spawn(truncate("other"));
    std::thread::spawn(rename());
    drop(done);
    // Closed when both have ended.
    let waited = is_done.recv_timeout(std::time::Duration::from_secs(120));
    if waited == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        mounts.run(&["umount", "--force", "mnt"]).ok();
        panic!("they wait for each other");
    }
    mounts.umount(&mounts.text("mnt"));
}
