//! `diff`: of containers, mounted or not, of an image's last layer, and of two images.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Value, json};

use super::generator::{Image, Tar, docker_since_25, sha256};
use super::listing::Listing;
use super::mounts::{Mounts, Said};
use super::root_fs::{add, finish};

/// A root file system with what can be changed.
fn base(mounts: &Mounts) {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["a", "a/deep", "gone", "moved", "opaque", "quiet"] {
        add(&mut tar, dir, 0o755, None);
    }
    for path in
        ["a/deep/file", "a/mode", "a/same", "gone/x", "gone/y", "moved/in", "opaque/old", "quiet/left", "retyped", "z"]
    {
        add(&mut tar, path, 0o644, Some(format!("{path}\n").as_bytes()));
    }
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_mode(0o777);
    link.set_mtime(1_600_000_000);
    link.set_size(0);
    tar.append_link(&mut link, "link", "a/same").expect("a tar entry");
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    tar.append_link(&mut link, "a/hard", "z").expect("a tar entry");
    mounts.import("base", &finish(tar));
}

/// Changes of every kind, through a mount.
fn change(at: &Path) {
    fs::write(at.join("a/deep/file"), "written\n").unwrap();
    fs::set_permissions(at.join("a/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    // Written anew, and the same again, but for nothing that anybody can see.
    let time = fs::metadata(at.join("a/same")).unwrap().modified().unwrap();
    fs::write(at.join("a/same"), "a/same\n").unwrap();
    fs::File::options().write(true).open(at.join("a/same")).unwrap().set_modified(time).unwrap();
    // Another content of the same length and time.
    fs::write(at.join("moved/in"), "MOVED/in\n").unwrap();
    fs::File::options().write(true).open(at.join("moved/in")).unwrap().set_modified(time).unwrap();
    fs::remove_dir_all(at.join("gone")).unwrap();
    fs::rename(at.join("moved"), at.join("new name")).unwrap();
    fs::remove_dir_all(at.join("opaque")).unwrap();
    fs::create_dir(at.join("opaque")).unwrap();
    fs::write(at.join("opaque/new"), "").unwrap();
    // Only the directory's time.
    fs::write(at.join("quiet/x"), "").unwrap();
    fs::remove_file(at.join("quiet/x")).unwrap();
    fs::remove_file(at.join("retyped")).unwrap();
    fs::create_dir(at.join("retyped")).unwrap();
    symlink("z", at.join("retyped/in")).unwrap();
    fs::remove_file(at.join("link")).unwrap();
    symlink("elsewhere", at.join("link")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"odd\n\xff");
    fs::write(at.join(odd), "").unwrap();
    fs::hard_link(at.join("z"), at.join("z2")).unwrap();
}

const CHANGES: [&str; 16] = [
    "C /a",
    "C /a/deep",
    "C /a/deep/file",
    "C /a/mode",
    "D /gone",
    "C /link",
    "D /moved",
    "A /new name",
    "A /new name/in",
    r#"A "/odd\n\377""#,
    "C /opaque",
    "A /opaque/new",
    "D /opaque/old",
    "C /retyped",
    "A /retyped/in",
    "A /z2",
];

#[track_caller]
fn lines(said: Said) -> Vec<String> {
    said.ok().lines().map(str::to_owned).collect()
}

#[test]
fn a_containers_changes_are_the_same_mounted_or_not() {
    let mounts = Mounts::new();
    base(&mounts);
    let container = mounts.mount(&["--name", "c", "base"]);
    assert_eq!(lines(mounts.run(&["diff", "c"])), [""; 0]);
    change(&container.mountpoint);
    assert_eq!(lines(mounts.run(&["diff", "c"])), CHANGES, "mounted");
    assert_eq!(lines(mounts.run(&["diff", "c", "base"])), CHANGES, "mounted, against its image by name");
    mounts.umount("c");
    assert_eq!(lines(mounts.run(&["diff", "c"])), CHANGES, "not mounted");
    assert_eq!(lines(mounts.run(&["diff", &container.id[..12], "base"])), CHANGES);

    let json: Value = serde_json::from_str(&mounts.run(&["diff", "--format", "json", "c"]).ok()).expect("JSON");
    assert_eq!(json["deleted"], json!(["/gone", "/moved", "/opaque/old"]));
    assert_eq!(json["changed"].as_array().map(Vec::len), Some(7));
    assert_eq!(json["added"][2], r#""/odd\n\377""#, "what is no UTF-8 is quoted, as no other path is");
    let nul = mounts.program(&["diff", "-z", "c"]).output().expect("it runs").stdout;
    let entries: Vec<&[u8]> = nul.split(|byte| *byte == 0).collect();
    assert_eq!((entries.len(), entries.last()), (CHANGES.len() + 1, Some(&&b""[..])));
    assert!(entries.contains(&&b"A /odd\n\xff"[..]));
    let by = mounts.run(&["diff", "--format", "{{.Kind}}:{{.Path}}", "c"]).ok();
    assert_eq!(by.lines().next(), Some("C:/a"));
    mounts.run(&["rm", "c"]).ok();
}

/// The tar of a difference, over its base, gives the same tree.
#[test]
fn the_tar_of_a_difference_is_a_layer() {
    let mounts = Mounts::new();
    base(&mounts);
    let container = mounts.mount(&["--name", "c", "base"]);
    change(&container.mountpoint);
    // What no mount shows twice alike.
    let shown = |dir: &Path| {
        let mut listing = Listing::of(dir);
        for line in listing.0.values_mut() {
            if line.starts_with('4') {
                *line = line.split(" mtime").next().unwrap_or_default().to_owned();
            }
        }
        listing
    };
    let wanted = shown(&container.mountpoint);
    let mounted = mounts.text("mounted.tar");
    mounts.run(&["diff", "--tar", "-o", &mounted, "c"]).ok();
    mounts.umount("c");
    let rested = mounts.text("rested.tar");
    mounts.run(&["diff", "--tar", "-o", &rested, "c"]).ok();
    mounts.run(&["commit", "c", "-t", "committed"]).ok();
    let between = mounts.text("between.tar");
    mounts.run(&["diff", "--tar", "-o", &between, "committed", "base"]).ok();
    for tar in [&mounted, &rested, &between] {
        let name = Path::new(tar).file_stem().unwrap().to_str().unwrap();
        let layers = [base_layer(&mounts), fs::read(tar).unwrap()];
        mounts.import_archive(&docker_since_25(&[Image::new("amd64", layers.into(), &[name])]).tar());
        let again = mounts.mount(&["--name", "again", name]);
        shown(&again.mountpoint).assert_same(&wanted, name);
        mounts.run(&["rm", "-f", "again"]).ok();
        assert_eq!(lines(mounts.run(&["diff", name, "committed"])), [""; 0], "{name}");
    }
    mounts.run(&["rm", "c"]).ok();
}

/// The bytes of the first layer of `base`.
fn base_layer(mounts: &Mounts) -> Vec<u8> {
    let out = mounts.text("base.layer");
    // Alone, an image of one layer is what that layer is.
    mounts.run(&["diff", "--tar", "-o", &out, "base"]).ok();
    fs::read(out).expect("the tar is there")
}

#[test]
fn an_image_is_compared_with_what_is_below_its_last_layer() {
    let mounts = Mounts::new();
    let first = Tar::new().dir("d").file("d/a", b"a\n").file("d/b", b"b\n").dir("e").finish();
    let second = Tar::new().dir("d").file("d/a", b"A\n").file("d/.wh.b", b"").file("d/c", b"c\n").dir("e").finish();
    let images = [
        Image::new("amd64", vec![first.clone(), second.clone()], &["two"]),
        Image::new("amd64", vec![first.clone()], &["one"]),
        Image::new("amd64", vec![Tar::new().finish(), first, second.clone()], &["three"]),
        Image::new("amd64", vec![], &["nothing"]),
    ];
    mounts.import_archive(&docker_since_25(&images).tar());
    let wanted = ["C /d", "C /d/a", "D /d/b", "A /d/c"];
    assert_eq!(lines(mounts.run(&["diff", "two"])), wanted);
    assert_eq!(lines(mounts.run(&["diff", "two", "one"])), wanted);
    assert_eq!(lines(mounts.run(&["diff", "one", "two"])), ["C /d", "C /d/a", "A /d/b", "D /d/c"]);
    assert_eq!(lines(mounts.run(&["diff", "one"])), ["A /d", "A /d/a", "A /d/b", "A /e"]);
    // The same tree of other layers.
    assert_eq!(lines(mounts.run(&["diff", "two", "three"])), [""; 0]);
    assert_eq!(lines(mounts.run(&["diff", "nothing"])), [""; 0]);
    assert_eq!(lines(mounts.run(&["diff", "nothing", "two"])), ["D /d", "D /e"]);
    let tar = mounts.program(&["diff", "--tar", "two"]).output().expect("it runs").stdout;
    assert_eq!(sha256(&tar), sha256(&second), "the last layer, bit for bit");
    // Nothing but the indexes is read.
    for dir in fs::read_dir(mounts.at("store/diff")).unwrap() {
        let dir = dir.unwrap().path();
        fs::rename(&dir, dir.with_extension("away")).unwrap();
    }
    assert_eq!(lines(mounts.run(&["diff", "two", "one"])), wanted);
    mounts.run(&["diff", "none"]).fails(1, &["no such container or image: none"]);
    mounts.run(&["diff", "two", "none"]).fails(1, &["no such image: none"]);
    assert_eq!(mounts.run(&["diff", "-z", "--tar", "two"]).code, 2);
}
