//! What others see of a container whose mount has gone while its server still puts all in order.

use std::fs;

use super::disk::{Disk, system};
use super::mount_commit::image;
use super::mounts::{Mounts, said};

const ROUNDS: usize = 12;

#[test]
fn what_follows_an_unmount_at_once_is_of_the_container_and_not_of_its_mountpoint() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    mounts.mkdir("mnt");
    mounts.write("host", "copied\n");
    for round in 0..ROUNDS {
        let name = format!("c{round}");
        let at = mounts.mount(&["--name", &name, &base, &mounts.text("mnt")]).mountpoint;
        for number in 0..200 {
            fs::write(at.join(format!("new-{number}")), "new\n").unwrap();
        }
        rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
        match round % 4 {
            0 => {
                let tar = mounts.program(&["export", &name]).output().unwrap();
                assert!(tar.status.success(), "{tar:?}");
                let mut archive = tar::Archive::new(&*tar.stdout);
                assert!(archive.entries().unwrap().count() > 200, "round {round}");
            }
            1 => {
                mounts.run(&["cp", "host", &format!("{name}:/copied")]).ok();
                assert_eq!(fs::read_dir(mounts.at("mnt")).unwrap().count(), 0, "round {round}");
                mounts.run(&["cp", &format!("{name}:/copied"), &format!("back-{round}")]).ok();
                assert_eq!(mounts.read(&format!("back-{round}")), "copied\n");
            }
            2 => {
                let said = mounts.run(&["diff", &name]).ok();
                assert!(said.contains("A /new-199\n") && !said.contains("D /"), "{said}");
            }
            _ => {
                mounts.run(&["commit", &name, "-t", "made"]).ok();
                let said = mounts.run(&["explain", &name, "/new-7"]).ok();
                assert!(!said.is_empty(), "round {round}");
            }
        }
    }
}

/// What a power cut would leave after `umount` of a container, and of a union.
#[test]
fn what_is_unmounted_is_on_the_disk() {
    let mounts = Mounts::new();
    let disk = Disk::new(&mounts.at(""), "store", 64, "mkfs.ext4", &["-q"]);
    let base = image(&mounts);
    for dir in ["mnt", "lower", "store/upper", "cut"] {
        mounts.mkdir(dir);
    }
    let content = "written\n".repeat(100_000);
    for (number, mount) in
        ["$L run-mount --name c BASE mnt", "$L union -o dirs=store/upper:lower mnt"].iter().enumerate()
    {
        mounts.shell(&mount.replace("BASE", &base));
        let new = if number == 0 {
            let upper = mounts.inspect("c")["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().to_owned();
            std::path::PathBuf::from(upper).join("new").strip_prefix(disk.path()).unwrap().to_owned()
        } else {
            "upper/new".into()
        };
        fs::write(mounts.at("mnt/new"), &content).unwrap();
        mounts.umount(&mounts.text("mnt"));
        let cut = mounts.at("cut.disk");
        fs::copy(mounts.at("store.disk"), &cut).unwrap();
        system("mount", &["-o", "loop"], &[&cut, &mounts.at("cut")]);
        assert!(fs::read_to_string(mounts.at("cut").join(&new)).is_ok_and(|found| found == content), "{mount}");
        mounts.umount8(mounts.at("cut"));
    }
}

#[test]
fn a_mount_that_nobody_is_told_of_does_not_stay() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let containers = || super::mount_command::containers(&mounts);
    let gone = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    mounts.run(&["run-mount", "--name", "kept", &base, "--", "nosuch"]).fails(127, &["nosuch"]);
    mounts.mount(&["--name", "kept", &base]);
    mounts.umount("kept");
    let before = containers();
    for args in [&["run-mount", &base][..], &["run-mount", "--rm", &base], &["run-mount", "--name", "kept"]] {
        for format in [&[][..], &["--format", "json"]] {
            let full = fs::File::options().write(true).open("/dev/full").unwrap();
            let mut command = mounts.program(&[format, args].concat());
            said(command.stdout(full)).fails(125, &["standard output", "No space left on device"]);
            let mut command = mounts.program(&[format, args].concat());
            said(command.stdout(gone())).fails(125, &["standard output", "Broken pipe"]);
            mounts.assert_nothing_is_live();
            assert_eq!(containers(), before, "{args:?}");
        }
    }
    assert_eq!(mounts.ps("kept").0, "exited");
}
