//! A mount on a disk that runs full: a `write` says so, and what is lost all the same is said.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;

use super::disk::Disk;
use super::mount_commit::image;
use super::mount_container::pid;
use super::mounts::{Mounts, mount_line};
use super::processes::{end_of, eventually, signal};

const EXT4: [&str; 3] = ["-q", "-m", "0"];
const MEGABYTES: u64 = 96;
/// What is kept back of such a disk.
const KEPT: u64 = 4 << 20;

struct Full {
    // The mounts go before their disk.
    mounts: Mounts,
    disk: Disk,
}

impl Full {
    fn new() -> Self {
        let mounts = Mounts::new();
        let disk = Disk::new(&mounts.at(""), "disk", MEGABYTES, "mkfs.ext4", &EXT4);
        for dir in ["disk/upper", "lower", "mnt"] {
            mounts.mkdir(dir);
        }
        Self { mounts, disk }
    }

    fn union(&self) {
        self.mounts.run(&["union", "-o", "io=cached,dirs=disk/upper:lower", "mnt"]).ok();
    }

    fn leave(&self, bytes: u64) {
        self.disk.leave_blocks(bytes / self.disk.room().f_frsize);
    }

    fn is_synchronous(&self) -> bool {
        mount_line(&self.mounts.at("mnt")).is_some_and(|line| line.options.contains(&"sync".to_owned()))
    }

    fn upper(&self, name: &str) -> PathBuf {
        self.mounts.at("disk/upper").join(name)
    }
}

#[test]
fn what_a_shell_has_written_to_a_full_disk_is_there() {
    let full = Full::new();
    full.union();
    full.leave(KEPT / 2);
    // The mount learns of it with the next change, or within a second.
    assert!(eventually(|| full.is_synchronous()));
    full.leave(100 << 10);
    let script = "for i in $(seq 50); do { printf %9000s $i > mnt/$i; } 2>&- && echo $i; done";
    let said = full.mounts.shell(script);
    let written: Vec<_> = said.out.lines().collect();
    assert!(!written.is_empty() && written.len() < 50, "{said:?}");
    full.mounts.umount(&full.mounts.text("mnt"));
    for name in written {
        assert_eq!(fs::read(full.upper(name)).unwrap().len(), 9000, "{name}");
    }
}

/// It ends, and all that it was told is written is there.
#[test]
fn a_write_without_end_is_told_that_the_disk_is_full() {
    let full = Full::new();
    full.union();
    let mut file = File::create(full.mounts.at("mnt/big")).unwrap();
    let block = vec![b'x'; 1 << 18];
    let mut written = 0;
    let error = loop {
        match file.write(&block) {
            Ok(length) => written += length as u64,
            Err(error) => break error,
        }
        assert!(written < MEGABYTES << 20, "more is written than the disk can have");
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    drop(file);
    full.mounts.umount(&full.mounts.text("mnt"));
    assert!(fs::metadata(full.upper("big")).unwrap().len() >= written);
    assert!(
        fs::read(full.upper("big")).unwrap().iter().take(usize::try_from(written).unwrap()).all(|byte| *byte == b'x')
    );

    // With room again writes are gathered again, and with little from the first on they are not.
    full.union();
    assert!(full.is_synchronous());
    full.mounts.run(&["union", "-o", "remount,rw", "mnt"]).ok();
    assert!(full.is_synchronous());
    fs::remove_file(full.mounts.at("mnt/big")).unwrap();
    assert!(eventually(|| !full.is_synchronous()));
    full.mounts.umount(&full.mounts.text("mnt"));
}

/// Another program fills the disk while the kernel holds what was written: that is lost, and `umount` says so.
#[test]
fn what_is_lost_is_said_by_umount_commit_and_export() {
    let full = Full::new();
    full.union();
    let file = File::create(full.mounts.at("mnt/dir-less")).unwrap();
    file.write_all_at(&vec![b'x'; 2 << 20], 0).unwrap();
    full.leave(0);
    drop(file);
    let said = full.mounts.run(&["umount", &full.mounts.text("mnt")]);
    let is_all_there = fs::read(full.upper("dir-less")).unwrap() == vec![b'x'; 2 << 20];
    assert_eq!(said.code == 0, is_all_there, "{said:?}");
    if !is_all_there {
        said.fails(
            125,
            &["is unmounted, but what programs have written to a file is lost", "/dir-less: No space left"],
        );
    }
}

/// The same of containers, whose store is on the disk.
#[test]
fn a_container_that_has_lost_something_is_no_image_until_that_is_said() {
    let mounts = Mounts::new();
    let disk = Disk::new(&mounts.at(""), "store", MEGABYTES, "mkfs.ext4", &EXT4);
    let base = image(&mounts);
    mounts.mkdir("mnt");
    let at = mounts.mount(&["--io", "cached", "--name", "c", &base, &mounts.text("mnt")]).mountpoint;
    // Larger than what is left: a copy-up finds no room, and the write that needs it was said to be done.
    let large = vec![b'l'; 6 << 20];
    fs::write(at.join("large"), &large).unwrap();
    mounts.umount("c");
    mounts.run(&["commit", "c", "large"]).ok();
    let at = mounts.mount(&["--io", "cached", "--name", "d", "large", &mounts.text("mnt")]).mountpoint;
    disk.leave_blocks((5 << 20) / disk.room().f_frsize);
    File::options().write(true).open(at.join("large")).unwrap().write_all_at(b"changed", 0).unwrap();
    let words = ["container d: what programs have written to a file is lost", "/large: No space left on device"];
    mounts.run(&["commit", "d", "made"]).fails(125, &words);
    mounts.run(&["export", "d", "-o", &mounts.text("d.tar")]).fails(125, &words);
    assert!(!mounts.at("d.tar").exists());
    mounts.run(&["umount", "d"]).fails(125, &["container d is unmounted, but what programs", "/large: No space left"]);
    assert_eq!(mounts.ps("d").0, "exited");
    // It was said, so that it is taken as it is.
    disk.empty();
    mounts.run(&["commit", "d", "made"]).ok();
    mounts.run(&["rm", "c", "d"]).ok();
}

/// A killed server leaves no process that waits for it, whatever was to be changed of its mount.
#[test]
fn a_server_that_is_killed_while_its_mount_is_made_synchronous_is_gone() {
    let mounts = Mounts::new();
    let disk = Disk::new(&mounts.at(""), "store", MEGABYTES, "mkfs.ext4", &EXT4);
    let base = image(&mounts);
    mounts.mkdir("mnt");
    for round in 0..6u64 {
        let name = format!("c{round}");
        mounts.mount(&["--io", "cached", "--name", &name, &base, &mounts.text("mnt")]);
        let mut writer = mounts.command("dd");
        writer.args(["if=/dev/zero", "bs=64k", "of=mnt/f"]).stderr(Stdio::null());
        let mut writer = writer.spawn().expect("dd starts");
        let server = pid(&mounts, &name);
        assert!(eventually(|| disk.room().f_bavail * disk.room().f_frsize < KEPT * 2));
        std::thread::sleep(std::time::Duration::from_millis(round * 5));
        signal(server, Signal::KILL);
        // Without a server what is written is gone at once, so that it would never end.
        assert!(eventually(|| !mounts.processes().contains(&server)), "round {round}");
        writer.kill().unwrap();
        end_of(&mut writer);
        assert!(eventually(|| mounts.processes().is_empty()), "round {round}");
        mounts.run(&["rm", "-f", &name]).ok();
        assert!(!mounts.mounted().contains(&mounts.at("mnt")), "round {round}");
    }
}

/// A change of the mode has begun the copy without data; then there is no room for these.
#[test]
fn a_copy_up_for_which_there_is_no_room_takes_none() {
    let mounts = Mounts::new();
    let disk = Disk::new(&mounts.at(""), "store", MEGABYTES, "mkfs.ext4", &EXT4);
    let size = 24 << 20;
    mounts.mkdir("tree");
    fs::write(mounts.at("tree/big"), vec![b'x'; size]).unwrap();
    mounts.shell("tar -C tree -cf image.tar .").ok();
    mounts.run(&["import", "--tag", "i", "image.tar"]).ok();
    let big = mounts.mount(&["--name", "c", "i"]).mountpoint.join("big");
    fs::set_permissions(&big, fs::Permissions::from_mode(0o600)).unwrap();
    disk.leave_blocks((16 << 20) / disk.room().f_frsize);
    let before = disk.room().f_bavail * disk.room().f_frsize;
    let append = |mut file: File| file.write_all(b"y").and_then(|()| file.sync_all());
    let appended = File::options().append(true).open(&big).and_then(append);
    assert_eq!(appended.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    rustix::fs::sync();
    let after = disk.room().f_bavail * disk.room().f_frsize;
    assert!(after + (2 << 20) > before, "{before} bytes of room became {after}");
    assert_eq!(fs::read(&big).unwrap().iter().filter(|byte| **byte == b'x').count(), size);
    mounts.run(&["rm", "-f", "c"]).ok();
}
