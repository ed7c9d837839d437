//! System calls through real mounts, each as in a plain directory beside it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{
    CWD, FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom, copy_file_range, fallocate, fcntl_lock, flock, openat,
    seek, statvfs, symlinkat,
};
use rustix::io::{Errno, pwrite};

use super::beside::{Beside, raw};
use super::own_process;
use super::processes::eventually;
use super::raw::{PAGE, lock_open_file};

pub(crate) fn low() -> Beside {
    Beside::over(&[&|dir| {
        fs::write(dir.join("f"), "content\n".repeat(1000)).unwrap();
        fs::write(dir.join("g"), "other\n").unwrap();
        fs::create_dir(dir.join("d")).unwrap();
        symlinkat("f", CWD, dir.join("link")).unwrap();
    }])
}

fn both_ways(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn flags_of_open_do_what_they_do_in_a_plain_directory() {
    let beside = low();
    let flags = [
        OFlags::RDONLY,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
        OFlags::WRONLY | OFlags::NOFOLLOW,
        OFlags::RDONLY | OFlags::DIRECTORY,
        OFlags::PATH | OFlags::NOFOLLOW,
        OFlags::RDWR | OFlags::DIRECT,
        OFlags::RDWR | OFlags::SYNC,
        OFlags::WRONLY | OFlags::APPEND,
        OFlags::WRONLY | OFlags::CREATE,
        OFlags::WRONLY | OFlags::TRUNC,
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW,
    ];
    for flag in flags {
        for name in ["f", "g", "d", "link", "dangling", "missing", "f/below", "d/"] {
            beside.same(|dir| {
                let _ = symlinkat("nowhere", CWD, dir.join("dangling"));
                let opened = openat(CWD, dir.join(name), flag, Mode::from_raw_mode(0o640));
                let result = opened.map(|file| rustix::fs::fstat(file).unwrap().st_mode);
                let _ = fs::remove_file(dir.join("missing"));
                let _ = fs::remove_file(dir.join("nowhere"));
                result
            });
        }
    }
    beside.assert_same_trees();
    // What the FUSE library cannot carry, programs know how to do without.
    let unnamed = openat(CWD, beside.mnt(""), OFlags::TMPFILE | OFlags::RDWR, Mode::RWXU);
    assert_eq!(unnamed.map(|_| ()), Err(Errno::OPNOTSUPP));
}

#[test]
fn direct_and_buffered_data_are_one() {
    let beside = low();
    beside.same(|dir| {
        let path = dir.join("f");
        let direct: OwnedFd = openat(CWD, &path, OFlags::RDWR | OFlags::DIRECT, Mode::empty()).unwrap();
        let (buffered, mut seen) = (both_ways(&path), Vec::new());
        // Memory that is aligned as the plain file system wants it.
        let mut memory = vec![b'd'; 3 * PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        let page = &mut memory[start..start + PAGE];
        let mut some = [0; 4];
        buffered.read_exact_at(&mut some, 0).unwrap();
        seen.push(some);
        pwrite(&direct, page, 0).unwrap();
        buffered.read_exact_at(&mut some, 10).unwrap();
        seen.push(some);
        buffered.write_all_at(b"buff", 10).unwrap();
        rustix::io::pread(&direct, &mut *page, 0).unwrap();
        seen.push(page[10..14].try_into().unwrap());
        seen
    });
    beside.assert_same_trees();
}

#[test]
fn processes_that_append_lose_no_line() {
    const COUNT: usize = 300;
    let beside = low();
    let script = format!("exec >>\"$1\"; i=0; while [ $i -lt {COUNT} ]; do echo \"$2 $i\"; i=$((i+1)); done");
    let children: Vec<_> = (0..4)
        .map(|number| {
            let mut command = Command::new("sh");
            command.args(["-c", &script, "sh"]).arg(beside.mnt("g")).arg(number.to_string());
            command.spawn().unwrap()
        })
        .collect();
    assert!(children.into_iter().all(|mut child| child.wait().unwrap().success()));
    for _ in 0..2 {
        let text = beside.mounts.read("mnt/g");
        let lines: BTreeSet<&str> = text.lines().collect();
        assert_eq!((text.lines().count(), lines.len()), (4 * COUNT + 1, 4 * COUNT + 1));
        assert!((0..4).all(|number| (0..COUNT).all(|line| lines.contains(&*format!("{number} {line}")))));
        beside.mount_again();
    }
}

#[test]
fn every_mode_of_fallocate_does_what_it_does_in_a_plain_directory() {
    let modes = [
        FallocateFlags::empty(),
        FallocateFlags::KEEP_SIZE,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        FallocateFlags::ZERO_RANGE,
        FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
    ];
    let beside = low();
    for name in ["f", "g"] {
        for mode in modes {
            for (offset, length) in [(100, 50), (4096, 4096), (7000, 9000), (20_000, 1), (0, 0)] {
                beside.same(|dir| {
                    let file = both_ways(&dir.join(name));
                    let result = fallocate(&file, mode, offset, length);
                    (result, file.metadata().unwrap().len(), fs::read(dir.join(name)).unwrap())
                });
            }
        }
    }
    beside.assert_same_trees();
    for mode in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE, FallocateFlags::UNSHARE_RANGE] {
        assert_eq!(fallocate(both_ways(&beside.mnt("f")), mode, 0, 4096), Err(Errno::OPNOTSUPP), "{mode:?}");
    }
}

#[test]
fn data_and_holes_are_found_where_a_plain_file_has_them() {
    let beside = Beside::over(&[&|dir| {
        for name in ["read", "written", "metadata"] {
            let file = File::create(dir.join(name)).unwrap();
            file.write_all_at(&[b'x'; 5000], 1 << 20).unwrap();
            file.set_len(3 << 20).unwrap();
        }
    }]);
    beside.same(|dir| {
        let written = both_ways(&dir.join("written"));
        written.write_all_at(b"more", 2 << 20).unwrap();
        written.sync_all().unwrap();
        rustix::fs::chmod(dir.join("metadata"), Mode::RUSR).unwrap();
    });
    for name in ["read", "written", "metadata"] {
        let found = beside.both(|dir| {
            let file = File::open(dir.join(name)).unwrap();
            let places = [0, 1 << 20, (1 << 20) + 4999, 2 << 20, (3 << 20) - 1, 3 << 20, 9 << 20];
            places.map(|at| (seek(&file, SeekFrom::Data(at)), seek(&file, SeekFrom::Hole(at))))
        });
        assert_eq!(found[0], (Ok(1 << 20), Ok(0)), "{name}");
    }
}

#[test]
fn copy_file_range_copies_what_read_and_write_would() {
    let beside = low();
    let mut cases = 0;
    for (from, to) in [("f", "g"), ("g", "new"), ("new", "f"), ("f", "f")] {
        for (at, to_at, length) in [(0, 0, 10), (100, 5000, 4000), (7990, 1, 100), (90_000, 0, 5)] {
            let copied = beside.both(|dir| {
                let target = File::options().write(true).create(true).truncate(false).open(dir.join(to)).unwrap();
                // Not written out yet.
                both_ways(&dir.join(from)).write_all_at(b"dirty", 3).unwrap();
                let (mut at, mut to_at) = (at, to_at);
                let source = File::open(dir.join(from)).unwrap();
                let copied = copy_file_range(&source, Some(&mut at), &target, Some(&mut to_at), length);
                (copied, at, to_at, fs::read(dir.join(to)).unwrap())
            });
            cases += usize::from(copied.0.is_ok_and(|length| length > 0));
        }
    }
    assert!(cases > 5, "{cases}");
    beside.assert_same_trees();
}

#[test]
fn statfs_is_that_of_the_uppers_file_system() {
    let beside = low();
    let stat = |dir: &str| {
        let stat = statvfs(beside.mounts.at(dir)).unwrap();
        (stat.f_bsize, stat.f_frsize, stat.f_blocks, stat.f_files, stat.f_namemax)
    };
    // Where inodes are made as they are needed, their number depends on what others write meanwhile.
    assert!(eventually(|| stat("mnt") == stat("plain")), "{:?}, {:?}", stat("mnt"), stat("plain"));
}

#[test]
fn locks_keep_other_processes_out() {
    const NAME: &str = "mount_calls::locks_keep_other_processes_out";
    let exclusive = FlockOperation::NonBlockingLockExclusive;
    let try_all = |dir: &Path| {
        let at = |name: &str| both_ways(&dir.join(name));
        let (by_flock, by_process, by_file) = (at("f"), at("g"), at("h"));
        let open_file = lock_open_file(&by_file, libc::F_WRLCK);
        [flock(&by_flock, exclusive), fcntl_lock(&by_process, exclusive), raw(open_file)]
    };
    if own_process::is_own(NAME) {
        let dir = std::env::current_dir().unwrap();
        let locked = std::env::var("LAYERCTL_TEST_LOCKED").is_ok();
        let results = try_all(&dir);
        assert!(results.iter().all(|result| result.is_err() == locked), "{results:?}");
        return;
    }
    let beside = low();
    beside.same(|dir| {
        fs::write(dir.join("h"), "").unwrap();
        let agrees = |locked: bool| {
            let mut command = own_process::command(NAME);
            if locked {
                command.env("LAYERCTL_TEST_LOCKED", "1");
            }
            let output = command.current_dir(dir).stdin(Stdio::null()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("1 passed") || text.contains("1 failed"), "{text}");
            output.status.success()
        };
        // A child that another test has just forked may have the files open for a while.
        let is_free = || assert!(eventually(|| agrees(false)));
        is_free();
        let files = ["f", "g", "h"].map(|name| both_ways(&dir.join(name)));
        flock(&files[0], exclusive).unwrap();
        fcntl_lock(&files[1], exclusive).unwrap();
        lock_open_file(&files[2], libc::F_WRLCK).unwrap();
        assert!(agrees(true));
        // A lock is the file's, wherever its data are and whatever its name is.
        files.iter().for_each(|file| file.write_all_at(b"copied up", 0).unwrap());
        fs::rename(dir.join("f"), dir.join("moved")).unwrap();
        fs::rename(dir.join("moved"), dir.join("f")).unwrap();
        assert!(agrees(true));
        // Two open files of one process are two with all but the process's own.
        let again = try_all(dir);
        assert_eq!(again, [Err(Errno::WOULDBLOCK), Ok(()), Err(Errno::WOULDBLOCK)]);
        drop(files);
        is_free();
    });
}
