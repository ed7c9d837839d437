//! Names, paths and places in directories of real mounts, each as in a plain directory beside it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, XattrFlags, mkdirat, openat, renameat, seek, setxattr, statat,
    symlinkat, unlinkat,
};
use rustix::io::{Errno, Result, read, write};

use super::beside::{Beside, forget, tree};
use super::mount_calls::low;

#[test]
fn a_long_name_is_one_or_is_too_long_as_in_a_plain_directory() {
    let longest = "n".repeat(255);
    let beside = Beside::over(&[&|dir| {
        fs::write(dir.join("f"), "f").unwrap();
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("n".repeat(255)), "low").unwrap();
        fs::write(dir.join("m".repeat(254)), "low").unwrap();
    }]);
    for length in [255, 256, 300] {
        let (name, mode) = ("x".repeat(length), Mode::from_raw_mode(0o644));
        let results: Vec<Result<()>> = beside.both(|dir| {
            let dir: OwnedFd = File::open(dir).unwrap().into();
            let (dir, name) = (dir.as_fd(), &*name);
            let none = AtFlags::empty();
            let open = |flags| openat(dir, name, flags, mode).map(|_| ());
            let set = |path: &Path| setxattr(path, "user.a", b"1", XattrFlags::empty());
            let here = std::path::PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir)));
            vec![
                open(OFlags::RDONLY),
                statat(dir, name, none).map(|_| ()),
                open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL),
                rustix::fs::chmodat(dir, name, mode, none),
                set(&here.join(name)),
                renameat(dir, "f", dir, name),
                renameat(dir, name, dir, "f"),
                rustix::fs::linkat(dir, "f", dir, name, none),
                rustix::fs::linkat(dir, name, dir, "linked", none),
                unlinkat(dir, name, none),
                symlinkat("f", dir, name),
                rustix::fs::readlinkat(dir, name, Vec::new()).map(|_| ()),
                unlinkat(dir, name, none),
                mkdirat(dir, name, Mode::RWXU),
                renameat(dir, name, dir, "d"),
                renameat(dir, "d", dir, name),
                unlinkat(dir, name, AtFlags::REMOVEDIR),
                mkdirat(dir, "d", Mode::RWXU),
                rustix::fs::mknodat(dir, name, FileType::Fifo, mode, 0),
                rustix::fs::utimensat(
                    dir,
                    name,
                    &rustix::fs::Timestamps {
                        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
                        last_modification: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
                    },
                    none,
                ),
                unlinkat(dir, name, none),
            ]
        });
        let refused = results.iter().filter(|result| **result == Err(Errno::NAMETOOLONG)).count();
        // All but the second mkdir of what is there.
        assert_eq!(refused, if length > 255 { results.len() - 1 } else { 0 }, "{results:?}");
    }
    for name in [longest, "m".repeat(254)] {
        beside.same(|dir| fs::remove_file(dir.join(&name)).unwrap());
        beside.assert_same_trees();
    }
}

#[test]
fn names_of_whiteouts_are_refused_by_every_operation_that_makes_one() {
    let beside = low();
    let mnt: OwnedFd = File::open(beside.mnt("")).unwrap().into();
    let (dir, mode) = (mnt.as_fd(), Mode::from_raw_mode(0o644));
    for name in [".wh.f", ".wh..wh..opq", ".wh.", ".wh..wh.x"] {
        let results = [
            openat(dir, name, OFlags::WRONLY | OFlags::CREATE, mode).map(|_| ()),
            mkdirat(dir, name, mode),
            symlinkat("f", dir, name),
            rustix::fs::mknodat(dir, name, FileType::Fifo, mode, 0),
            rustix::fs::linkat(dir, "f", dir, name, AtFlags::empty()),
            renameat(dir, "f", dir, name),
            renameat(dir, "d", dir, name),
        ];
        assert_eq!(results, [Err(Errno::PERM); 7], "{name}");
        assert_eq!(statat(dir, name, AtFlags::empty()).map(|_| ()), Err(Errno::NOENT), "{name}");
    }
    drop(mnt);
    beside.assert_same_trees();
}

/// Makes nested directories with long names, from the top down, and gives the lowest.
fn deep(dir: &Path, depth: usize) -> OwnedFd {
    let name = "d".repeat(200);
    let mut at: OwnedFd = File::open(dir).unwrap().into();
    for _ in 0..depth {
        let _ = mkdirat(&at, &*name, Mode::RWXU);
        at = openat(&at, &*name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    at
}

#[test]
fn paths_of_any_length_work() {
    const DEPTH: usize = 40;
    let put = |dir: &OwnedFd, name: &str| {
        let file = openat(dir, name, OFlags::WRONLY | OFlags::CREATE, Mode::RUSR | Mode::WUSR).unwrap();
        write(file, name.as_bytes()).unwrap();
    };
    let beside = Beside::over(&[&|dir| {
        for depth in [DEPTH, 19] {
            let lowest = deep(dir, depth);
            put(&lowest, "low");
            mkdirat(&lowest, "sub", Mode::RWXU).unwrap();
        }
    }]);
    // In one path: 4095 bytes are one, 4096 are too many.
    for length in [4094, 4095, 4096] {
        beside.same(|dir| {
            let dir: OwnedFd = File::open(dir).unwrap().into();
            let path = format!("{}/", "d".repeat(200)).repeat(20) + &"p".repeat(length - 20 * 201);
            let made = openat(&dir, &*path, OFlags::WRONLY | OFlags::CREATE, Mode::RUSR).map(|_| ());
            assert_eq!(made.is_ok(), length < 4096, "{made:?}");
            (made, statat(&dir, &*path, AtFlags::empty()).map(|stat| stat.st_size))
        });
    }
    // And where no path leads.
    let change = |dir: &Path| {
        let lowest = deep(dir, DEPTH);
        let file = openat(&lowest, "low", OFlags::RDWR | OFlags::APPEND, Mode::empty()).unwrap();
        write(&file, b" changed").unwrap();
        put(&lowest, "new");
        renameat(&lowest, "low", &lowest, "sub/renamed").unwrap();
        renameat(&lowest, "sub", &lowest, "moved").unwrap();
        unlinkat(&lowest, "new", AtFlags::empty()).unwrap();
        put(&lowest, "newer");
    };
    let look = |dir: &Path| {
        let lowest = deep(dir, DEPTH);
        let mut content = [0; 40];
        let file = openat(&lowest, "moved/renamed", OFlags::RDONLY, Mode::empty()).unwrap();
        let length = read(file, &mut content).unwrap();
        let entries = rustix::fs::Dir::read_from(&lowest).unwrap();
        let names: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().to_owned()).collect();
        (content, length, names)
    };
    beside.same(change);
    beside.same(look);
    forget();
    beside.same(look);
    beside.kill_and_mount_again();
    assert_eq!(beside.both(look).1, b"low changed".len());
}

/// The names of a directory from a place on, each with the place after it (`telldir`).
fn names_from(dir: &OwnedFd, place: u64) -> Vec<(String, u64)> {
    seek(dir, SeekFrom::Start(place)).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.unwrap();
        names.push((entry.file_name().to_str().unwrap().to_owned(), entry.next_entry_cookie()));
    }
    names
}

#[test]
fn places_in_a_directory_stay_valid_while_entries_come_and_go() {
    let beside = Beside::over(&[&|dir| {
        (0..150).for_each(|number| fs::write(dir.join(format!("low{number}")), "").unwrap());
    }]);
    for number in 0..150 {
        fs::write(beside.mnt(&format!("up{number}")), "").unwrap();
    }
    let dir: OwnedFd = File::open(beside.mnt("")).unwrap().into();
    let all = names_from(&dir, 0);
    assert_eq!(all.len(), 302);
    let places: BTreeSet<u64> = all.iter().map(|(_, place)| *place).collect();
    assert_eq!(places.len(), all.len(), "every place is another");
    // Gone, come, copied up, and come back.
    let gone = |name: &str| name.ends_with('3');
    for (name, _) in all.iter().filter(|(name, _)| gone(name)) {
        fs::remove_file(beside.mnt(name)).unwrap();
    }
    for number in 0..100 {
        fs::write(beside.mnt(&format!("come{number}")), "").unwrap();
    }
    fs::write(beside.mnt("low7"), "copied up").unwrap();
    for dropped in [false, true] {
        if dropped {
            forget();
        }
        // Until somebody rewinds, what has gone may still be there.
        names_from(&dir, 0);
        for at in (0..all.len()).step_by(7) {
            let rest = names_from(&dir, all[at].1);
            let seen: Vec<&str> =
                rest.iter().map(|(name, _)| &**name).filter(|name| !name.starts_with("come")).collect();
            let wanted: Vec<&str> = all[at + 1..].iter().map(|(name, _)| &**name).filter(|name| !gone(name)).collect();
            assert_eq!(seen, wanted, "after {}", all[at].0);
        }
    }
    let names = names_from(&dir, 0);
    let distinct: BTreeSet<&String> = names.iter().map(|(name, _)| name).collect();
    assert_eq!((names.len(), distinct.len()), (302 - 30 + 100, 302 - 30 + 100));
    drop(dir);
    beside.mount_again();
    let dir: OwnedFd = File::open(beside.mnt("")).unwrap().into();
    assert_eq!(names_from(&dir, 0).len(), 372);
}

#[test]
fn all_that_a_listing_gives_can_be_removed_while_it_is_read() {
    let beside = Beside::over(&[&|dir| {
        (0..700).for_each(|number| fs::write(dir.join(format!("a-rather-long-name-{number}")), "").unwrap());
    }]);
    beside.same(|dir| {
        for number in 0..700 {
            fs::write(dir.join(format!("another-rather-long-name-{number}")), "").unwrap();
        }
        let mut removed = 0;
        for entry in fs::read_dir(dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
            removed += 1;
        }
        (removed, fs::read_dir(dir).unwrap().count(), fs::metadata(dir).unwrap().nlink())
    });
    beside.same(tree);
    beside.assert_same_trees();
}
