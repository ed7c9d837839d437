//! `PROGRAM -o OPTIONS MOUNTPOINT`, as podman has a union mounted: without a subcommand and without a store.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::mounts::{Mounts, PROGRAM, Said, mount_line, names, said};
use super::processes::{eventually, is_alive};

fn directories() -> Mounts {
    let mounts = Mounts::new();
    for dir in ["up", "work", "mnt"] {
        mounts.mkdir(dir);
    }
    for layer in ["near", "far"] {
        mounts.write(&format!("{layer}/{layer}"), layer);
        mounts.write(&format!("{layer}/both"), layer);
    }
    symlink(PROGRAM, mounts.at("layerctl-union")).unwrap();
    mounts
}

/// With nothing in its environment but where a store would be, as podman's service may have it.
fn bare(mounts: &Mounts, program: &str, args: &[&str]) -> Said {
    let mut command = Command::new(program);
    command.current_dir(mounts.at("")).env_clear().env("LAYERCTL_ROOT", mounts.at("store")).args(args);
    said(&mut command)
}

const OPTIONS: &str = "nodev,metacopy=on,index=off,lowerdir=near:far,upperdir=up,workdir=work,,volatile";

#[test]
fn podmans_call_mounts_without_a_store() {
    let mounts = directories();
    let link = mounts.text("layerctl-union");
    let attached = format!("-o{OPTIONS}");
    let calls: [(&str, &[&str]); 5] = [
        (PROGRAM, &["-o", OPTIONS, "mnt"]),
        (PROGRAM, &[&attached, "mnt"]),
        (&link, &["-o", OPTIONS, "mnt"]),
        (&link, &["mnt", "-o", OPTIONS]),
        (&link, &["-o", "nodev", "-o", OPTIONS, "--", "mnt"]),
    ];
    for (number, (program, args)) in calls.into_iter().enumerate() {
        assert_eq!(bare(&mounts, program, args).ok(), "", "{args:?}");
        let line = mount_line(&mounts.at("mnt")).unwrap();
        assert_eq!(line.fs_type, "fuse.layerctl");
        assert!(line.options.iter().any(|option| option == "nodev"), "{line:?}");
        assert_eq!(mounts.read("mnt/both"), "near");
        mounts.write(&format!("mnt/new{number}"), "new");
        let servers = mounts.processes();
        assert_eq!(servers.len(), 1, "{servers:?}");
        mounts.umount8("mnt");
        assert!(eventually(|| !is_alive(servers[0])));
        assert_eq!(mounts.read(&format!("up/new{number}")), "new");
    }
    assert!(!mounts.at("store").exists(), "a store was made");
    // Nothing of the union's own is left in what podman takes for a layer.
    assert_eq!(names(&mounts.at("up")), ["new0", "new1", "new2", "new3", "new4"]);
}

#[test]
fn its_own_umount_knows_such_a_mount_too() {
    let mounts = directories();
    bare(&mounts, PROGRAM, &["-o", OPTIONS, "mnt"]).ok();
    mounts.umount("mnt");
    assert!(eventually(|| mounts.processes().is_empty()));
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_mountpoint_may_have_something_in_it_and_may_not_be_taken() {
    let mounts = directories();
    mounts.write("mnt/hidden", "");
    bare(&mounts, PROGRAM, &["-o", OPTIONS, "mnt"]).ok();
    assert!(!mounts.at("mnt/hidden").exists());
    bare(&mounts, PROGRAM, &["-o", "lowerdir=near", "mnt"]).fails(125, &["mnt", "in use"]);
    // Not even from elsewhere does a second union write to the same directory.
    mounts.mkdir("other");
    bare(&mounts, PROGRAM, &["-o", OPTIONS, "other"]).fails(125, &["up", "in use"]);
    mounts.umount8("mnt");
}

#[test]
fn what_is_wrong_is_one_sentence_and_the_version_is_told() {
    let mounts = directories();
    let link = mounts.text("layerctl-union");
    bare(&mounts, &link, &["-o", "lowerdir=missing", "mnt"]).fails(1, &["missing"]);
    bare(&mounts, &link, &["-o", "lowerdir=near,verity=require", "mnt"]).fails(2, &["verity=require"]);
    bare(&mounts, PROGRAM, &["-o", "lowerdir=near", "nowhere"]).fails(1, &["nowhere"]);
    for args in [&["-o", OPTIONS][..], &["mnt"], &["-o", OPTIONS, "mnt", "more"]] {
        let said = bare(&mounts, &link, args);
        assert!(said.code == 2 && !said.err.is_empty(), "{said:?}");
    }
    let version = bare(&mounts, &link, &["--version"]).ok();
    assert_eq!(version, format!("layerctl-union {}\n", env!("CARGO_PKG_VERSION")));
    assert!(bare(&mounts, &link, &["--help"]).ok().contains("OPTIONS"));
    assert!(!mounts.at("store").exists());
    assert_eq!(fs::read_dir(mounts.at("mnt")).unwrap().count(), 0);
}
