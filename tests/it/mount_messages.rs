//! How many messages it costs to ask once more.

use std::fs;
use std::path::Path;

use rustix::fs::lgetxattr;
use rustix::io::Errno;

use super::mount_container::with_plain;
use super::mounts::{listing, passes_through};
use super::processes::eventually;

/// What `find -ls` asks: all names, attributes and link targets. How many entries there are.
fn walk(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let counts = entries.map(|path| {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_symlink() {
            fs::read_link(&path).unwrap();
        }
        1 + if kind.is_dir() { walk(&path) } else { 0 }
    });
    counts.sum()
}

/// What `ls -lR` asks of all that it shows: attributes, link targets, access lists, and labels until it is told that there
/// are none here. How many entries there are.
fn long_listing(dir: &Path, has_labels: &mut bool) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let counts = entries.map(|path| {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let ask = |name: &str| lgetxattr(&path, name, &mut [0; 256]);
        *has_labels = *has_labels && ask("security.selinux") != Err(Errno::OPNOTSUPP);
        if kind.is_symlink() {
            fs::read_link(&path).unwrap();
        } else {
            assert_eq!(ask("system.posix_acl_access"), Err(Errno::NODATA));
        }
        1 + if kind.is_dir() { long_listing(&path, has_labels) } else { 0 }
    });
    counts.sum()
}

#[test]
fn a_second_long_listing_costs_no_message_for_each_file() {
    let mounts = with_plain();
    let container = mounts.mount(&["--name", "box", "plain"]);
    for number in 0..100 {
        fs::write(container.mountpoint.join(number.to_string()), "").unwrap();
    }
    let messages = || -> u64 {
        let all = mounts.inspect("box")["Messages"].clone();
        all.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
    };
    let list = || assert_eq!(long_listing(&container.mountpoint, &mut true), 105);
    list();
    // Some are for the top directory. A kernel that is short of memory forgets what it knows, and asks again.
    assert!(eventually(|| {
        let before = messages();
        list();
        messages() < before + 10
    }));
}

#[test]
fn reading_all_again_in_a_read_only_mount_costs_no_message() {
    let mounts = with_plain();
    let container = mounts.mount(&["--name", "box", "--read-only", "plain"]);
    let messages = || mounts.inspect("box")["Messages"].clone();
    let read = || assert_eq!(listing(&container.mountpoint).len(), 5);
    let first = messages();
    read();
    assert_ne!(messages(), first);
    // A kernel that is short of memory forgets what it knows, and asks again.
    assert!(eventually(|| {
        let before = messages();
        read();
        let mut after = messages();
        if passes_through() {
            for kind in ["OPEN", "RELEASE"] {
                after[kind] = before[kind].clone();
            }
        }
        after == before
    }));
}

#[test]
fn a_second_walk_costs_no_message() {
    let mounts = with_plain();
    let container = mounts.mount(&["--name", "box", "plain"]);
    let at = |path: &str| container.mountpoint.join(path);
    fs::create_dir(at("new")).unwrap();
    for number in 0..100 {
        fs::write(at(&format!("new/{number}")), number.to_string()).unwrap();
    }
    mounts.umount("box");
    mounts.mount(&["--name", "box"]);
    let messages = || mounts.inspect("box")["Messages"].clone();
    let first = messages();
    assert_eq!(walk(&container.mountpoint), 106);
    assert_ne!(messages(), first);
    // A kernel that is short of memory forgets what it knows, and asks again.
    let is_free = |walk: &dyn Fn() -> usize| {
        let before = messages();
        assert_eq!(walk(), 106);
        messages() == before
    };
    assert!(eventually(|| is_free(&|| walk(&container.mountpoint))));
    // Nor are files read again. (When one is closed, the kernel asks how many blocks it has by now.)
    let all = || {
        let mut messages = messages();
        let asked = if passes_through() { &["GETATTR", "OPEN", "RELEASE"][..] } else { &["GETATTR"] };
        asked.iter().for_each(|name| drop(messages.as_object_mut().unwrap().remove(*name)));
        messages
    };
    assert!(eventually(|| {
        let before = all();
        assert_eq!(listing(&container.mountpoint).len(), 106);
        all() == before
    }));
}
