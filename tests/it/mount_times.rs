//! Times through real mounts: what moves, and what does not, is what moves in a plain directory beside it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags, mknodat, renameat_with, setxattr,
};

use super::beside::{Beside, forget};
use super::file_clock;
use super::mounts::passes_through;
use super::raw::Mapping;

pub(crate) type Change = fn(&Path);

pub(crate) fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// Each in a directory of its own with a file `f`, a link `l` to the same file, directories `s` and `other`.
pub(crate) const CHANGES: &[(&str, Change)] = &[
    ("read", |d| drop(fs::read(d.join("f")).unwrap())),
    ("list", |d| assert!(fs::read_dir(d).unwrap().count() > 3)),
    ("open-for-writing", |d| drop(open(&d.join("f")))),
    ("write", |d| open(&d.join("f")).write_all_at(b"x", 1).unwrap()),
    ("write-nothing", |d| open(&d.join("f")).write_all_at(b"", 1).unwrap()),
    ("append", |d| {
        std::io::Write::write_all(&mut File::options().append(true).open(d.join("f")).unwrap(), b"x").unwrap();
    }),
    ("truncate", |d| open(&d.join("f")).set_len(2).unwrap()),
    ("truncate-same", |d| open(&d.join("f")).set_len(7).unwrap()),
    ("open-truncate", |d| drop(File::create(d.join("f")).unwrap())),
    ("fallocate", |d| rustix::fs::fallocate(open(&d.join("f")), FallocateFlags::empty(), 0, 9000).unwrap()),
    ("fsync", |d| open(&d.join("f")).sync_all().unwrap()),
    ("chmod", |d| fs::set_permissions(d.join("f"), fs::Permissions::from_mode(0o600)).unwrap()),
    ("chmod-directory", |d| fs::set_permissions(d.join("s"), fs::Permissions::from_mode(0o700)).unwrap()),
    ("chown", |d| chown(d.join("f"), Some(3), None).unwrap()),
    ("setxattr", |d| setxattr(d.join("f"), "user.a", b"1", XattrFlags::empty()).unwrap()),
    ("utimes", |d| open(&d.join("f")).set_modified(std::time::UNIX_EPOCH).unwrap()),
    ("create", |d| drop(File::create_new(d.join("new")).unwrap())),
    ("create-below", |d| drop(File::create_new(d.join("s/new")).unwrap())),
    ("mkdir", |d| fs::create_dir(d.join("new")).unwrap()),
    ("symlink", |d| symlink("f", d.join("new")).unwrap()),
    ("mkfifo", |d| mknodat(CWD, d.join("new"), FileType::Fifo, Mode::RWXU, 0).unwrap()),
    ("link", |d| fs::hard_link(d.join("f"), d.join("other/new")).unwrap()),
    ("unlink", |d| fs::remove_file(d.join("f")).unwrap()),
    ("rmdir", |d| fs::remove_dir(d.join("other")).unwrap()),
    ("rename", |d| fs::rename(d.join("f"), d.join("new")).unwrap()),
    ("rename-away", |d| fs::rename(d.join("f"), d.join("other/f")).unwrap()),
    ("rename-over", |d| fs::rename(d.join("g"), d.join("f")).unwrap()),
    ("rename-to-itself", |d| fs::rename(d.join("f"), d.join("l")).unwrap()),
    ("rename-directory", |d| fs::rename(d.join("s"), d.join("other/s")).unwrap()),
    ("exchange", |d| renameat_with(CWD, d.join("f"), CWD, d.join("other"), RenameFlags::EXCHANGE).unwrap()),
    ("failed-create", |d| assert!(File::create_new(d.join("f")).is_err())),
    ("failed-rmdir", |d| assert!(fs::remove_dir(d.join("s")).is_err())),
    ("failed-unlink", |d| assert!(fs::remove_file(d.join("missing")).is_err())),
];

const WATCHED: [&str; 8] = ["f", "g", "l", "s", "other", "s/in", "other/f", ""];

pub(crate) fn fill(dir: &Path) {
    for (name, _) in CHANGES {
        let at = dir.join(name);
        for path in ["f", "g", "s/in"] {
            fs::create_dir_all(at.join(path).parent().unwrap()).unwrap();
            fs::write(at.join(path), "content").unwrap();
        }
        fs::create_dir(at.join("other")).unwrap();
        fs::hard_link(at.join("f"), at.join("l")).unwrap();
        // Two that change places have times that are as different, or not, as in the other tree.
        for path in ["f", "g", "s/in", "s", "other", ""] {
            let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
            File::open(at.join(path)).unwrap().set_modified(then).unwrap();
        }
    }
}

/// Times by name: that of modification, that of change.
fn times(dir: &Path) -> Vec<Option<[(i64, i64); 2]>> {
    let of = |name| fs::symlink_metadata(dir.join(name)).ok();
    let pair = |meta: fs::Metadata| [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
    WATCHED.map(|name| of(name).map(pair)).to_vec()
}

/// What a change of everything moves: for each change and watched name, which of its times are new. Shown when the
/// kernel knows the inodes, and when it has forgotten them.
fn moved(top: &Path) -> Vec<String> {
    let before: Vec<_> = CHANGES.iter().map(|(name, _)| times(&top.join(name))).collect();
    file_clock::moves_on();
    // What is in use the kernel does not forget, whoever else tells it to.
    let open = |(name, _): &(&str, Change)| rustix::fs::open(top.join(name), OFlags::PATH, Mode::empty()).unwrap();
    let mut in_use: Vec<_> = CHANGES.iter().map(open).collect();
    CHANGES.iter().for_each(|(name, change)| change(&top.join(name)));
    let mut found = Vec::new();
    for memory in ["known", "forgotten"] {
        for ((name, _), before) in CHANGES.iter().zip(&before) {
            for ((watched, before), after) in WATCHED.iter().zip(before).zip(times(&top.join(name))) {
                // A name that was not there has no time to have moved.
                if let Some((before, after)) = before.as_ref().zip(after) {
                    let [mtime, ctime] = [0, 1].map(|at| before[at] != after[at]);
                    found.push(format!("{name} moves of {watched:?}, {memory}: mtime {mtime}, ctime {ctime}"));
                }
            }
        }
        File::open(top).and_then(|dir| Ok(rustix::fs::syncfs(dir)?)).unwrap();
        in_use.clear();
        forget();
    }
    found
}

#[track_caller]
fn assert_same_moves(beside: &Beside, is_known: impl Fn(&str) -> bool) {
    let (union, plain) = (moved(&beside.mnt("")), moved(&beside.mounts.at("plain")));
    let wrong = union.iter().zip(&plain).filter(|(union, plain)| union != plain);
    let wrong: Vec<_> = wrong.filter(|(union, _)| !is_known(union)).collect();
    assert!(wrong.is_empty(), "left in the union, right in a plain directory: {wrong:#?}");
}

#[test]
fn times_of_new_files_move_as_in_a_plain_directory() {
    let beside = Beside::over(&[]);
    beside.both(fill);
    // The kernel's own time of a write and that of its arrival on disk may differ by less than a step.
    beside.mount_again();
    assert_same_moves(&beside, |_| false);
}

#[test]
fn times_of_lower_files_move_as_in_a_plain_directory() {
    let beside = Beside::over(&[&fill]);
    let is_known = |moves: &str| {
        // One of several names that goes takes no copy with it, so that the others keep their times.
        let other_name = ["unlink moves of \"l\"", "rename-over moves of \"l\""];
        passes_through() && other_name.iter().any(|name| moves.starts_with(name))
    };
    assert_same_moves(&beside, is_known);
}

#[test]
fn a_copy_up_moves_no_time_of_modification() {
    let beside = Beside::over(&[&|dir| {
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("a/b/f"), "low").unwrap();
    }]);
    let mtimes = |names: &[&str]| {
        names.iter().map(|name| fs::metadata(beside.mnt(name)).unwrap().modified().unwrap()).collect::<Vec<_>>()
    };
    let before = mtimes(&["", "a", "a/b", "a/b/f"]);
    file_clock::moves_on();
    fs::set_permissions(beside.mnt("a/b/f"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(mtimes(&["", "a", "a/b", "a/b/f"]), before);
    forget();
    assert_eq!(mtimes(&["", "a", "a/b", "a/b/f"]), before);
    open(&beside.mnt("a/b/f")).write_all_at(b"x", 0).unwrap();
    assert_eq!(mtimes(&["", "a", "a/b"]), before[..3]);
    beside.mount_again();
    assert_eq!(mtimes(&["", "a", "a/b"]), before[..3]);
    assert!(mtimes(&["a/b/f"])[0] > before[3]);
}

#[test]
fn a_write_through_a_mapping_moves_the_time_of_modification() {
    let beside = Beside::over(&[&|dir| {
        for name in ["sync", "close"] {
            fs::write(dir.join(name), "low").unwrap();
        }
    }]);
    for name in ["sync", "close"] {
        let moved = beside.both(|dir| {
            let path = dir.join(name);
            let mtime = || fs::metadata(&path).unwrap().modified().unwrap();
            let before = mtime();
            file_clock::moves_on();
            let file = open(&path);
            let mapped = Mapping::new(&file, true);
            mapped.set(0, b'x');
            if name == "sync" {
                mapped.sync();
            }
            drop((mapped, file));
            let now = mtime();
            File::open(&path).unwrap().sync_all().unwrap();
            forget();
            (now > before, mtime() > before)
        });
        assert_eq!(moved, (true, true));
    }
}

#[test]
fn reading_moves_no_access_time() {
    let beside = Beside::over(&[&|dir| {
        fs::create_dir(dir.join("d")).unwrap();
        for name in ["d/low", "d/up"] {
            fs::write(dir.join(name), "content").unwrap();
        }
    }]);
    fs::write(beside.mnt("d/up"), "copied up").unwrap();
    // What the kernel reads itself it reads as the disk is mounted.
    let names = if passes_through() { &["d", "d/low"][..] } else { &["d", "d/low", "d/up"] };
    let atimes =
        || -> Vec<_> { names.iter().map(|name| fs::metadata(beside.mnt(name)).unwrap().accessed().unwrap()).collect() };
    let before = atimes();
    file_clock::moves_on();
    assert_eq!(fs::read_dir(beside.mnt("d")).unwrap().count(), 2);
    for name in ["d/low", "d/up"] {
        assert_eq!(fs::read(beside.mnt(name)).unwrap().len(), if name == "d/up" { 9 } else { 7 });
    }
    assert_eq!(atimes(), before);
    beside.mount_again();
    assert_eq!(atimes(), before);
}

#[test]
fn forgetting_moves_no_time_of_modification() {
    let beside = Beside::over(&[]);
    let names: Vec<String> = (0..300).map(|number| format!("f{number}")).collect();
    for name in &names {
        // The write may fall into the same step of the clock as the making.
        fs::write(beside.mnt(name), name).unwrap();
    }
    let mtimes =
        || -> Vec<_> { names.iter().map(|name| fs::metadata(beside.mnt(name)).unwrap().modified().unwrap()).collect() };
    let before = mtimes();
    forget();
    let moved = mtimes().iter().zip(&before).filter(|(after, before)| after != before).count();
    assert_eq!(moved, 0);
}
