//! What each point starts from: a store with images and containers, and things to bring into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::generator::{Image, Tar, docker_since_25, gzip, oci, practice};
use super::ground::{Ground, Input};
use super::load::{LOWER, STEPS, content};

/// The directory of each step, in two layers.
fn layers() -> Vec<Vec<u8>> {
    let mut low = Tar::new();
    let mut top = Tar::new().dir("srv");
    for (step, _) in STEPS {
        low = low.dir(step).dir(&format!("{step}/one"));
        for (name, size) in LOWER {
            let path = format!("{step}/{name}");
            if name == "one/second" {
                top = top.file(&path, &content(size));
            } else {
                low = low.file(&path, &content(size));
            }
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Link);
        header.set_mtime(super::generator::TIME);
        header.set_size(0);
        low.0.append_link(&mut header, format!("{step}/other"), format!("{step}/pair")).expect("a tar takes a link");
    }
    vec![low.finish(), top.finish()]
}

/// What is enough for all but the load.
fn small() -> Vec<Vec<u8>> {
    let mut low = Tar::new().dir("change").file("change/low", &content(9000)).file("change/gone", b"gone\n").dir("srv");
    low = low.dir("moved").file("moved/one", b"one\n");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Link);
    header.set_mtime(super::generator::TIME);
    header.set_size(0);
    low.0.append_link(&mut header, "change/pair", "moved/one").expect("a tar takes a link");
    vec![low.finish(), Tar::new().file("change/.wh.nothing", b"").file("change/top", b"").finish()]
}

/// A shell and what it needs.
fn shell() -> Vec<u8> {
    let mut tar = Tar::new().dir("proc").dir("dev").dir("sys").dir("bin");
    let libraries = Command::new("ldd").arg("/bin/sh").output().expect("ldd runs").stdout;
    let libraries = String::from_utf8_lossy(&libraries).into_owned();
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/')).chain(["/bin/sh"]);
    for path in paths.collect::<std::collections::BTreeSet<_>>() {
        let bytes = fs::read(path).expect("a program");
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_mtime(super::generator::TIME);
        header.set_size(bytes.len() as u64);
        tar.0.append_data(&mut header, path.trim_start_matches('/'), bytes.as_slice()).expect("a tar takes a file");
    }
    tar.finish()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory is made");
    fs::write(path, bytes).expect("a file is written");
}

/// Makes it in `dir`, by undisturbed runs at the place where the points are tried, as records have paths.
pub(crate) fn make(dir: &Path, place: PathBuf) -> PathBuf {
    let (ground, start) = (Ground::new(place), SystemTime::now());
    for path in ["in/tree/sub", "out", "m", "u", "l"] {
        fs::create_dir_all(ground.at(path)).expect("a directory is made");
    }
    let two = Image::new("amd64", layers(), &["two:latest"]);
    let spare = Image::new("amd64", vec![Tar::new().file("spare", b"spare\n").finish()], &["spare:latest"]);
    let sh = Image::new("amd64", vec![shell()], &["sh:latest"]);
    let small = Image::new("amd64", small(), &["small:latest"]);
    write(&ground.at("in/small.tar"), &docker_since_25(std::slice::from_ref(&small)).tar());
    write(&ground.at("in/all.tar"), &docker_since_25(&[two, small, spare, sh]).tar());
    write(&ground.at("in/practice.tar"), &docker_since_25(&[practice()]).tar());
    write(&ground.at("in/oci.tar"), &oci(&[practice()]).tar());
    let root = Tar::new().dir("etc").file("etc/name", b"root\n").link("link", "etc/name").finish();
    write(&ground.at("in/root.tar.gz"), &gzip(&root));
    write(&ground.at("in/layer.tar"), &Tar::new().file("of-layer", b"layer\n").finish());
    for (name, size) in [("a", 10), ("sub/b", 20_000), ("sub/c", 0)] {
        write(&ground.at(&format!("in/tree/{name}")), &content(size));
    }
    let run = |args: &[&str]| {
        let said = ground.run(args, Input::Nothing);
        assert!(said.is_done(), "{args:?}: {}", said.brief());
    };
    run(&["import", "in/all.tar"]);
    fs::remove_file(ground.at("in/all.tar")).expect("it is removed");
    // A lower tree of plain files, and a container with changes.
    run(&["run-mount", "--name", "l", "two", "m"]);
    run(&["cp", "-a", "l:/.", "l"]);
    run(&["umount", "l"]);
    // No name that may be the beginning of an id: what is removed twice would be another one.
    run(&["run-mount", "--name", "changed", "small", "m"]);
    for (name, size) in [("change/low", 9010), ("new", 3), ("srv/made", 70_000)] {
        write(&ground.at(&format!("m/{name}")), &content(size));
    }
    fs::remove_file(ground.at("m/change/gone")).expect("it is removed");
    fs::rename(ground.at("m/moved"), ground.at("m/srv/moved")).expect("it is renamed");
    run(&["umount", "changed"]);
    for top in ["store/diff", "l", "u", "in"] {
        set_times(&ground.at(top), start);
    }
    let template = dir.join("template");
    let status = Command::new("cp").arg("-a").args([ground.dir(), &template]).status().expect("cp starts");
    assert!(status.success(), "the template is kept");
    template
}

/// Gives what was made since `start` another time, which is the same in all templates.
fn set_times(path: &Path, start: SystemTime) {
    let meta = path.symlink_metadata().expect("it is there");
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            set_times(&entry.expect("an entry").path(), start);
        }
    }
    if meta.modified().expect("a time") >= start - Duration::from_secs(1) {
        let time = Timespec { tv_sec: 1_500_000_000, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time is set");
    }
}

/// Changes a byte of a file of a layer.
pub(crate) fn damage(ground: &Ground) {
    let diff = fs::read_dir(ground.at("store/diff")).expect("it is there").flatten();
    let file = diff
        .map(|entry| entry.path().join("change/low"))
        .find(|path| path.exists() && fs::read(path).is_ok_and(|bytes| bytes.len() == 9000));
    let file = file.expect("the layer has it");
    let mut bytes = fs::read(&file).expect("it can be read");
    bytes[100] ^= 1;
    fs::write(file, bytes).expect("it is written");
}
