//! Layers whose paths go through their own links, have `..` in them, or whose tars have odd ends: every command sees the same
//! tree in them, and the tar comes back as it was.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::slice::from_ref;

use super::archives::{forms, oci_packed, podman};
use super::cli::Sandbox;
use super::damage::{flip, found};
use super::generator::{Image, Tar, docker_since_25, gzip, oci, sha256};
use super::hostile_tar::{Raw, field};
use super::mounts::Mounts;
use super::repair::{assert_mended, layers, repair};

/// Content under paths of all kinds, and some that is replaced.
fn odd() -> Vec<u8> {
    Raw::new()
        .dir("usr")
        .dir("usr/lib")
        .link("lib", "usr/lib")
        .link("usr/lib64", "/lib")
        .file("lib/through", b"through")
        .file("usr/lib64/twice", b"twice")
        .file("lib/d/e/deep", b"deep")
        .file("../../etc/x/../who", b"who")
        .hard("hard", "usr/lib64/../lib64/through")
        .hard("lib/hard", "lib/d/e/deep")
        .file("lib/again", b"first")
        .file("usr/lib/again", b"second")
        .dir("gone")
        .link("g", "gone")
        .file("g/lost", b"lost")
        .file("gone", b"a file now")
        .end()
}

fn image() -> Image {
    let lower = Tar::new().dir("real").file("real/below", b"below").link("lib", "real").link("etc", "real").finish();
    Image::new("amd64", vec![lower, odd()], &["odd:1"])
}

#[test]
fn every_command_finds_the_files_where_they_stand() {
    let mounts = Mounts::new();
    let image = image();
    mounts.import_archive(&docker_since_25(from_ref(&image)).tar());
    mounts.run(&["verify"]).ok();
    let box_ = mounts.mount(&["--name", "box", "odd:1"]);
    let read =
        |path: &str| fs::read_to_string(box_.mountpoint.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    for (path, content) in [
        ("usr/lib/through", "through"),
        ("hard", "through"),
        ("usr/lib/twice", "twice"),
        ("usr/lib/d/e/deep", "deep"),
        ("usr/lib/hard", "deep"),
        ("etc/who", "who"),
        ("usr/lib/again", "second"),
        ("gone", "a file now"),
        ("real/below", "below"),
        ("lib/through", "through"),
    ] {
        assert_eq!(read(path), content, "{path}");
    }
    // The lower layer's link `etc` was not followed, and its `lib` was replaced.
    assert!(
        box_.mountpoint.join("etc").symlink_metadata().unwrap().is_dir() && !box_.mountpoint.join("real/who").exists()
    );
    let ino = |path: &str| box_.mountpoint.join(path).metadata().unwrap().ino();
    assert_eq!((ino("hard"), ino("usr/lib/hard")), (ino("usr/lib/through"), ino("usr/lib/d/e/deep")));
    // A copy of it, and a layer of the changes.
    fs::write(box_.mountpoint.join("lib/through"), "changed").unwrap();
    mounts.umount("box");
    mounts.run(&["commit", "box", "changed:1"]).ok();
    mounts.run(&["cp", "box:/lib/twice", "."]).ok();
    assert_eq!(mounts.read("twice"), "twice");
    let again = mounts.mount(&["changed:1"]);
    assert_eq!(fs::read_to_string(again.mountpoint.join("hard")).unwrap(), "changed");
    mounts.umount(&again.id);
    let explained = mounts.run(&["explain", "odd:1", "/usr/lib/through"]).ok();
    assert!(explained.contains("1"), "{explained}");
    mounts.run(&["verify"]).ok();
}

#[test]
fn what_stands_elsewhere_is_mended_there() {
    let image = image();
    for archive in [docker_since_25(from_ref(&image)), podman(from_ref(&image), gzip), oci_packed(&image, gzip)] {
        let sandbox = Sandbox::new();
        let path = sandbox.write("archive", &archive.tar());
        sandbox.run(&["import", &path]).lines();
        let before = layers(&sandbox);
        let dir = sandbox.root().join("diff").join(sha256(&image.layers[1]));
        flip(&dir.join("usr/lib/twice"));
        flip(&dir.join("usr/lib/d/e/deep"));
        fs::remove_file(dir.join("usr/lib/through")).unwrap();
        fs::remove_file(dir.join("lib")).unwrap();
        flip(
            &dir.join(".wh..wh.dups")
                .join(fs::read_dir(dir.join(".wh..wh.dups")).unwrap().next().unwrap().unwrap().file_name()),
        );
        assert_eq!(found(&sandbox, &[]).0, 3);
        assert_mended(&sandbox, &repair(&sandbox, &[&path]), &before, "files through links");
        sandbox.run(&["save", "odd:1", "--oci", "-o", "saved"]).lines();
        let other = sandbox.path("other");
        let saved = sandbox.path("saved").to_str().unwrap().to_owned();
        sandbox.run(&["--root", other.to_str().unwrap(), "import", &saved]).lines();
    }
}

#[test]
fn tars_without_their_ends_come_in_every_form() {
    let good = Tar::new().file("etc/who", b"lower").finish();
    let cut = Raw::new().file("etc/top", b"upper").0;
    for (what, odd, entries) in [
        ("of no bytes", Vec::new(), &[][..]),
        ("without end blocks", cut.clone(), &["etc/top"][..]),
        ("cut in the last padding", cut[..512 + 5].to_vec(), &["etc/top"]),
        ("cut later in it", cut[..1000].to_vec(), &["etc/top"]),
        ("only an end", vec![0; 1024], &[]),
    ] {
        let image = Image::new("amd64", vec![good.clone(), odd.clone(), good.clone(), odd.clone()], &["odd:1"]);
        for (form, members) in forms(from_ref(&image)) {
            let what = format!("{what}, {form}");
            for piped in [false, true] {
                let sandbox = Sandbox::new();
                let bytes = members.tar();
                let output = match piped {
                    true => sandbox.run_piped(&["import", "-"], &bytes),
                    false => sandbox.run(&["import", &sandbox.write("archive", &bytes)]),
                };
                assert_eq!(output.lines(), [format!("sha256:{}", image.id())], "{what}");
                let verified = sandbox.run(&["verify"]);
                assert_eq!((verified.code, &*verified.stdout), (0, ""), "{what}: {verified:?}");
                for entry in entries {
                    assert!(sandbox.root().join("diff").join(sha256(&odd)).join(entry).exists(), "{what}");
                }
                sandbox.run(&["save", "odd:1", "--docker", "-o", "saved"]).lines();
                let again = Sandbox::new();
                let saved = sandbox.path("saved").to_str().unwrap().to_owned();
                assert_eq!(again.run(&["import", &saved]).lines(), [format!("sha256:{}", image.id())], "{what}");
            }
        }
    }
}

#[test]
fn nothing_by_itself_is_refused_compressed_or_not() {
    let sandbox = Sandbox::new();
    for (name, content, why) in [
        ("empty", Vec::new(), ["is empty", "is empty"]),
        ("empty.gz", gzip(b""), ["neither an image archive nor a tar", "is empty"]),
    ] {
        let path = sandbox.write(name, &content);
        sandbox.run(&["import", &path]).assert_refused(125, &[name, why[0]]);
        sandbox.run(&["build", &path]).assert_refused(125, &[name, why[1]]);
    }
}

#[test]
fn the_last_header_of_a_hard_link_counts() {
    let mounts = Mounts::new();
    let over = [
        (field::MODE, &b"0000751\0"[..]),
        (field::UID, b"0000007\0"),
        (field::GID, b"0000010\0"),
        (field::MTIME, b"00000000777\0"),
    ];
    let layer = Raw::new().file("f", b"x").header(b'1', b"g", b"f", 0, &over).end();
    let image = Image::new("amd64", vec![layer], &["links:1"]);
    mounts.import_archive(&oci(from_ref(&image)).tar());
    mounts.run(&["verify"]).ok();
    let container = mounts.mount(&["links:1"]);
    for name in ["f", "g"] {
        let stat = container.mountpoint.join(name).metadata().unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime()), (0o751, 7, 8, 0o777), "{name}");
    }
    mounts.umount(&container.id);
}
