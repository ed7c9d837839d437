//! Renames through real mounts, each as in a plain directory beside it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::beside::{Beside, forget, tree};
use super::mount_semantics::put;
use super::processes::kill;

#[test]
fn every_rename_does_what_it_does_in_a_plain_directory() {
    let beside = Beside::over(&[
        &|dir| {
            put(dir, "merged/top", "t");
            put(dir, "merged/sub/top", "t");
            fs::create_dir(dir.join("empty-top")).unwrap();
        },
        &|dir| {
            put(dir, "merged/low", "l");
            put(dir, "merged/sub/low", "l");
            put(dir, "low/sub/f", "l");
            put(dir, "other/f", "o");
            put(dir, "file", "f");
            put(dir, "file2", "g");
            fs::create_dir(dir.join("empty-low")).unwrap();
        },
    ]);
    fs::create_dir(beside.mnt("empty-new")).unwrap();
    fs::create_dir(beside.mounts.at("plain/empty-new")).unwrap();
    let names = ["merged", "low", "file", "file2", "empty-low", "empty-top", "empty-new", "missing", "low/sub"];
    let flags = [RenameFlags::NOREPLACE, RenameFlags::EXCHANGE, RenameFlags::empty()];
    // Every pair, with every flag: what one does is what the next one finds.
    for (number, from) in names.iter().enumerate() {
        for to in names.iter().skip(number % 2).chain(["merged/into", "other/into", "low/sub/into"].iter()) {
            for flag in flags {
                let result = beside.both(|dir| renameat_with(CWD, dir.join(from), CWD, dir.join(to), flag));
                assert_ne!(result, Err(Errno::XDEV));
            }
        }
        beside.same(tree);
    }
    beside.assert_same_trees();
    beside.kill_and_mount_again();
    beside.same(tree);
}

#[test]
fn a_renamed_lower_directory_stays_so_when_the_server_is_killed() {
    let beside = Beside::over(&[&|dir| put(dir, "d/merged/top", "t"), &|dir| {
        put(dir, "d/merged/low", "l");
        put(dir, "d/only-low/f", "f");
        put(dir, "e/f", "e");
    }]);
    let renames = [("d/merged", "m"), ("d/only-low", "m/o"), ("d", "e/d"), ("m/o", "o")];
    for (from, to) in renames {
        beside.same(|dir| fs::rename(dir.join(from), dir.join(to)).unwrap());
        beside.kill_and_mount_again();
        beside.same(tree);
    }
    beside.same(|dir| renameat_with(CWD, dir.join("m"), CWD, dir.join("e"), RenameFlags::EXCHANGE).unwrap());
    beside.kill_and_mount_again();
    beside.same(tree);
}

#[test]
fn a_name_is_never_missing_while_others_are_renamed_over_it() {
    const COUNT: usize = 150;
    let beside = Beside::over(&[&|dir| {
        put(dir, "name", "first");
        put(dir, "dirs/a/in-a", "");
        put(dir, "dirs/b/in-b", "");
        (0..COUNT).for_each(|number| put(dir, &format!("n{number}"), &format!("{number}")));
    }]);
    let (done, looks, missing) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (name, dirs) = (beside.mnt("name"), [beside.mnt("dirs/a"), beside.mnt("dirs/b")]);
    std::thread::scope(|scope| {
        for forgetful in [false, true] {
            let (done, looks, missing, name, dirs) = (&done, &looks, &missing, &name, &dirs);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let found = fs::read_to_string(name).is_ok_and(|content| !content.is_empty());
                    let both = dirs.iter().all(|dir| fs::read_dir(dir).is_ok_and(|entries| entries.count() == 1));
                    missing.fetch_add(usize::from(!found || !both), Ordering::SeqCst);
                    if forgetful && looks.fetch_add(1, Ordering::SeqCst).is_multiple_of(50) {
                        forget();
                    }
                }
            });
        }
        while looks.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        for number in 0..COUNT {
            fs::rename(beside.mnt(&format!("n{number}")), &name).unwrap();
            renameat_with(CWD, &dirs[0], CWD, &dirs[1], RenameFlags::EXCHANGE).unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_ne!(looks.load(Ordering::SeqCst), 0);
    assert_eq!(missing.load(Ordering::SeqCst), 0);
}

#[test]
fn a_rename_is_done_or_not_when_the_server_is_killed_under_it() {
    const COUNT: usize = 3000;
    let beside = Beside::over(&[&|dir| {
        put(dir, "name", "first");
        (0..COUNT).for_each(|number| put(dir, &format!("d/n{number}"), &format!("{number}")));
    }]);
    let mut next = 0;
    for end in [COUNT / 3, COUNT / 3 * 2, COUNT] {
        let server = beside.mounts.servers()[0];
        let (renamed, is_being_killed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let last = std::thread::scope(|scope| {
            let rename = scope.spawn(|| {
                let mut last = None;
                for number in next..end {
                    // The last one is done or not, however late the end comes.
                    while number == end - 1 && !is_being_killed.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    if fs::rename(beside.mnt(&format!("d/n{number}")), beside.mnt("name")).is_err() {
                        break;
                    }
                    last = Some(number);
                    renamed.fetch_add(1, Ordering::SeqCst);
                }
                last
            });
            while renamed.load(Ordering::SeqCst) < 40 && !rename.is_finished() {
                std::thread::yield_now();
            }
            is_being_killed.store(true, Ordering::SeqCst);
            kill(server);
            rename.join().unwrap().unwrap()
        });
        beside.mount_again();
        let at: usize = beside.mounts.read("mnt/name").parse().unwrap();
        assert!(at == last || at == last + 1, "{at} after {last}");
        let there: BTreeSet<String> = super::mounts::names(&beside.mnt("d")).into_iter().collect();
        let wanted: BTreeSet<String> = (at + 1..COUNT).map(|number| format!("n{number}")).collect();
        assert_eq!(there, wanted);
        next = at + 1;
    }
}
