//! Several that mount and unmount at once, or at one place.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::mount_container::{containers, with_plain};
use super::mounts::{names, when_free};
use super::processes::{eventually, is_alive};

#[test]
fn a_container_mounted_again_right_after_umount_of_the_kernel() {
    let mounts = with_plain();
    mounts.mkdir("mnt");
    for round in 0..10 {
        let container = mounts.mount(&["--name", "box", "plain", "mnt"]);
        assert_eq!(names(&container.mountpoint).len(), 3 + round);
        fs::write(container.mountpoint.join(format!("new{round}")), "").unwrap();
        mounts.umount8("mnt");
    }
    assert!(eventually(|| mounts.processes().is_empty()));
    assert_eq!(mounts.ps("box").0, "exited");
    mounts.assert_nothing_is_live();
}

#[test]
fn many_containers_are_mounted_at_once() {
    let mounts = with_plain();
    let mut children: Vec<_> = (0..6)
        .map(|_| mounts.program(&["run-mount", "plain"]).stdout(std::process::Stdio::null()).spawn().unwrap())
        .collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    let rows: Value = serde_json::from_str(&mounts.run(&["--format", "json", "ps"]).ok()).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!((rows.len(), mounts.mounted().len(), mounts.servers().len()), (6, 6, 6));
    for row in rows {
        assert_eq!(row["State"], "running");
        assert_eq!(names(Path::new(row["Mountpoint"].as_str().unwrap())).len(), 3);
    }
    let ids: Vec<&str> = rows.iter().map(|row| row["Id"].as_str().unwrap()).collect();
    ids.iter().for_each(|id| mounts.umount(id));
    mounts.assert_nothing_is_live();
    mounts.run(&[["rm"].as_slice(), &ids].concat()).ok();
    assert_eq!(containers(&mounts), 0);
}

#[test]
fn two_that_unmount_at_once_both_succeed() {
    let mounts = with_plain();
    for _ in 0..5 {
        let container = mounts.mount(&["--name", "box", "plain"]);
        fs::write(container.mountpoint.join("new"), "new").unwrap();
        let umount = || when_free(|| mounts.run(&["umount", "box"]));
        let (one, two) = std::thread::scope(|scope| {
            let other = scope.spawn(umount);
            (umount(), other.join().unwrap())
        });
        // The later one may have come when all was over.
        assert!(one.code == 0 || two.code == 0, "{one:?} {two:?}");
        for said in [one, two] {
            if said.code == 0 { assert_eq!(said.ok(), "") } else { said.fails(1, &["box"]) }
        }
        mounts.assert_nothing_is_live();
    }
}

#[test]
fn a_container_is_not_taken_for_another_at_the_same_place() {
    let mounts = with_plain();
    let mnt = mounts.mkdir("mnt");
    mounts.mount(&["--name", "first", "plain", "mnt"]);
    // Unmounted, but still in use.
    let open = fs::File::open(mnt.join("file")).unwrap();
    mounts.run(&["umount", "--lazy", "first"]).ok();
    let first = mounts.servers();
    mounts.mount(&["--name", "second", "plain", "mnt"]);
    fs::write(mnt.join("new"), "second").unwrap();
    assert_eq!(mounts.inspect("mnt")["Branches"], mounts.inspect("second")["Branches"]);
    let removal = std::thread::scope(|scope| {
        let removal = scope.spawn(|| mounts.run(&["rm", "first"]));
        drop(open);
        removal.join().unwrap()
    });
    assert_eq!(removal.ok(), "first\n");
    assert!(eventually(|| !is_alive(first[0])));
    assert_eq!(mounts.mounted(), std::slice::from_ref(&mnt));
    assert_eq!(mounts.read("mnt/new"), "second");
    mounts.umount("second");
    mounts.assert_nothing_is_live();
}

#[test]
fn one_container_is_mounted_once_however_many_try() {
    let mounts = with_plain();
    mounts.mount(&["--name", "box", "plain"]);
    mounts.umount("box");
    let mut children: Vec<_> = (0..4)
        .map(|number| {
            let mountpoint = mounts.mkdir(&format!("mnt{number}"));
            let mut command = mounts.program(&["run-mount", "--name", "box", mountpoint.to_str().unwrap()]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    let codes: Vec<_> = children.iter_mut().map(|child| child.wait().unwrap().code().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 125).count(), 3, "{codes:?}");
    assert_eq!((mounts.mounted().len(), mounts.servers().len()), (1, 1));
    assert_eq!(mounts.ps("box").0, "running");
}

#[test]
fn a_process_that_looks_in_for_a_moment_keeps_no_mount() {
    let mounts = with_plain();
    let container = mounts.mount(&["--name", "box", "plain"]);
    let open = fs::File::open(container.mountpoint.join("file")).unwrap();
    std::thread::scope(|scope| {
        let unmounted = scope.spawn(|| mounts.run(&["umount", "box"]));
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(open);
        unmounted.join().unwrap().ok();
    });
    mounts.assert_nothing_is_live();
}
