//! `union -o io=kernel`: plain directories under the kernel's overlayfs, over a read-only union of ours.

use std::fs::{self, File};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::mounts::{Mounts, mount_line, names, read};
use super::processes::eventually;

fn with_layers() -> Mounts {
    let mounts = Mounts::new();
    for (file, content) in [
        ("near/dir/one", "near"),
        ("far/dir/one", "far"),
        ("far/dir/two", "far"),
        ("far/gone", "gone"),
        ("near/.wh.gone", ""),
    ] {
        mounts.write(file, content);
    }
    for dir in ["upper", "work", "mnt"] {
        mounts.mkdir(dir);
    }
    mounts
}

const OPTIONS: &str = "lowerdir=near:far,upperdir=upper,workdir=work,io=kernel";

#[track_caller]
fn assert_nothing_stays(mounts: &Mounts) {
    assert!(eventually(|| mounts.processes().is_empty()), "{:?}", mounts.processes());
    assert_eq!((mounts.mounted(), names(&mounts.at("store/run"))), (Vec::new(), Vec::<String>::new()));
}

#[test]
fn the_kernel_writes_to_the_upper_of_a_union() {
    let mounts = with_layers();
    let at = mounts.at("mnt");
    mounts.run(&["union", "-o", OPTIONS, "mnt"]).ok();
    assert_eq!(mount_line(&at).unwrap().fs_type, "overlay");
    assert_eq!(mounts.mounted(), std::slice::from_ref(&at), "the union below is nowhere to be seen");
    assert_eq!(
        (names(&at), names(&at.join("dir"))),
        (vec!["dir".to_owned()], vec!["one".to_owned(), "two".to_owned()])
    );
    fs::write(at.join("dir/one"), "written").unwrap();
    fs::remove_file(at.join("dir/two")).unwrap();
    fs::write(at.join(".wh.name"), "a file like any other").unwrap();
    let again = mounts.run(&["union", "-o", OPTIONS, "mnt2"]);
    assert_ne!(again.code, 0);
    let file = File::options().append(true).open(at.join("dir/one")).unwrap();
    mounts.run(&["umount", "mnt"]).fails(125, &["mnt", "to write"]);
    drop(file);
    let file = File::open(at.join("dir/one")).unwrap();
    mounts.run(&["umount", "mnt"]).fails(125, &["mnt", "in use"]);
    fs::write(at.join("still"), "writable").unwrap();
    drop(file);
    mounts.umount("mnt");
    assert_eq!(read(&mounts.at("upper/dir/one")), "written");
    assert_nothing_stays(&mounts);
    fs::remove_file(mounts.at("upper/.wh.name")).unwrap();
    mounts.run(&["union", "-o", &format!("{OPTIONS},ro,nosuid"), "mnt"]).ok();
    assert_eq!(read(&at.join("dir/one")), "written");
    assert!(!at.join("dir/two").exists());
    let options = mount_line(&at).unwrap().options;
    assert!(["ro", "nosuid"].iter().all(|option| options.iter().any(|has| has == option)), "{options:?}");
    mounts.umount8(&at);
    assert_nothing_stays(&mounts);
}

#[test]
fn what_overlayfs_would_misread_is_refused_with_the_way_out() {
    let mounts = with_layers();
    let refused = |options: &str, code: i32, words: &[&str]| {
        mounts.run(&["union", "-o", options, "mnt"]).fails(code, words);
        assert_nothing_stays(&mounts);
    };
    refused("lowerdir=near,upperdir=upper,io=kernel", 2, &["workdir", "io=cached"]);
    refused("lowerdir=near,io=kernel", 2, &["upperdir", "io=cached"]);
    refused(&format!("{OPTIONS},squash_to_root"), 2, &["squash_to_", "io=cached"]);
    refused("lowerdir=near,upperdir=upper,workdir=upper,io=kernel", 2, &["upperdir", "workdir"]);
    mounts.write("upper/deep/.wh.name", "");
    refused(OPTIONS, 125, &["upper/deep/.wh.name", "io=cached"]);
    fs::remove_dir_all(mounts.at("upper/deep")).unwrap();
    mknodat(CWD, mounts.at("near/zero"), FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
    // In a plain layer that is a whiteout, and no device.
    mounts.run(&["union", "-o", OPTIONS, "mnt"]).ok();
    mounts.umount("mnt");
    fs::remove_dir_all(mounts.at("upper")).unwrap();
    mounts.mkdir("upper");
    mounts.run(&["union", "-o", "lowerdir=near:far,upperdir=upper", "mnt"]).ok();
    fs::write(mounts.at("mnt/new"), "").unwrap();
    mounts.umount("mnt");
    refused(OPTIONS, 125, &["upper", "AUFS", "io=cached"]);
    assert_nothing_stays(&mounts);
}
