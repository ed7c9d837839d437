//! `export`: one tar of all that is visible, from which the same tree comes again.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::listing::Listing;
use super::mounts::Mounts;
use super::root_fs::{add, finish};

/// Layers in which files are removed, replaced, linked, and hidden.
fn image(mounts: &Mounts) {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, ".", 0o751, None);
    for dir in ["d", "d/deep", "gone"] {
        add(&mut tar, dir, 0o755, None);
    }
    for (path, content) in [("d/a", "a\n"), ("d/b", "b\n"), ("gone/x", "x\n"), ("gone/y", "y\n"), ("z", "z\n")] {
        add(&mut tar, path, 0o640, Some(content.as_bytes()));
    }
    // Names of one file on both sides of a directory that will be removed.
    for name in ["d/hard", "gone/hard", "a-first"] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Link);
        link.set_size(0);
        tar.append_link(&mut link, name, "gone/x").expect("a tar entry");
    }
    mounts.import("base", &finish(tar));
}

/// Changes of every kind, through a mount.
fn change(at: &Path) {
    fs::remove_dir_all(at.join("gone")).unwrap();
    fs::remove_file(at.join("d/b")).unwrap();
    fs::rename(at.join("d"), at.join("moved")).unwrap();
    fs::hard_link(at.join("z"), at.join("moved/z2")).unwrap();
    let long = format!("{}/{}", "l".repeat(200), "\u{e4}".repeat(100));
    fs::create_dir(at.join("l".repeat(200))).unwrap();
    fs::write(at.join(&long), "long\n").unwrap();
    std::os::unix::fs::symlink("t".repeat(150), at.join("symlink")).unwrap();
    let xattr = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(at.join("z"), name, value, XattrFlags::empty()).unwrap();
    };
    xattr("user.binary", b"\0\n=\xff");
    // user::rw-,user:1:rwx,group::r--,mask::rwx,other::---
    let entry =
        |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let list = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 6, none),
        entry(2, 7, 1),
        entry(4, 4, none),
        entry(0x10, 7, none),
        entry(0x20, 0, none),
    ];
    xattr("system.posix_acl_access", &list.concat());
    xattr("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let node = |name: &str, kind, dev| rustix::fs::mknodat(CWD, at.join(name), kind, Mode::RUSR, dev).unwrap();
    node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node("block", FileType::BlockDevice, rustix::fs::makedev(7, 300));
    node("fifo", FileType::Fifo, 0);
    node("socket", FileType::Socket, 0);
    fs::hard_link(at.join("socket"), at.join("socket2")).unwrap();
    let sparse = fs::File::create(at.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 3_000_000).unwrap();
    fs::set_permissions(at.join("sparse"), fs::Permissions::from_mode(0o4755)).unwrap();
    let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500));
    sparse.set_times(times).unwrap();
    fs::write(at.join("uid"), "").unwrap();
    std::os::unix::fs::chown(at.join("uid"), Some(3_000_000_000), Some(70_000)).unwrap();
}

/// What a tar can hold of a tree.
fn shown(at: &Path) -> Listing {
    Listing::of(at).without("socket").without("socket2")
}

#[test]
fn an_export_is_all_that_is_visible() {
    let mounts = Mounts::new();
    image(&mounts);
    let container = mounts.mount(&["--name", "c", "base"]);
    change(&container.mountpoint);
    let expected = shown(&container.mountpoint);
    assert!(expected.0.keys().any(|path| path.ends_with("sparse")));
    mounts.run(&["export", "c", "-o", "live.tar"]).ok();
    mounts.umount("c");
    for name in ["one.tar", "two.tar"] {
        mounts.run(&["export", "c", "-o", name]).ok();
    }
    let one = fs::read(mounts.at("one.tar")).unwrap();
    assert!(fs::read(mounts.at("two.tar")).unwrap() == one, "another tar the second time");
    assert!(fs::read(mounts.at("live.tar")).unwrap() == one, "another tar from the mount");
    let piped = mounts.program(&["export", "c"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout == one);

    let mut archive = tar::Archive::new(&one[..]);
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let link = entry.link_name().unwrap().map(|link| link.display().to_string()).unwrap_or_default();
        names.push(format!("{} {link}", entry.path().unwrap().display()));
    }
    assert_eq!(names[..2], ["./ ", "a-first "]);
    assert!(names.contains(&"moved/hard a-first".to_owned()), "{names:?}");
    assert!(names.contains(&"z moved/z2".to_owned()), "{names:?}");
    assert!(names.iter().all(|name| !name.contains(".wh.") && !name.contains("gone") && !name.contains("socket")));

    let back = mounts.import("back", &one);
    let again = mounts.mount(&["--read-only", &back]);
    shown(&again.mountpoint).assert_same(&expected, "the export of a container");
    mounts.umount(&again.id);
    // The only layer of an image is exported as that image's tree, and that is the same tar.
    mounts.run(&["export", "back", "-o", "three.tar"]).ok();
    assert!(fs::read(mounts.at("three.tar")).unwrap() == one);
}

#[test]
fn an_image_of_several_layers_is_exported_as_it_is_shown() {
    let mounts = Mounts::new();
    image(&mounts);
    let container = mounts.mount(&["--name", "c", "base"]);
    change(&container.mountpoint);
    mounts.umount("c");
    mounts.run(&["commit", "c", "-t", "two"]).ok();
    let reader = mounts.mount(&["--read-only", "two"]);
    let expected = shown(&reader.mountpoint);
    mounts.umount(&reader.id);
    mounts.run(&["export", "two", "-o", "x.tar"]).ok();
    let back = mounts.import("back", &fs::read(mounts.at("x.tar")).unwrap());
    let again = mounts.mount(&["--read-only", &back]);
    shown(&again.mountpoint).assert_same(&expected, "the export of an image");
}

#[test]
fn what_cannot_be_exported_leaves_no_file() {
    let mounts = Mounts::new();
    let id = mounts.import("base", &super::root_fs::plain());
    mounts.run(&["export", "no-such", "-o", "x"]).fails(1, &["no such container or image", "no-such"]);
    mounts.run(&["export", &id, "-o", "/dev/full"]).fails(125, &["/dev/full", "No space left"]);
    let layer = mounts.inspect("base")["RootFS"]["Layers"][0].as_str().unwrap()["sha256:".len()..].to_owned();
    fs::remove_file(mounts.at("store/diff").join(layer).join("dir/two")).unwrap();
    mounts.run(&["export", &id, "-o", "x"]).fails(125, &["/dir/two", "No such file"]);
    assert!(!mounts.at("x").exists());
}
