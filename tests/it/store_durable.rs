//! What an import asks of the disk, and that what dead processes have left holds nobody up.

use super::disk::Disk;
use super::generator::{Image, Tar, docker_since_25};
use rustix::process::Signal;

use super::mounts::{Mounts, said};
use super::processes::{end_of, eventually, signal};

/// An image of so many layers of so many files.
pub(crate) fn image(name: &str, layers: usize, files: usize) -> Image {
    let layer = |number: usize| {
        let file = |tar: Tar, file: usize| tar.file(&format!("{name}-{number}/{file}"), format!("{file}").as_bytes());
        (0..files).fold(Tar::new(), file).finish()
    };
    Image::new("amd64", (0..layers).map(layer).collect(), &[name])
}

#[test]
fn an_import_flushes_once_for_all_files_and_layers() {
    let mounts = Mounts::new();
    mounts.mkdir("disk");
    let import = |options: &[&str], image: &Image| {
        std::fs::write(mounts.at("archive"), docker_since_25(std::slice::from_ref(image)).tar()).unwrap();
        let words = [&["--quiet", "import", "archive"], options].concat();
        let trace = mounts.text("trace");
        let mut strace = mounts.command("strace");
        strace
            .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", &trace])
            .arg(super::mounts::PROGRAM);
        said(strace.args(words).env("LAYERCTL_ROOT", mounts.at("disk/store"))).ok();
        std::fs::read_to_string(trace).unwrap().lines().filter(|line| line.contains("sync(")).count()
    };
    import(&[], &image("first", 1, 1));
    let small = import(&[], &image("small", 1, 1));
    let large = import(&[], &image("large", 5, 200));
    assert!(small > 0 && small == large, "{small} flushes for one file, {large} for 1,000");
    assert_eq!(import(&["--no-sync"], &image("none", 2, 20)), 0);
    let images = said(mounts.program(&["images"]).env("LAYERCTL_ROOT", mounts.at("disk/store"))).ok();
    assert_eq!(images.lines().count(), 5, "{images}");
}

#[test]
fn inspect_shows_branches_whose_names_are_no_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let mounts = Mounts::new();
    let dir = mounts.at("").join(std::ffi::OsStr::from_bytes(b"st\xffre"));
    let tar = mounts.text("plain.tar");
    std::fs::write(&tar, super::root_fs::plain()).unwrap();
    mounts.mkdir("mnt");
    let run = |words: &[&str]| said(mounts.program(words).env("LAYERCTL_ROOT", &dir));
    let image = run(&["--quiet", "import", &tar]).ok();
    run(&["run-mount", "--name", "c", image.trim_end(), "mnt"]).ok();
    let seen = run(&["inspect", "c", image.trim_end()]);
    let brs = std::fs::read_dir(dir.join("run")).unwrap().next().unwrap().unwrap().path().join("br0");
    let first = std::fs::read(brs).unwrap();
    run(&["rm", "-f", "c"]).ok();
    let seen: serde_json::Value = serde_json::from_str(&seen.ok()).unwrap();
    let branches = seen[0]["Branches"].as_array().expect("there are branches").clone();
    assert_eq!(branches.len(), 2);
    assert!(branches[1]["Path"].as_str().unwrap().contains("/st\u{fffd}re/diff/"), "{branches:?}");
    assert!(seen[0]["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().contains("/st\u{fffd}re/diff/"));
    assert!(first.windows(6).any(|part| part == b"/st\xffre"), "the file has the bytes");
}

#[test]
fn what_a_dead_import_has_left_holds_the_next_one_up_no_more_than_to_its_end() {
    let mounts = Mounts::new();
    // Where there is little room, what is left goes first.
    let disk = Disk::new(&mounts.at(""), "store", 64, "mkfs.ext4", &["-q", "-m", "0"]);
    mounts.run(&["images"]).ok();
    // The removal comes to a mount whose server does not answer.
    let stuck = "store/tmp/0123456789abcdef/layer-0/diff/stuck";
    mounts.mkdir(stuck);
    let owner = std::fs::File::create(mounts.at("store/tmp/0123456789abcdef/owner")).unwrap();
    rustix::fs::flock(&owner, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for dir in ["upper", "lower"] {
        mounts.mkdir(dir);
    }
    mounts.run(&["union", "-o", "dirs=upper:lower", stuck]).ok();
    // Until here it lives, as the union would collect it too.
    rustix::fs::flock(&owner, rustix::fs::FlockOperation::Unlock).unwrap();
    let server = u32::try_from(mounts.inspect(mounts.at(stuck))["Pid"].as_u64().unwrap()).unwrap();
    std::fs::write(mounts.at("archive"), docker_since_25(&[image("next", 2, 3)]).tar()).unwrap();
    signal(server, Signal::STOP);
    let mut import =
        mounts.program(&["--quiet", "import", "archive"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let has_come = eventually(|| mounts.run(&["images"]).out.contains("next"));
    let is_collecting = import.try_wait().unwrap().is_none();
    // Who mounts does not even wait for the end.
    let mounted = mounts.run(&["run-mount", "--name", "c", "next"]);
    signal(server, Signal::CONT);
    assert!(has_come && is_collecting, "{has_come} {is_collecting}");
    mounted.ok();
    assert!(end_of(&mut import).success());
    mounts.umount(&mounts.text(stuck));
    mounts.run(&["rm", "-f", "c"]).ok();
    mounts.run(&["rmi", "next"]).ok();
    assert_eq!(super::mounts::names(&mounts.at("store/tmp")), Vec::<String>::new());
    drop(disk);
}
