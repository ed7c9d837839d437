//! A character device 0:0 is a file like any other where users make it: only overlayfs takes it for a whiteout, and our own
//! layers have other ones.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::hostile_tar::Raw;
use super::mounts::{Mounts, said};

const MADE: [&str; 4] = ["alone", "dir/beside", "instead", "second-name"];

fn base() -> Vec<u8> {
    Raw::new().dir("dir").file("dir/kept", b"kept").file("instead", b"a file").device("of-the-tar", 0, 0).end()
}

/// Makes devices in a mount: where nothing was, in a directory of the layer, in place of a file; and one more name.
fn make(at: &Path) {
    fs::remove_file(at.join("instead")).unwrap();
    for name in &MADE[..3] {
        mknodat(CWD, at.join(name), FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
    fs::hard_link(at.join("alone"), at.join("second-name")).unwrap();
    std::os::unix::fs::chown(at.join("of-the-tar"), Some(7), None).unwrap();
}

#[track_caller]
fn is_zero(path: &Path) {
    let stat = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(stat.file_type().is_char_device() && stat.rdev() == 0, "{}: {stat:?}", path.display());
}

/// That a tar has the devices, each as one of 0:0 or as one more name of one.
#[track_caller]
fn has_all(tar: &[u8], what: &str) {
    let mut found = Vec::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        match entry.header().entry_type() {
            tar::EntryType::Char => {
                let device = (entry.header().device_major().unwrap(), entry.header().device_minor().unwrap());
                assert_eq!(device, (Some(0), Some(0)), "{what}: {path}");
                found.push(path);
            }
            tar::EntryType::Link => found.push(path),
            _ => {}
        }
    }
    found.sort();
    assert_eq!(found, ["alone", "dir/beside", "instead", "of-the-tar", "second-name"], "{what}");
}

/// What each command that reads a container has of them.
#[track_caller]
fn is_told(mounts: &Mounts, what: &str) {
    let diff = mounts.run(&["diff", "box"]).ok();
    for line in ["A /alone", "A /dir/beside", "C /instead", "C /of-the-tar", "A /second-name"] {
        assert!(diff.lines().any(|shown| shown == line), "{what}: {line} is not in {diff}");
    }
    mounts.run(&["export", "box", "-o", "exported.tar"]).ok();
    has_all(&fs::read(mounts.at("exported.tar")).unwrap(), what);
    mounts.run(&["diff", "--tar", "box", "-o", "changes.tar"]).ok();
    has_all(&fs::read(mounts.at("changes.tar")).unwrap(), what);
    for name in MADE {
        mounts.run(&["cp", &format!("box:/{name}"), "copy"]).ok();
        is_zero(&mounts.at("copy"));
        fs::remove_file(mounts.at("copy")).unwrap();
    }
    let image = format!("{}:1", what.replace(' ', "-"));
    mounts.run(&["commit", "box", &image]).ok();
    mounts.run(&["export", &image, "-o", "exported.tar"]).ok();
    has_all(&fs::read(mounts.at("exported.tar")).unwrap(), what);
    let again = mounts.mount(&[&image]);
    for name in MADE.iter().chain(&["of-the-tar"]) {
        is_zero(&again.mountpoint.join(name));
    }
    assert_eq!(fs::read(again.mountpoint.join("dir/kept")).unwrap(), b"kept");
    mounts.umount(&again.id);
}

#[test]
fn a_device_is_shown_and_told_by_every_command() {
    for io in ["cached", "passthrough"] {
        let mounts = Mounts::new();
        mounts.import("image", &base());
        let container = mounts.mount(&["--io", io, "--name", "box", "image"]);
        make(&container.mountpoint);
        let all_are_shown = |at: &Path| MADE.iter().chain(&["of-the-tar"]).for_each(|name| is_zero(&at.join(name)));
        all_are_shown(&container.mountpoint);
        is_told(&mounts, "while mounted");
        mounts.umount("box");
        is_told(&mounts, "after that");
        let container = mounts.mount(&["--name", "box"]);
        all_are_shown(&container.mountpoint);
        // It can be renamed and removed as a file can.
        fs::rename(container.mountpoint.join("alone"), container.mountpoint.join("dir/moved")).unwrap();
        is_zero(&container.mountpoint.join("dir/moved"));
        fs::remove_file(container.mountpoint.join("instead")).unwrap();
        let diff = mounts.run(&["diff", "box"]).ok();
        assert!(diff.contains("A /dir/moved\n") && diff.contains("D /instead\n") && !diff.contains("/alone"), "{diff}");
        mounts.umount("box");
        mounts.run(&["verify"]).ok();
    }
}

#[test]
fn a_device_is_copied_into_a_container() {
    let mounts = Mounts::new();
    mounts.import("image", &base());
    let tar = Raw::new().device("from-a-tar", 0, 0).end();
    fs::write(mounts.at("in.tar"), &tar).unwrap();
    mknodat(CWD, mounts.at("host"), FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
    for mounted in [true, false] {
        let container = mounts.mount(&["--name", "box", "image"]);
        if !mounted {
            mounts.umount("box");
        }
        mounts.run(&["cp", "host", "box:/"]).ok();
        let mut from = mounts.program(&["cp", "-", "box:/dir"]);
        said(from.stdin(fs::File::open(mounts.at("in.tar")).unwrap())).ok();
        if !mounted {
            mounts.mount(&["--name", "box"]);
        }
        is_zero(&container.mountpoint.join("host"));
        is_zero(&container.mountpoint.join("dir/from-a-tar"));
        mounts.umount("box");
        mounts.run(&["rm", "box"]).ok();
    }
}
