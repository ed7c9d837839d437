//! One file system, through real mounts: numbers, links, names, and files that have none any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{DirEntryExt as _, FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;

use super::beside::{Beside, forget, raw, tree};
use super::mounts::Mounts;
use super::processes::kill;
use super::raw::Mapping;
use super::root_fs::plain;

pub(crate) fn put(dir: &Path, path: &str, content: &str) {
    let file = dir.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, content).unwrap();
}

/// `st_ino` of every name below a directory, which readdir, stat and fstat must agree on.
fn numbers(dir: &Path, prefix: &str, found: &mut BTreeMap<String, u64>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        assert_eq!(entry.ino(), meta.ino(), "{name}: readdir and stat");
        if !meta.is_symlink() {
            assert_eq!(File::open(&path).unwrap().metadata().unwrap().ino(), meta.ino(), "{name}: fstat and stat");
        }
        if meta.is_dir() {
            let up = fs::metadata(path.join("..")).unwrap().ino();
            assert_eq!(up, fs::metadata(dir).unwrap().ino(), "{name}/..");
            numbers(&path, &format!("{name}/"), found);
        }
        found.insert(name, meta.ino());
    }
}

fn numbers_of(beside: &Beside) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    numbers(&beside.mnt(""), "", &mut found);
    found
}

#[test]
fn numbers_agree_and_stay_through_all_that_moves_a_file() {
    let beside = Beside::over(&[&|dir| put(dir, "d/upper-layer", "1"), &|dir| {
        put(dir, "d/f", "1");
        put(dir, "d/s/g", "2");
        put(dir, "h", "3");
        fs::hard_link(dir.join("h"), dir.join("d/h2")).unwrap();
        symlink("h", dir.join("link")).unwrap();
    }]);
    put(&beside.mnt(""), "new", "n");
    let mut before = numbers_of(&beside);
    assert_eq!(before["h"], before["d/h2"]);
    let distinct: BTreeSet<u64> = before.values().copied().collect();
    assert_eq!(distinct.len(), before.len() - 1, "{before:?}");

    let open = File::open(beside.mnt("d/f")).unwrap();
    fs::write(beside.mnt("d/f"), "copied up").unwrap();
    fs::set_permissions(beside.mnt("d/s/g"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(beside.mnt("d/h2"), "copied up").unwrap();
    assert_eq!(numbers_of(&beside), before, "after copy-up");
    forget();
    assert_eq!(numbers_of(&beside), before, "after copy-up, forgotten");
    assert_eq!(open.metadata().unwrap().ino(), before["d/f"]);
    drop(open);
    beside.mount_again();
    assert_eq!(numbers_of(&beside), before, "mounted again");

    // A directory, a file, and a file in a renamed directory; and one more name.
    fs::rename(beside.mnt("d"), beside.mnt("e")).unwrap();
    fs::rename(beside.mnt("e/f"), beside.mnt("f")).unwrap();
    fs::rename(beside.mnt("new"), beside.mnt("e/s/new")).unwrap();
    fs::hard_link(beside.mnt("e/upper-layer"), beside.mnt("linked")).unwrap();
    before = before.into_iter().map(|(name, ino)| (name.replacen("d/", "e/", 1), ino)).collect();
    let moved = [("d", "e"), ("e/f", "f"), ("new", "e/s/new")];
    for (from, to) in moved {
        let ino = before.remove(from).unwrap();
        before.insert(to.to_owned(), ino);
    }
    before.insert("linked".to_owned(), before["e/upper-layer"]);
    assert_eq!(numbers_of(&beside), before, "renamed");
    forget();
    assert_eq!(numbers_of(&beside), before, "renamed, forgotten");
    beside.kill_and_mount_again();
    assert_eq!(numbers_of(&beside), before, "renamed, killed and mounted again");
}

#[test]
fn a_lower_file_of_several_names_is_one_file_now_and_mounted_again() {
    let beside = Beside::over(&[&|dir| {
        put(dir, "a", "content");
        for name in ["b", "c"] {
            fs::hard_link(dir.join("a"), dir.join(name)).unwrap();
        }
    }]);
    // The first stat of all, by one name only.
    assert_eq!(fs::metadata(beside.mnt("c")).unwrap().nlink(), 3);
    let change = |dir: &Path, number: u8| {
        let append = File::options().append(true).open(dir.join("a")).unwrap();
        std::io::Write::write_all(&mut &append, &[b'0' + number]).unwrap();
        fs::set_permissions(dir.join("b"), fs::Permissions::from_mode(0o600 + u32::from(number))).unwrap();
        setxattr(dir.join("c"), "user.a", &[number], XattrFlags::empty()).unwrap();
        File::options().write(true).open(dir.join("c")).unwrap().set_len(5 + u64::from(number)).unwrap();
    };
    let seen = |dir: &Path| {
        ["a", "b", "c"].map(|name| {
            let (path, mut value) = (dir.join(name), [0; 8]);
            let length = rustix::fs::getxattr(&path, "user.a", &mut value[..]).unwrap();
            let meta = fs::metadata(&path).unwrap();
            (fs::read(&path).unwrap(), meta.mode(), meta.nlink(), meta.size(), value[..length].to_vec())
        })
    };
    let check = || {
        let three = beside.both(seen);
        assert!(three.iter().all(|one| *one == three[0]), "{three:?}");
    };
    beside.same(|dir| change(dir, 1));
    check();
    beside.mount_again();
    check();
    beside.same(|dir| change(dir, 2));
    check();
    // The rw layer by itself has one file of three names.
    let inos = ["a", "b", "c"].map(|name| fs::metadata(beside.mounts.at("upper").join(name)).unwrap().ino());
    assert!(inos.iter().all(|ino| *ino == inos[0]));
    beside.same(|dir| fs::remove_file(dir.join("a")).unwrap());
    beside.assert_same_trees();
}

#[test]
fn what_was_open_before_the_copy_sees_what_is_written_after_it() {
    let beside = Beside::over(&[&|dir| put(dir, "f", "low\n")]);
    let open = File::open(beside.mnt("f")).unwrap();
    let mapped = Mapping::new(&open, false);
    let first = |file: &File| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).unwrap();
        byte[0]
    };
    assert_eq!((first(&open), mapped.byte(1)), (b'l', b'o'));
    let writer = File::options().read(true).write(true).open(beside.mnt("f")).unwrap();
    writer.write_all_at(b"UP", 0).unwrap();
    assert_eq!((first(&open), mapped.byte(1)), (b'U', b'P'));
    writer.sync_all().unwrap();
    forget();
    assert_eq!((first(&open), mapped.byte(1)), (b'U', b'P'));
    // And the other way, by a mapping.
    let written = Mapping::new(&writer, true);
    written.set(0, b'M');
    assert_eq!((first(&open), mapped.byte(0)), (b'M', b'M'));
    written.sync();
    writer.write_all_at(b"W", 2).unwrap();
    assert_eq!((written.byte(2), mapped.byte(2)), (b'W', b'W'));
    drop((written, mapped, writer, open));
    beside.mount_again();
    assert_eq!(fs::read(beside.mnt("f")).unwrap(), b"MPW\n");
    assert_eq!(beside.mounts.read("lower0/f"), "low\n");
}

#[test]
fn a_lower_file_that_is_first_written_by_a_mapping_is_copied_up() {
    let beside = Beside::over(&[&|dir| put(dir, "f", "low\n")]);
    let file = File::options().read(true).write(true).open(beside.mnt("f")).unwrap();
    let mapped = Mapping::new(&file, true);
    mapped.set(0, b'M');
    drop((mapped, file));
    beside.mount_again();
    assert_eq!((beside.mounts.read("mnt/f"), beside.mounts.read("lower0/f")), ("Mow\n".into(), "low\n".into()));
}

#[test]
fn an_open_file_without_a_name_is_a_file() {
    let beside = Beside::over(&[&|dir| {
        put(dir, "lower", "from below");
        put(dir, "linked", "from below");
        fs::hard_link(dir.join("linked"), dir.join("linked2")).unwrap();
    }]);
    for name in ["lower", "upper", "linked"] {
        if name == "upper" {
            beside.same(|dir| put(dir, name, "from above"));
        }
        let lower = beside.mounts.at("lower0/lower");
        beside.same(|dir| {
            let path = dir.join(name);
            let file = File::options().read(true).write(true).open(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let left = file.metadata().unwrap().nlink();
            if name == "linked" {
                fs::remove_file(dir.join("linked2")).unwrap();
            }
            // Another one under the old name is another one.
            put(dir, name, "another");
            let mut seen = vec![(left, file.metadata().unwrap().nlink(), fs::read(&path).unwrap())];
            let mut look = |what: &str| {
                let mut content = vec![0; 40];
                let length = file.read_at(&mut content, 0).unwrap();
                content.truncate(length);
                seen.push((file.metadata().unwrap().nlink(), file.metadata().unwrap().size(), content));
                what.len()
            };
            look("unlinked");
            file.write_all_at(b"FROM", 0).unwrap();
            look("written");
            file.set_len(20).unwrap();
            look("longer");
            file.sync_all().unwrap();
            forget();
            look("forgotten");
            file.set_len(3).unwrap();
            look("shorter");
            file.set_permissions(fs::Permissions::from_mode(0o601)).unwrap();
            (seen, file.metadata().unwrap().mode())
        });
        assert_eq!(fs::read_to_string(&lower).unwrap(), "from below");
    }
    beside.assert_same_trees();
}

#[test]
fn a_lower_file_that_is_only_read_lives_without_a_name() {
    let beside = Beside::over(&[&|dir| put(dir, "d/f", "from below")]);
    let (.., made) = beside.both(|dir| {
        let (file, open_dir) = (File::open(dir.join("d/f")).unwrap(), File::open(dir.join("d")).unwrap());
        fs::remove_dir_all(dir.join("d")).unwrap();
        forget();
        let mut content = [0; 10];
        file.read_exact_at(&mut content, 0).unwrap();
        let made = raw(rustix::fs::mkdirat(&open_dir, "x", rustix::fs::Mode::RWXU).map_err(Into::into));
        (content, file.metadata().unwrap().nlink(), open_dir.metadata().unwrap().nlink(), made)
    });
    assert_eq!(made, Err(Errno::NOENT));
    beside.assert_same_trees();
}

#[test]
fn a_directory_of_nothing_but_whiteouts_is_removed() {
    let beside = Beside::over(&[&|dir| {
        put(dir, "d/a", "");
        put(dir, "d/s/b", "");
    }]);
    assert_eq!(beside.both(|dir| raw(fs::remove_dir(dir.join("d")))), Err(Errno::NOTEMPTY));
    beside.same(|dir| {
        for name in ["d/a", "d/s/b"] {
            fs::remove_file(dir.join(name)).unwrap();
        }
        fs::remove_dir(dir.join("d/s")).unwrap();
        fs::remove_dir(dir.join("d")).unwrap();
    });
    beside.assert_same_trees();
    beside.same(|dir| fs::create_dir(dir.join("d")).unwrap());
    beside.assert_same_trees();
    // A directory of whiteouts may also be replaced.
    beside.same(|dir| {
        fs::create_dir(dir.join("e")).unwrap();
        fs::rename(dir.join("e"), dir.join("d")).unwrap();
    });
    beside.assert_same_trees();
}

#[test]
fn what_was_deleted_and_made_again_is_the_new_one_under_every_ancestor() {
    let beside = Beside::over(&[&|dir| {
        for top in ["kept", "renamed", "opaque", "in/renamed"] {
            put(dir, &format!("{top}/s/file"), "old");
            put(dir, &format!("{top}/s/dir/inner"), "old");
            symlink("old", dir.join(top).join("s/link")).unwrap();
        }
    }]);
    beside.same(|dir| {
        fs::rename(dir.join("renamed"), dir.join("new-name")).unwrap();
        fs::rename(dir.join("in"), dir.join("out")).unwrap();
        fs::rename(dir.join("out/renamed"), dir.join("out/twice")).unwrap();
        fs::remove_dir_all(dir.join("opaque")).unwrap();
        fs::create_dir_all(dir.join("opaque/s")).unwrap();
    });
    for top in ["kept", "new-name", "opaque", "out/twice"] {
        for round in 0..2 {
            beside.same(|dir| {
                let at = |name: &str| -> PathBuf { dir.join(top).join("s").join(name) };
                let _ = fs::remove_file(at("file"));
                let _ = fs::remove_dir_all(at("file"));
                let _ = fs::remove_file(at("dir"));
                let _ = fs::remove_dir_all(at("dir"));
                let _ = fs::remove_file(at("link"));
                if round == 0 {
                    fs::create_dir(at("file")).unwrap();
                    symlink("new", at("dir")).unwrap();
                    fs::write(at("link"), "new").unwrap();
                } else {
                    symlink("newer", at("file")).unwrap();
                    fs::create_dir(at("dir")).unwrap();
                }
            });
            beside.assert_same_trees();
        }
    }
    beside.same(|dir| fs::rename(dir.join("kept"), dir.join("opaque/kept")).unwrap());
    beside.kill_and_mount_again();
    beside.same(tree);
}

#[test]
fn what_was_synced_is_there_when_the_server_is_killed_at_work() {
    let mounts = Mounts::new();
    mounts.import("plain", &plain());
    let container = mounts.mount(&["--name", "box", "plain"]);
    let server = mounts.servers()[0];
    let at = |path: &str| container.mountpoint.join(path);
    let synced = AtomicUsize::new(0);
    let written: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (at, synced) = (&at, &synced);
                scope.spawn(move || {
                    // Writes, new and renamed files, and a growing one, until the server is no more.
                    let step = |number: usize| -> std::io::Result<()> {
                        let temporary = at(&format!("t{thread}.new"));
                        fs::write(&temporary, format!("{thread}.{number}"))?;
                        File::open(&temporary)?.sync_all()?;
                        fs::rename(&temporary, at(&format!("t{thread}.{number}")))?;
                        File::open(at(""))?.sync_all()?;
                        let log = File::options().append(true).create(true).open(at(&format!("log{thread}")))?;
                        std::io::Write::write_all(&mut &log, format!("{number}\n").as_bytes())?;
                        log.sync_all()
                    };
                    let mut number = 0;
                    while step(number).is_ok() {
                        number += 1;
                        synced.fetch_add(1, Ordering::SeqCst);
                    }
                    number
                })
            })
            .collect();
        while synced.load(Ordering::SeqCst) < 40 {
            std::thread::yield_now();
        }
        assert_eq!(mounts.ps("box").0, "running");
        kill(server);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(mounts.ps("box").0, "dead");
    mounts.umount("box");
    mounts.mount(&["--name", "box"]);
    for (thread, count) in written.into_iter().enumerate() {
        let log = super::mounts::read(&at(&format!("log{thread}")));
        for number in 0..count {
            assert_eq!(super::mounts::read(&at(&format!("t{thread}.{number}"))), format!("{thread}.{number}"));
        }
        let wanted: String = (0..count).map(|number| format!("{number}\n")).collect();
        assert!(log.starts_with(&wanted), "{log}");
    }
    let now = tree(&at(""));
    mounts.umount("box");
    mounts.mount(&["--name", "box"]);
    assert_eq!(tree(&at("")), now);
    mounts.umount("box");
    mounts.assert_nothing_is_live();
}

#[test]
fn a_removed_directory_can_be_flushed() {
    let beside = Beside::over(&[]);
    beside.same(|dir| {
        fs::create_dir(dir.join("d")).unwrap();
        let open = File::open(dir.join("d")).unwrap();
        fs::remove_dir(dir.join("d")).unwrap();
        open.sync_all().map_err(|error| error.raw_os_error())
    });
}
