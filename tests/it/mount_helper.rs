//! A union as mount(8) mounts it, through its helper.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::mount_union::{PRACTICE, practice, server};
use super::mounts::{Mounts, PROGRAM, Said, mount_line, names, said, when_free};
use super::processes::eventually;

/// `SOURCE MOUNTPOINT` and more, as mount(8) calls its helper.
fn helper(mounts: &Mounts, args: &[&str]) -> Said {
    let link = mounts.at("mount.fuse.layerctl");
    if fs::symlink_metadata(&link).is_err() {
        symlink(PROGRAM, &link).unwrap();
    }
    said(mounts.command(link).args(args))
}

/// With a store, in which a mount is registered.
fn with_store() -> Mounts {
    let mounts = practice();
    mounts.run(&["images"]).ok();
    mounts
}

fn flags(path: &Path) -> Vec<String> {
    mount_line(path).unwrap().options
}

#[test]
fn a_helper_of_mount_returns_when_the_mount_is_live_and_prints_nothing() {
    let mounts = practice();
    let calls: [&[&str]; 5] = [
        &["none", "mnt", "-o", PRACTICE],
        &["none", "mnt", "-n", "-s", "-v", "-o", PRACTICE, "-t", "fuse.layerctl"],
        &[PRACTICE, "mnt", "-o", "rw"],
        &["none", "mnt", "-o", "rw,nosuid", "-o", PRACTICE],
        &["none", "mnt", &format!("-o{PRACTICE}"), "-N", "1"],
    ];
    for args in calls {
        assert_eq!(helper(&mounts, args).ok(), "", "{args:?}");
        assert_eq!(mounts.read("mnt/image-layer2.txt"), "I am image-layer2\n", "{args:?}");
        assert_eq!(mount_line(&mounts.at("mnt")).unwrap().fs_type, "fuse.layerctl");
        mounts.umount8("mnt");
    }
    // -f only looks whether it could.
    assert_eq!(helper(&mounts, &["none", "mnt", "-f", "-o", PRACTICE]).ok(), "");
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
    helper(&mounts, &["none"]).fails(2, &["mountpoint"]);
    helper(&mounts, &["none", "mnt", "-x", "-o", PRACTICE]).fails(2, &["-x"]);
    helper(&mounts, &["none", "mnt", "-o"]).fails(2, &["-o"]);
    helper(&mounts, &["none", "mnt", "-o", "dirs=missing:image-layer1"]).fails(1, &["missing"]);
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
}

/// When a machine starts there may be no place for a store, and nothing in the environment.
#[test]
fn a_helper_needs_no_store_and_no_environment() {
    let mounts = practice();
    symlink(PROGRAM, mounts.at("mount.fuse.layerctl")).unwrap();
    let here = mounts.at("");
    let dirs = ["image-layer3", "image-layer2", "image-layer1"].map(|name| here.join(name).display().to_string());
    let options = format!("lowerdir={}", dirs.join(":"));
    mounts.write("damaged/meta.json", "{");
    // Another test may have another umask.
    std::fs::set_permissions(mounts.at("damaged"), std::fs::Permissions::from_mode(0o755)).unwrap();
    mounts.write("file", "");
    for (root, warned) in [("none/store", false), ("file/store", false), ("damaged", true)] {
        let mut command = mounts.command(mounts.at("mount.fuse.layerctl"));
        command.env_clear().env("LAYERCTL_ROOT", mounts.at(root));
        let said = said(command.args(["none", "mnt", "-o", &options]));
        assert_eq!((said.code, said.out.as_str(), said.err.contains("warning")), (0, "", warned), "{root}: {said:?}");
        assert!(!warned || said.err.contains("damaged/meta.json"), "{said:?}");
        assert_eq!(mounts.read("mnt/image-layer2.txt"), "I am image-layer2\n", "{root}");
        mounts.umount8("mnt");
        assert!(!mounts.at("none").exists() && mounts.read("file").is_empty(), "nothing is made");
        assert_eq!(names(&mounts.at("damaged")), ["meta.json"]);
    }
    // Where there is one, the mount is known there.
    helper(&mounts, &["none", "mnt", "-o", &options]).ok();
    assert!(mounts.run(&["inspect", "mnt"]).code != 0, "no store, none was made");
    mounts.umount8("mnt");
    mounts.run(&["images"]).ok();
    helper(&mounts, &["none", "mnt", "-o", &options]).ok();
    assert_eq!(mounts.inspect("mnt")["Mountpoint"], mounts.text("mnt"));
    mounts.umount8("mnt");
}

#[test]
fn who_says_mount_may_mount_over_anything() {
    let mounts = practice();
    mounts.write("mnt/hidden", "hidden\n");
    mounts.run(&["union", "-o", PRACTICE, "mnt"]).fails(2, &["mnt", "not empty"]);
    assert_eq!(helper(&mounts, &["none", "mnt", "-o", PRACTICE]).ok(), "");
    assert!(!mounts.at("mnt/hidden").exists());
    mounts.umount8("mnt");
    assert_eq!(mounts.read("mnt/hidden"), "hidden\n");
}

#[test]
fn the_flags_of_a_mount_are_those_that_were_asked_for() {
    let mounts = practice();
    let mnt = mounts.at("mnt");
    let source = || mount_line(&mnt).unwrap().source;
    helper(&mounts, &["none", "mnt", "-o", &format!("fsname=my-union,nosuid,nodev,noatime,noexec,ro,{PRACTICE}")]).ok();
    assert_eq!(source(), "my-union");
    for flag in ["ro", "nosuid", "nodev", "noatime", "noexec"] {
        assert!(flags(&mnt).iter().any(|is| is == flag), "{flag}: {:?}", flags(&mnt));
    }
    let error = fs::write(mounts.at("mnt/new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    mounts.umount8("mnt");

    helper(&mounts, &["some-source", "mnt", "-o", PRACTICE]).ok();
    assert_eq!(source(), "some-source");
    for flag in ["ro", "nosuid", "nodev", "noatime", "noexec"] {
        assert!(!flags(&mnt).iter().any(|is| is == flag), "{flag}: {:?}", flags(&mnt));
    }
    mounts.umount8("mnt");

    mounts.run(&["union", "-o", PRACTICE, "-o", "nodev", "mnt"]).ok();
    assert_eq!(source(), "layerctl");
    assert!(flags(&mnt).iter().any(|is| is == "nodev"));
    mounts.umount8("mnt");
}

#[test]
fn a_remount_changes_flags_and_nothing_else() {
    let mounts = with_store();
    helper(&mounts, &["none", "mnt", "-o", PRACTICE]).ok();
    let server = server(&mounts);
    mounts.write("mnt/one", "");
    let error = || fs::write(mounts.at("mnt/two"), "").map_err(|error| error.kind());
    assert_eq!(when_free(|| helper(&mounts, &["none", "mnt", "-o", "remount,ro"])).ok(), "");
    assert_eq!(error(), Err(std::io::ErrorKind::ReadOnlyFilesystem));
    assert_eq!(mounts.read("mnt/one"), "");
    assert_eq!(helper(&mounts, &["none", "mnt", "-o", "remount,rw"]).ok(), "");
    assert_eq!(error(), Ok(()));
    when_free(|| mounts.run(&["union", "-o", "remount,ro", "mnt"])).ok();
    assert_eq!(error(), Err(std::io::ErrorKind::ReadOnlyFilesystem));
    assert_eq!(mounts.servers(), [server]);
    assert_eq!(mounts.mounted(), [mounts.at("mnt")]);
    mounts.umount8("mnt");
    helper(&mounts, &["none", "mnt", "-o", "remount,rw"]).fails(1, &["mnt"]);
}

/// With the helper where mount(8) looks for it, in a mount namespace where nobody else sees that.
#[test]
fn mount_and_umount_work_with_the_helper_installed() {
    let mounts = with_store();
    mounts.mkdir("helpers");
    symlink(PROGRAM, mounts.at("helpers/mount.fuse.layerctl")).unwrap();
    let script = r#"
        set -e
        trap 'umount -l mnt 2>/dev/null || true' EXIT
        mount --bind helpers /sbin
        mount -t fuse.layerctl none mnt -o "fsname=u,nosuid,$PRACTICE"
        grep -c " - fuse.layerctl u rw" /proc/self/mountinfo
        cat mnt/image-layer3.txt
        mount -o remount,ro mnt
        if true 2>/dev/null > mnt/new; then echo written; fi
        mount -o remount,rw mnt
        : > mnt/new
        findmnt -n -o FSTYPE,SOURCE mnt
        umount mnt
        mount -t fuse.layerctl "$PRACTICE" mnt
        ls mnt
        umount mnt
    "#;
    let mut command = mounts.command("unshare");
    let said = said(command.env("PRACTICE", PRACTICE).args(["-m", "sh", "-c", script]));
    let wanted = "1\nI am image-layer3\nfuse.layerctl u\n\
                  container-layer.txt\nimage-layer1.txt\nimage-layer2.txt\nimage-layer3.txt\nimage-layer4.txt\nnew\n";
    assert_eq!(said.ok(), wanted);
    assert!(eventually(|| mounts.processes().is_empty()));
    mounts.assert_nothing_is_live();
}

#[test]
fn a_mount_right_after_umount_finds_the_same_directories() {
    let mounts = with_store();
    for round in 0..20 {
        assert_eq!(helper(&mounts, &["none", "mnt", "-o", PRACTICE]).ok(), "", "{round}");
        assert_eq!(names(&mounts.at("mnt")).len(), 5 + round);
        mounts.write(&format!("mnt/new{round}"), &round.to_string());
        mounts.umount8("mnt");
    }
    assert!(eventually(|| mounts.processes().is_empty()));
    for round in 0..20 {
        assert_eq!(mounts.read(&format!("container-layer/new{round}")), round.to_string());
    }
    mounts.assert_nothing_is_live();
}
