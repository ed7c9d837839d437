//! A rw layer in overlayfs' spelling is the same to every reader as one in AUFS' spelling, and becomes one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{
    FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink,
};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};

use super::generator::{Image, docker_since_25, sha256};
use super::hostile_tar::Raw;
use super::kernel_mount::assert_nothing_stays;
use super::listing::xattrs;
use super::mounts::{Mounts, names};
use super::processes::{descendants, eventually, is_alive, kill};

fn image() -> Image {
    let base = Raw::new()
        .dir("dir")
        .file("dir/x", b"x")
        .file("dir/y", b"y")
        .dir("deep")
        .dir("deep/a")
        .dir("deep/a/b")
        .file("deep/a/b/c", b"c")
        .file("one", b"several names")
        .hard("two", "one")
        .hard("deep/three", "one")
        .hard("four", "one")
        .file("solo", b"solo")
        .file("shorter", b"it gets shorter")
        .file("gone", b"gone")
        .dir("again")
        .file("again/old", b"old")
        .file("kept", b"kept");
    let top = Raw::new().dir("dir").file("dir/z", b"z").file("deep/.wh.none", b"");
    Image::new("amd64", vec![base.end(), top.end()], &["base:latest"])
}

fn base() -> Mounts {
    let mounts = Mounts::new();
    mounts.import_archive(&docker_since_25(std::slice::from_ref(&image())).tar());
    mounts
}

/// Does what programs do, once.
fn change(at: &Path) {
    let path = |name: &str| at.join(name);
    let set = |name: &str, attribute: &str| {
        lsetxattr(path(name), attribute, b"y", XattrFlags::empty()).unwrap_or_else(|error| panic!("{name}: {error}"));
    };
    File::options().append(true).open(path("one")).unwrap().write_all_at(b" more", 13).unwrap();
    fs::remove_file(path("two")).unwrap();
    fs::rename(path("dir"), path("moved")).unwrap();
    fs::write(path("moved/x"), "changed").unwrap();
    fs::remove_file(path("moved/y")).unwrap();
    fs::rename(path("deep/a"), path("deep/b")).unwrap();
    fs::rename(path("deep/b/b"), path("moved/b")).unwrap();
    chown(path("solo"), Some(7), Some(8)).unwrap();
    fs::set_permissions(path("solo"), fs::Permissions::from_mode(0o4751)).unwrap();
    File::options().write(true).open(path("shorter")).unwrap().set_len(4).unwrap();
    fs::remove_file(path("gone")).unwrap();
    fs::create_dir(path("gone")).unwrap();
    fs::write(path("gone/new"), "new").unwrap();
    fs::remove_dir_all(path("again")).unwrap();
    fs::create_dir(path("again")).unwrap();
    fs::write(path("again/other"), "other").unwrap();
    fs::hard_link(path("again/other"), path("linked")).unwrap();
    symlink("nowhere", path("link")).unwrap();
    lchown(path("link"), Some(9), None).unwrap();
    mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    mknodat(CWD, path("null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
    mknodat(CWD, path("socket"), FileType::Socket, Mode::RUSR, 0).unwrap();
    File::create(path("sparse")).unwrap().write_all_at(b"end", 3 << 20).unwrap();
    fs::write(path(&"n".repeat(255)), "long").unwrap();
    for attribute in ["user.a", "user.overlay.opaque", "trusted.overlay.opaque", "trusted.layerctl.origin", "trusted.b"]
    {
        set("moved", attribute);
        set("again/other", attribute);
        set("kept", attribute);
    }
    fs::set_permissions(at, fs::Permissions::from_mode(0o711)).unwrap();
}

/// All but times and numbers of inodes.
fn tree(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let stat = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let kind = stat.file_type();
        let content = if kind.is_file() {
            sha256(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            String::new()
        };
        if kind.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let (size, links) = if kind.is_dir() { (0, 0) } else { (stat.size(), stat.nlink()) };
        let device = if kind.is_char_device() { stat.rdev() } else { 0 };
        let (mode, uid, gid) = (stat.mode(), stat.uid(), stat.gid());
        let line = format!("{mode:o} {uid}:{gid} {size} {links} {device} {content} {:?}", xattrs(&path));
        found.insert(path.strip_prefix(top).unwrap().display().to_string(), line);
    }
    found
}

#[track_caller]
fn assert_same(is: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>, what: &str) {
    let paths = is.keys().chain(wanted.keys());
    let other: Vec<_> = paths
        .filter(|path| is.get(*path) != wanted.get(*path))
        .map(|path| (path, is.get(path), wanted.get(path)))
        .collect();
    assert!(other.is_empty(), "{what}: {other:#?}");
}

fn told(mounts: &Mounts, name: &str) -> [String; 2] {
    mounts.run(&["export", name, "-o", "exported.tar"]).ok();
    let tar = fs::read(mounts.at("exported.tar")).unwrap();
    let mut entries = Vec::new();
    for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        let link = entry.link_name().unwrap().map(|link| link.display().to_string());
        entries.push(format!("{} {kind:?} {mode:o} {} {link:?}", entry.path().unwrap().display(), entry.size()));
    }
    [mounts.run(&["diff", name]).ok(), entries.join("\n")]
}

#[test]
fn every_reader_is_told_the_same_and_each_way_shows_it() {
    let mounts = base();
    let at = |way: &str, name: &str, image: &[&str]| {
        mounts.mount(&[&["--io", way, "--name", name], image].concat()).mountpoint
    };
    let (ours, kernels) = (at("cached", "ours", &["base"]), at("kernel", "kernels", &["base"]));
    change(&ours);
    change(&kernels);
    let wanted = tree(&ours);
    assert_same(&tree(&kernels), &wanted, "mounted by the kernel");
    let said = told(&mounts, "ours");
    assert_eq!(told(&mounts, "kernels"), said, "of the live mount");
    for name in ["ours", "kernels"] {
        let made = format!("made-{name}");
        assert_eq!(mounts.run(&["commit", name, &made]).code, 0);
        mounts.umount(name);
        assert_eq!(told(&mounts, name), said, "{name} is not mounted");
        let committed = mounts.mount(&["--io", "cached", "--rm", "--read-only", "--name", "made", &made]);
        let mut wanted = wanted.clone();
        wanted.remove("socket");
        assert_same(&tree(&committed.mountpoint), &wanted, &made);
        mounts.umount("made");
    }
    for (round, ways) in [["kernel", "cached"], ["kernel", "cached"], ["kernel", "kernel"]].into_iter().enumerate() {
        for (name, way) in ["ours", "kernels"].into_iter().zip(ways) {
            let what = format!("{name} by {way}, {round}");
            assert_same(&tree(&at(way, name, &[])), &wanted, &what);
            assert_eq!(told(&mounts, name), said, "{what}");
            mounts.umount(name);
            assert_eq!(told(&mounts, name), said, "{what}, unmounted");
        }
    }
    // A copy into one that is not mounted, and out of it.
    mounts.write("file", "copied");
    for name in ["ours", "kernels"] {
        mounts.run(&["cp", "file", &format!("{name}:/moved/copied")]).ok();
        mounts.run(&["cp", &format!("{name}:/moved/copied"), "back"]).ok();
        assert_eq!(mounts.read("back"), "copied");
        assert!(mounts.run(&["explain", name, "/moved/copied"]).ok().contains("rw layer"));
    }
    assert_nothing_stays(&mounts);
}

#[test]
fn names_that_only_overlayfs_has_are_shown_and_never_taken_for_whiteouts() {
    let mounts = base();
    let at = mounts.mount(&["--io", "kernel", "--name", "box", "base"]).mountpoint;
    fs::write(at.join(".wh.kept"), "data").unwrap();
    fs::write(at.join("deep/.wh..wh..opq"), "data").unwrap();
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "A /.wh.kept\nC /deep\nA /deep/.wh..wh..opq\n");
    mounts.run(&["cp", "box:/.wh.kept", "copied"]).ok();
    assert_eq!(mounts.read("copied"), "data");
    for refused in
        [&["commit", "box"][..], &["export", "box", "-o", "out.tar"], &["diff", "--tar", "box", "-o", "out.tar"]]
    {
        let said = mounts.run(refused);
        assert!(said.code != 0 && said.err.contains(".wh.") && !mounts.at("out.tar").exists(), "{refused:?}: {said:?}");
    }
    mounts.umount("box");
    let refused = mounts.run(&["run-mount", "--io", "cached", "--name", "box"]);
    refused.fails(125, &["box", "/.wh.kept", "rename it", "--io kernel"]);
    let at = mounts.mount(&["--io", "kernel", "--name", "box"]).mountpoint;
    assert_eq!(fs::read(at.join("deep/.wh..wh..opq")).unwrap(), b"data");
    assert_eq!(fs::read(at.join("kept")).unwrap(), b"kept");
    fs::remove_file(at.join(".wh.kept")).unwrap();
    fs::remove_file(at.join("deep/.wh..wh..opq")).unwrap();
    mounts.umount("box");
    mounts.mount(&["--io", "cached", "--name", "box"]);
    mounts.umount("box");
    assert_nothing_stays(&mounts);
}

#[test]
fn a_device_that_overlayfs_cannot_have_is_refused_by_its_name() {
    let mounts = base();
    let at = mounts.mount(&["--io", "cached", "--name", "box", "base"]).mountpoint;
    mknodat(CWD, at.join("deep/zero"), FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
    mounts.umount("box");
    let refused = mounts.run(&["run-mount", "--io", "kernel", "--name", "box"]);
    refused.fails(125, &["box", "/deep/zero", "0:0", "--io cached"]);
    let at = mounts.mount(&["--io", "auto", "--name", "box"]).mountpoint;
    assert!(at.join("deep/zero").symlink_metadata().unwrap().file_type().is_char_device());
    mounts.umount("box");
    assert_nothing_stays(&mounts);
}

#[test]
fn a_conversion_that_is_killed_leaves_the_one_or_the_other() {
    let mounts = base();
    let at = mounts.mount(&["--io", "kernel", "--name", "box", "base"]).mountpoint;
    change(&at);
    for number in 0..400 {
        fs::write(at.join(format!("again/{number}")), [b'x'; 5000]).unwrap();
    }
    let wanted = tree(&at);
    mounts.umount("box");
    let differences = mounts.run(&["diff", "box"]).ok();
    for round in 0..24u64 {
        let way = if round % 2 == 0 { "cached" } else { "kernel" };
        let mut child =
            mounts.program(&["run-mount", "--io", way, "--name", "box"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round * round / 2));
        let all = [vec![child.id()], descendants(child.id())].concat();
        all.into_iter().filter(|pid| is_alive(*pid)).for_each(kill);
        child.wait().unwrap();
        // A server that has left its starter goes by itself; the mount of one that was ready is the container's.
        let is_quiet = || {
            let state = mounts.ps("box").0;
            if state == "running" || state == "dead" {
                mounts.run(&["umount", "box"]);
            }
            mounts.ps("box").0 != "running" && mounts.processes().is_empty()
        };
        assert!(eventually(is_quiet), "{:?}", mounts.processes());
        assert_eq!(mounts.run(&["diff", "box"]).ok(), differences, "round {round}");
    }
    for way in ["cached", "kernel"] {
        assert_same(&tree(&mounts.mount(&["--io", way, "--name", "box"]).mountpoint), &wanted, way);
        mounts.umount("box");
    }
    mounts.run(&["rm", "box"]).ok();
    mounts.run(&["prune"]).ok();
    assert_nothing_stays(&mounts);
    assert_eq!(names(&mounts.at("store/diff")).len(), 2, "the layers of the image");
}

/// From Linux 6.16 on a file of a FUSE mount that overlayfs finds by its handle alone cannot be used.
#[test]
fn copies_are_used_again_after_the_kernel_has_forgotten_their_names() {
    let mounts = base();
    let mount = || mounts.mount(&["--io", "kernel", "--name", "box", "base"]).mountpoint;
    let append = |at: &Path, name: &str| {
        let mut file =
            File::options().append(true).open(at.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        std::io::Write::write_all(&mut file, b"+").unwrap();
    };
    let names = ["one", "two", "deep/three", "four"];
    let at = mount();
    append(&at, "solo");
    append(&at, "one");
    fs::remove_file(at.join("one")).unwrap();
    chown(at.join("kept"), Some(7), None).unwrap();
    let dirs = || ["", "deep"].map(|dir| fs::metadata(at.join(dir)).unwrap().modified().unwrap());
    let before = dirs();
    for round in 0..3 {
        let text = format!("several names+{}", "+".repeat(round));
        let seen: Vec<_> = names[1..].iter().map(|name| fs::metadata(at.join(name)).unwrap()).collect();
        assert!(seen.iter().all(|meta| (meta.ino(), meta.nlink()) == (seen[0].ino(), 3)), "{round}: {seen:?}");
        for name in &names[1..] {
            assert_eq!(fs::read_to_string(at.join(name)).unwrap(), text, "{round}: {name}");
        }
        assert_eq!(
            mounts.run(&["diff", "box"]).ok(),
            "C /deep\nC /deep/three\nC /four\nC /kept\nD /one\nC /solo\nC /two\n"
        );
        assert_eq!(dirs(), before, "{round}");
        // What the kernel knows of names goes, and then all.
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        append(&at, "solo");
        append(&at, names[1 + round]);
        assert_eq!(fs::metadata(at.join("kept")).unwrap().uid(), 7);
        mounts.umount("box");
        assert_eq!(mount(), at);
    }
    mounts.umount("box");
    assert_nothing_stays(&mounts);
}
