//! Lower layers whose marks lead to nothing, in circles, or out of the layers: refused, and never followed.

use std::fs;

use rustix::fs::{XattrFlags, setxattr};

use super::mount_lower_marks::directories;
use super::mounts::Mounts;

fn mark(mounts: &Mounts, path: &str, name: &str, value: &[u8]) {
    setxattr(mounts.at(path), name, value, XattrFlags::empty()).unwrap();
}

#[track_caller]
fn refused(mounts: &Mounts, words: &[&str]) {
    for options in ["lowerdir=up1:low", "lowerdir=up1:low,upperdir=up2,userxattr"] {
        mounts.run(&["union", "-o", options, "mnt"]).fails(125, words);
    }
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_redirect_that_could_lead_out_is_refused() {
    for value in [&b"/../../../etc"[..], b"/a/../../x", b"..", b".", b"a/deep", b"/", b"/a//deep", b"", b"/a/./deep"] {
        let mounts = directories();
        mounts.mkdir("up1/moved");
        mark(&mounts, "up1/moved", "trusted.overlay.redirect", value);
        refused(&mounts, &["up1/moved", "trusted.overlay.redirect"]);
    }
}

#[test]
fn a_link_on_the_way_is_not_followed() {
    let mounts = directories();
    mounts.write("secret/dir/file", "secret\n");
    std::os::unix::fs::symlink(mounts.at("secret"), mounts.at("low/link")).unwrap();
    std::os::unix::fs::symlink("a", mounts.at("low/inside")).unwrap();
    mounts.mkdir("up1/moved");
    for value in ["/link", "/link/dir", "/inside", "/inside/deep", "link"] {
        mark(&mounts, "up1/moved", "trusted.overlay.redirect", value.as_bytes());
        refused(&mounts, &["up1/moved", value, "layers below"]);
    }
    fs::remove_dir(mounts.at("up1/moved")).unwrap();
    mounts.write("up1/file", "zeros");
    mark(&mounts, "up1/file", "trusted.overlay.metacopy", b"");
    for value in ["/link/dir/file", "/inside/file", "link"] {
        mark(&mounts, "up1/file", "trusted.overlay.redirect", value.as_bytes());
        refused(&mounts, &["up1/file", value, "layers below"]);
    }
}

#[test]
fn a_redirect_to_nothing_or_to_no_directory_is_refused() {
    let mounts = directories();
    mounts.mkdir("up1/moved");
    for value in ["/gone", "/a/gone", "gone", "/top", "/a/file", "/.wh.a"] {
        mark(&mounts, "up1/moved", "trusted.overlay.redirect", value.as_bytes());
        refused(&mounts, &["up1/moved", value, "layers below"]);
    }
    // A layer's own directories are not below it, and the lowest has nothing below.
    mounts.mkdir("up1/own");
    mark(&mounts, "up1/moved", "trusted.overlay.redirect", b"/own");
    refused(&mounts, &["up1/moved", "/own"]);
    fs::remove_dir_all(mounts.at("up1/moved")).unwrap();
    mark(&mounts, "low/a", "trusted.overlay.redirect", b"/b");
    refused(&mounts, &["low/a", "/b"]);
}

#[test]
fn a_directory_that_would_be_seen_twice_is_refused() {
    let mounts = directories();
    mounts.mkdir("up1/a/inside");
    // In itself: a walk would never end.
    mark(&mounts, "up1/a/inside", "trusted.overlay.redirect", b"/a");
    refused(&mounts, &["up1/a/inside", "also seen at its own name"]);
    // At its own name.
    fs::remove_dir_all(mounts.at("up1/a")).unwrap();
    mounts.mkdir("up1/copy");
    mark(&mounts, "up1/copy", "trusted.overlay.redirect", b"/b");
    refused(&mounts, &["up1/copy", "also seen at its own name"]);
    // By two redirects.
    mounts.write("up1/.wh.b", "");
    mounts.mkdir("up1/dir");
    mark(&mounts, "up1/dir", "trusted.overlay.redirect", b"b");
    refused(&mounts, &["up1/", "another directory"]);
    fs::remove_dir(mounts.at("up1/dir")).unwrap();
    mounts.run(&["union", "-o", "lowerdir=up1:low", "mnt"]).ok();
    assert_eq!(mounts.read("mnt/copy/own"), "b/own\n");
    mounts.umount("mnt");
}

#[test]
fn a_file_whose_data_are_nowhere_is_refused() {
    let mounts = directories();
    mounts.write("up1/top", "none");
    mark(&mounts, "up1/top", "trusted.overlay.metacopy", b"");
    // It must have the size of the file whose data it has.
    mounts.run(&["union", "-o", "lowerdir=up1:low", "mnt"]).ok();
    assert_eq!(mounts.read("mnt/top"), "top\n");
    mounts.umount("mnt");
    mounts.write("up1/top", "longer than that");
    mark(&mounts, "up1/top", "trusted.overlay.metacopy", b"");
    refused(&mounts, &["up1/top", "another size"]);
    mounts.write("up1/top", "none");
    for value in ["/a", "/gone", "gone", "/a/deep", "/../top", "stays/file"] {
        mark(&mounts, "up1/top", "trusted.overlay.redirect", value.as_bytes());
        refused(&mounts, &["up1/top"]);
    }
}

#[test]
fn forged_marks_of_our_own_are_refused() {
    let mounts = directories();
    mounts.mkdir("up1/moved");
    for value in ["0.0000000000000000.1", "0.0.0", "x", "", "4294967295.ffffffffffffffff.4294967295", "0.0.0.0"] {
        mark(&mounts, "up1/moved", "trusted.layerctl.origin", value.as_bytes());
        refused(&mounts, &["up1/moved"]);
    }
    // The root of the layer below, which would be seen in itself.
    mounts.run(&["union", "-o", "dirs=up3:low", "mnt"]).ok();
    fs::rename(mounts.at("mnt/a"), mounts.at("mnt/moved")).unwrap();
    mounts.umount("mnt");
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(mounts.at("up3/moved"), "trusted.layerctl.origin", &mut value).unwrap();
    let origin = String::from_utf8(value[..length].to_vec()).unwrap();
    let (layer_and_key, _) = origin.rsplit_once('.').unwrap();
    mark(&mounts, "up1/moved", "trusted.layerctl.origin", format!("{layer_and_key}.0").as_bytes());
    refused(&mounts, &["up1/moved", "layers below"]);
    fs::remove_dir(mounts.at("up1/moved")).unwrap();
    mounts.write("up1/file", "x");
    mark(&mounts, "up1/file", "trusted.layerctl.metacopy", b"y");
    refused(&mounts, &["up1/file", "metacopy"]);
    mark(&mounts, "up1/file", "trusted.layerctl.origin", b"0.0000000000000000.3");
    refused(&mounts, &["up1/file", "layers below"]);
}
