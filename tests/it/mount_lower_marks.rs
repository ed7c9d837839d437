//! Directories that were the upper of a union are lower layers of another: what was renamed, or has only new metadata, is there.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{RenameFlags, XattrFlags, renameat_with, setxattr};

use super::mounts::{Mounts, listing, names, said};

/// `low` with two directories, a file of two names, and what is needed to mount.
pub(crate) fn directories() -> Mounts {
    let mounts = Mounts::new();
    for dir in ["up1", "up2", "up3", "work", "mnt"] {
        mounts.mkdir(dir);
    }
    for name in ["a/file", "a/deep/er/file", "b/file", "b/own", "stays/file", "top"] {
        mounts.write(&format!("low/{name}"), &format!("{name}\n"));
    }
    fs::hard_link(mounts.at("low/top"), mounts.at("low/stays/linked")).unwrap();
    mounts
}

#[track_caller]
fn mount(mounts: &Mounts, options: &str) {
    assert_eq!(mounts.run(&["union", "-o", options, "mnt"]).ok(), "", "{options}");
}

/// Names, attributes and contents of all that a mount shows.
fn shown(mounts: &Mounts, at: &str) -> Vec<String> {
    fn walk(dir: &Path, inside: &str, lines: &mut Vec<String>) {
        for name in names(dir) {
            let (path, inside) = (dir.join(&name), format!("{inside}/{name}"));
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                lines.push(format!("{inside} {:o} {}", meta.mode(), meta.uid()));
                walk(&path, &inside, lines);
            } else {
                let content = fs::read_to_string(&path).unwrap();
                let about = format!("{:o} {} {} {}", meta.mode(), meta.uid(), meta.nlink(), meta.blocks());
                lines.push(format!("{inside} {about} {content:?}"));
            }
        }
    }
    let mut lines = Vec::new();
    walk(&mounts.at(at), "", &mut lines);
    lines
}

fn rename(mounts: &Mounts, from: &str, to: &str) {
    fs::rename(mounts.at(from), mounts.at(to)).unwrap();
}

#[test]
fn an_upper_of_ours_is_a_lower_with_its_renamed_directories() {
    let mounts = directories();
    let low = listing(&mounts.at("low"));
    mount(&mounts, "dirs=up1:low");
    rename(&mounts, "mnt/a", "mnt/moved");
    fs::create_dir(mounts.at("mnt/new")).unwrap();
    rename(&mounts, "mnt/moved/deep", "mnt/new/deep");
    mounts.write("mnt/moved/added", "added\n");
    fs::remove_file(mounts.at("mnt/b/own")).unwrap();
    let wanted = shown(&mounts, "mnt");
    mounts.umount("mnt");

    // Read-only, and under another upper, which renames what was renamed.
    mount(&mounts, "lowerdir=up1:low");
    assert_eq!(shown(&mounts, "mnt"), wanted);
    mounts.umount("mnt");
    mount(&mounts, "dirs=up2:up1:low");
    assert_eq!(shown(&mounts, "mnt"), wanted);
    rename(&mounts, "mnt/moved", "mnt/b/again");
    rename(&mounts, "mnt/new/deep/er", "mnt/er");
    fs::write(mounts.at("mnt/b/again/file"), "changed\n").unwrap();
    let wanted = shown(&mounts, "mnt");
    mounts.umount("mnt");

    mount(&mounts, "dirs=up2:up1:low");
    assert_eq!(shown(&mounts, "mnt"), wanted);
    mounts.umount("mnt");
    mount(&mounts, "dirs=up3:up2:up1:low");
    assert_eq!(shown(&mounts, "mnt"), wanted);
    assert_eq!(mounts.read("mnt/b/again/file"), "changed\n");
    assert_eq!(mounts.read("mnt/er/file"), "a/deep/er/file\n");
    assert_eq!(names(&mounts.at("mnt/new/deep")), Vec::<String>::new());
    fs::remove_dir_all(mounts.at("mnt/b")).unwrap();
    assert_eq!(names(&mounts.at("mnt")), ["er", "new", "stays", "top"]);
    mounts.umount("mnt");
    assert_eq!(listing(&mounts.at("low")), low);
}

#[test]
fn directories_that_changed_places_do_not_go_round_in_a_circle() {
    let mounts = directories();
    mount(&mounts, "dirs=up1:low");
    let (a, b) = (mounts.at("mnt/a"), mounts.at("mnt/b"));
    renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, RenameFlags::EXCHANGE).unwrap();
    let wanted = shown(&mounts, "mnt");
    mounts.umount("mnt");
    mount(&mounts, "dirs=up2:up1:low");
    assert_eq!(shown(&mounts, "mnt"), wanted);
    assert_eq!((mounts.read("mnt/a/file"), mounts.read("mnt/b/file")), ("b/file\n".into(), "a/file\n".into()));
    // One directory, one number, and its entries lead back to it.
    let number = |path: &str| fs::metadata(mounts.at(path)).unwrap().ino();
    assert_eq!(number("mnt/b/deep/.."), number("mnt/b"));
    assert_ne!(number("mnt/a"), number("mnt/b"));
    mounts.umount("mnt");
}

/// What the kernel's overlayfs wrote, and what it shows of it itself.
#[test]
fn an_upper_of_overlayfs_is_a_lower_with_its_redirects_and_metadata_only_copies() {
    let mounts = directories();
    let overlay = |lower: &str, upper: Option<&str>| {
        let upper = upper.map_or_else(String::new, |upper| format!(",upperdir={upper},workdir=work"));
        let options = format!("redirect_dir=on,metacopy=on,index=on,xino=on,lowerdir={lower}{upper}");
        said(mounts.command("mount").args(["-t", "overlay", "overlay", "-o", &options, "mnt"])).ok();
    };
    overlay("low", Some("up1"));
    rename(&mounts, "mnt/a", "mnt/moved");
    fs::create_dir(mounts.at("mnt/new")).unwrap();
    rename(&mounts, "mnt/moved/deep", "mnt/new/deep");
    rename(&mounts, "mnt/b", "mnt/c");
    fs::set_permissions(mounts.at("mnt/c/file"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(mounts.at("mnt/moved/file"), fs::Permissions::from_mode(0o640)).unwrap();
    rename(&mounts, "mnt/moved/file", "mnt/new/renamed");
    rename(&mounts, "mnt/c/own", "mnt/c/mine");
    fs::set_permissions(mounts.at("mnt/top"), fs::Permissions::from_mode(0o604)).unwrap();
    fs::create_dir(mounts.at("mnt/a")).unwrap();
    mounts.write("mnt/a/other", "other\n");
    mounts.umount8("mnt");
    // Only the marks have what is in these.
    assert_eq!(fs::read(mounts.at("up1/new/renamed")).unwrap(), [0; 7], "overlayfs copied the data");
    assert_eq!(names(&mounts.at("up1/new/deep")), Vec::<String>::new());

    // The marks of hard links are overlayfs' index, which is no part of a layer: they are copied by then.
    overlay("up1:low", None);
    let without_links = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| !line.starts_with("/top") && !line.starts_with("/stays/linked")).collect()
    };
    let wanted = without_links(shown(&mounts, "mnt"));
    mounts.umount8("mnt");
    for options in ["lowerdir=up1:low", "lowerdir=up1:low,upperdir=up2", "lowerdir=up1:low,upperdir=up3,metacopy=on"] {
        mount(&mounts, options);
        assert_eq!(without_links(shown(&mounts, "mnt")), wanted, "{options}");
        assert_eq!(mounts.read("mnt/top"), "top\n");
        assert_eq!(mounts.read("mnt/new/renamed"), "a/file\n");
        mounts.umount("mnt");
    }
    // What is written to is copied with its data.
    mount(&mounts, "dirs=up2:up1:low");
    mounts.shell("echo more >> mnt/new/renamed; chmod 644 mnt/c/file").ok();
    mounts.umount("mnt");
    assert_eq!(mounts.read("up2/new/renamed"), "a/file\nmore\n");
    assert_eq!(mounts.read("up2/c/file"), "b/file\n");
    for option in ["redirect_dir=nofollow", "metacopy=off"] {
        mounts.run(&["union", "-o", &format!("lowerdir=up1:low,{option}"), "mnt"]).fails(125, &["up1", option]);
    }
}

#[test]
fn marks_of_users_count_where_root_alone_could_set_them() {
    let mounts = directories();
    let mark = |path: &str, name: &str, value: &[u8]| {
        setxattr(mounts.at(path), format!("user.overlay.{name}"), value, XattrFlags::empty()).unwrap();
    };
    mounts.mkdir("up1/moved");
    mounts.write("up1/.wh.a", "");
    mark("up1/moved", "redirect", b"/a");
    mounts.write("up1/copied", "12345");
    fs::File::options().write(true).open(mounts.at("up1/copied")).unwrap().set_len(4).unwrap();
    mark("up1/copied", "metacopy", b"");
    mark("up1/copied", "redirect", b"top");
    // Whatever another test has made the umask.
    for (path, mode) in [("up1", 0o755), ("up1/moved", 0o755), ("up1/copied", 0o644)] {
        fs::set_permissions(mounts.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let union = |more: &str| mounts.run(&["union", "-o", &format!("lowerdir=up1:low{more}"), "mnt"]);
    union("").ok();
    assert_eq!(mounts.read("mnt/moved/file"), "a/file\n");
    assert_eq!(mounts.read("mnt/copied"), "top\n");
    mounts.umount("mnt");
    // A file that is somebody's, or that others may write: its owner would read what he may not.
    std::os::unix::fs::chown(mounts.at("up1/copied"), Some(1000), None).unwrap();
    union("").fails(125, &["up1/copied", "user.overlay.metacopy", "userxattr"]);
    union(",userxattr").ok();
    assert_eq!(mounts.read("mnt/copied"), "top\n");
    mounts.umount("mnt");
    std::os::unix::fs::chown(mounts.at("up1/copied"), Some(0), None).unwrap();
    fs::set_permissions(mounts.at("up1/moved"), fs::Permissions::from_mode(0o1777)).unwrap();
    union("").fails(125, &["up1/moved", "user.overlay.redirect", "userxattr"]);
}

#[test]
fn the_rw_layer_of_a_container_is_a_lower_over_the_layers_of_its_image() {
    let mounts = super::mount_container::with_plain();
    for dir in ["up", "mnt"] {
        mounts.mkdir(dir);
    }
    let container = mounts.mount(&["--name", "box", "plain"]);
    fs::rename(container.mountpoint.join("dir"), container.mountpoint.join("moved")).unwrap();
    fs::set_permissions(container.mountpoint.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    mounts.umount("box");
    let rw = format!("store/diff/{}", container.id);
    assert_eq!(names(&mounts.at(&format!("{rw}/moved"))), Vec::<String>::new());
    let layers = mounts.inspect("box")["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap().to_owned();
    mount(&mounts, &format!("lowerdir={rw}:{layers},upperdir=up"));
    assert_eq!(names(&mounts.at("mnt")), ["file", "link", "moved"]);
    assert_eq!(mounts.read("mnt/moved/one"), "dir/one of the image\n");
    assert_eq!(mounts.read("mnt/file"), "file of the image\n");
    assert_eq!(fs::metadata(mounts.at("mnt/file")).unwrap().mode() & 0o777, 0o600);
    mounts.umount("mnt");
    // Without the image's layers it is not whole.
    mounts.run(&["union", "-o", &format!("lowerdir={rw}"), "mnt"]).fails(125, &[&rw, "layers below"]);
}
