//! The mount options that overlayfs, fuse-overlayfs and podman have: each means what it means there, changes nothing, or is refused.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, chown};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

use super::mounts::{Mounts, names, said};

/// A file `low/file` of 7:8, an upper, and `mnt`.
fn directories() -> Mounts {
    let mounts = Mounts::new();
    for dir in ["up", "work", "mnt"] {
        mounts.mkdir(dir);
    }
    mounts.write("low/file", "low\n");
    chown(mounts.at("low/file"), Some(7), Some(8)).unwrap();
    mounts
}

const DIRS: &str = "lowerdir=low,upperdir=up,workdir=work";

#[track_caller]
fn mount(mounts: &Mounts, options: &str) {
    assert_eq!(mounts.run(&["union", "-o", &format!("{options},{DIRS}"), "mnt"]).ok(), "", "{options}");
}

#[test]
fn what_tunes_another_union_is_accepted_and_changes_nothing() {
    let mounts = directories();
    let all = "index=off,index=on,nfs_export=off,redirect_dir=on,redirect_dir=nofollow,metacopy=on,xino=auto,uuid=null,verity=off,\
               userxattr,threaded=1,timeout=1.5,fast_ino=1,writeback=0,noxattrs=0,xattr_permissions=0,static_nlink,fsync=1,,nodev";
    mount(&mounts, all);
    assert_eq!(mounts.read("mnt/file"), "low\n");
    mounts.write("mnt/new", "new\n");
    assert_eq!(mounts.inspect("mnt")["Volatile"], false);
    mounts.umount("mnt");
    assert_eq!(mounts.read("up/new"), "new\n");
}

#[test]
fn what_would_be_unsafe_to_ignore_is_refused_in_one_sentence() {
    let mounts = directories();
    let union = |option: &str| mounts.run(&["union", "-o", &format!("{DIRS},{option}"), "mnt"]);
    for option in [
        "verity=require",
        "verity=on",
        "noxattrs=1",
        "xattr_permissions=2",
        "plugins=x",
        "allow_root",
        "datadir+=low",
        "override_creds=off",
    ] {
        union(option).fails(2, &[option, "refused"]);
    }
    for option in
        ["index=maybe", "uuid=", "timeout=soon", "uidmapping=0:1", "gidmapping=0:0:0", "squash_to_uid=root", "fsync=2"]
    {
        union(option).fails(2, &[option]);
    }
    mounts.run(&["union", "-o", "lowerdir=low::up", "mnt"]).fails(2, &["lowerdir", "data-only"]);
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn each_lowerdir_plus_is_one_more_layer_whose_name_is_taken_as_it_is() {
    let mounts = directories();
    mounts.write("a:b\\c/file", "odd\n");
    mounts.write("a:b\\c/odd", "odd\n");
    mounts.write("with,comma/comma", "comma\n");
    let options = "lowerdir+=low,lowerdir+=a:b\\c,lowerdir+=with\\,comma,upperdir=up,workdir=work";
    mounts.run(&["union", "-o", options, "mnt"]).ok();
    assert_eq!(names(&mounts.at("mnt")), ["comma", "file", "odd"]);
    assert_eq!(mounts.read("mnt/file"), "low\n");
    mounts.umount("mnt");
}

#[test]
fn fsync_on_a_volatile_union_is_no_message() {
    let mounts = directories();
    for (options, is_volatile) in [("rw", false), ("volatile", true), ("fsync=0", true)] {
        mount(&mounts, options);
        assert_eq!(mounts.inspect("mnt")["Volatile"], is_volatile, "{options}");
        for number in 0..10 {
            let path = mounts.at(&format!("mnt/{number}"));
            fs::write(&path, "data\n").unwrap();
            File::open(&path).unwrap().sync_all().unwrap();
        }
        File::open(mounts.at("mnt")).unwrap().sync_all().unwrap();
        let messages = mounts.inspect("mnt")["Messages"].clone();
        let count = |name: &str| messages[name].as_u64().unwrap_or_default();
        // The kernel is told once that there is no such thing.
        let wanted = if is_volatile { (1, 1) } else { (10, 1) };
        assert_eq!((count("FSYNC"), count("FSYNCDIR")), wanted, "{options}: {messages}");
        mounts.umount("mnt");
        assert_eq!(mounts.read("up/9"), "data\n");
    }
}

/// `user::rw-,user:ID:r--,group::r--,mask::r--,other::---`.
fn access_list(user: u32) -> Vec<u8> {
    let entry =
        |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
    let entries = [(1, 6, u32::MAX), (2, 4, user), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let entries: Vec<u8> = entries.into_iter().flat_map(|(tag, bits, id)| entry(tag, bits, id)).collect();
    [vec![2, 0, 0, 0], entries].concat()
}

#[test]
fn owners_are_mapped_in_both_directions() {
    let mounts = directories();
    mount(&mounts, "uidmapping=0:100000:1000,gidmapping=:0:200000:10:20:5:1");
    let owner = |path: &str| {
        let meta = fs::symlink_metadata(mounts.at(path)).unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!(owner("mnt/file"), (100_007, 200_008));
    // What no range has is nobody's.
    fs::write(mounts.at("low/other"), "").unwrap();
    mounts.umount("mnt");
    chown(mounts.at("low/other"), Some(5000), Some(15)).unwrap();
    mount(&mounts, "uidmapping=0:100000:1000,gidmapping=:0:200000:10:20:5:1");
    assert_eq!(owner("mnt/other"), (65_534, 65_534));
    chown(mounts.at("mnt"), Some(100_000), Some(200_000)).unwrap();
    assert_eq!(owner("up"), (0, 0));
    // As root of a user namespace with these ids is known outside.
    let script = "echo new > mnt/own; mkdir mnt/dir; ln -s x mnt/link; stat -c %u:%g mnt/own";
    let mut command = mounts.command("setpriv");
    command.args(["--reuid=100000", "--regid=200000", "--clear-groups", "sh", "-c", script]);
    assert_eq!(said(&mut command).ok(), "100000:200000\n");
    assert_eq!((owner("up/own"), owner("up/dir"), owner("up/link")), ((0, 0), (0, 0), (0, 0)));
    chown(mounts.at("mnt/dir"), Some(100_003), Some(5)).unwrap();
    assert_eq!((owner("mnt/dir"), owner("up/dir")), ((100_003, 5), (3, 20)));
    // Ids in access lists are owners too: `user:100007:r--`.
    let name = "system.posix_acl_access";
    setxattr(mounts.at("mnt/own"), name, &access_list(100_007), XattrFlags::empty()).unwrap();
    let value = |path: &str| {
        let mut value = [0; 256];
        let length = getxattr(mounts.at(path), name, &mut value).unwrap();
        value[..length].to_vec()
    };
    assert_eq!((value("mnt/own"), value("up/own")), (access_list(100_007), access_list(7)));
    mounts.umount("mnt");
}

#[test]
fn squashing_shows_every_file_as_one_owners() {
    let mounts = directories();
    for (options, wanted) in [
        ("squash_to_root", (0, 0)),
        ("squash_to_uid=12", (12, 8)),
        ("squash_to_gid=13", (7, 13)),
        ("squash_to_uid=12,squash_to_gid=13", (12, 13)),
    ] {
        mount(&mounts, options);
        let meta = fs::metadata(mounts.at("mnt/file")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), wanted, "{options}");
        // Only what is shown changes.
        let new = mounts.at("mnt/new");
        fs::write(&new, "").unwrap();
        chown(&new, Some(3), Some(4)).unwrap();
        let meta = fs::metadata(mounts.at("up/new")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (3, 4), "{options}");
        mounts.umount("mnt");
    }
}

#[test]
fn without_access_lists_none_is_shown_or_taken() {
    let mounts = directories();
    let name = "system.posix_acl_access";
    setxattr(mounts.at("low/file"), name, &access_list(7), XattrFlags::empty()).unwrap();
    let mut value = [0; 256];
    mount(&mounts, "noacl");
    let file = mounts.at("mnt/file");
    assert_eq!(getxattr(&file, name, &mut value), Err(Errno::OPNOTSUPP));
    assert_eq!(setxattr(&file, name, &value[..4], XattrFlags::empty()), Err(Errno::OPNOTSUPP));
    assert_eq!(rustix::fs::listxattr(&file, &mut value), Ok(0));
    mounts.umount("mnt");
    mount(&mounts, "rw");
    assert_eq!(getxattr(&file, name, &mut value), Ok(44));
    mounts.umount("mnt");
}

#[test]
fn the_propagation_type_is_the_one_that_was_asked_for() {
    let mounts = directories();
    // In a mount namespace where the place is shared.
    let script = r#"
        set -e
        mkdir shared; mount -t tmpfs none shared; mount --make-shared shared
        trap 'umount -l shared/private shared/plain 2>/dev/null || true' EXIT
        mkdir shared/private shared/plain
        "$L" union -o "private,$DIRS" shared/private
        "$L" union -o "lowerdir=low" shared/plain
        findmnt -n -o PROPAGATION shared/private
        findmnt -n -o PROPAGATION shared/plain
        "$L" umount shared/private
        "$L" umount shared/plain
    "#;
    let mut command = mounts.command("unshare");
    command.env("L", super::mounts::PROGRAM).env("DIRS", DIRS).args(["-m", "sh", "-c", script]);
    assert_eq!(said(&mut command).ok(), "private\nshared\n");
}

#[test]
fn a_label_is_the_security_modules_affair() {
    let mounts = directories();
    // Quoted as podman does it, with a comma in it. No security module that this machine may have knows the label.
    let option = format!("context=\"system_u:object_r:no_such_t:s0:c1,c2\",{DIRS}");
    let said = mounts.run(&["union", "-o", &option, "mnt"]);
    said.fails(125, &["mount a union", "mnt"]);
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
}
