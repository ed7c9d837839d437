//! `--io kernel`: what commands do that come at a bad moment: beside each other, after a kill, over a dead image server.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use super::kernel_mount::{assert_nothing_stays, ready};
use super::mount_container::with_plain;
use super::mounts::{Mounts, mount_line, read};
use super::processes::{end_of, eventually, kill};
use super::root_fs::{add, finish, with_programs};

fn kernel(mounts: &Mounts, args: &[&str]) -> PathBuf {
    mounts.mount(&[&["--io", "kernel"], args].concat()).mountpoint
}

fn has(at: &Path, option: &str) -> bool {
    mount_line(at).expect("it is mounted").options.iter().any(|has| has == option)
}

/// A `commit` that has just made the mount read-only, and has much to read.
fn committing(mounts: &Mounts, at: &Path) -> Child {
    let mut child = mounts.program(&["commit", "box", "made"]).stdout(Stdio::null()).spawn().unwrap();
    while !has(at, "ro") {
        assert!(child.try_wait().unwrap().is_none(), "it has ended already");
        std::thread::sleep(Duration::from_micros(200));
    }
    child
}

fn with_much(mounts: &Mounts) -> PathBuf {
    let at = kernel(mounts, &["--name", "box", "plain"]);
    File::create(at.join("much")).unwrap().set_len(100 << 20).unwrap();
    at
}

#[test]
fn a_command_outlives_the_server_of_its_image() {
    let mounts = Mounts::with_programs();
    let mut command = mounts.program(&["run-mount", "--io", "kernel", "--name", "box", "programs", "--"]);
    command.args(["sh", "-c", "echo one > /file; echo ready; read line; echo two >> /file; exit 7"]);
    let mut child = ready(command);
    let [server] = *mounts.servers() else { panic!("one server") };
    kill(server);
    assert!(eventually(|| mounts.ps("box").0 == "dead"));
    for refused in [
        &["rm", "box"][..],
        &["umount", "box"],
        &["run-mount", "--io", "kernel", "--name", "box"],
        &["prune", "--containers"],
    ] {
        let said = mounts.run(refused);
        assert_eq!(child.try_wait().unwrap(), None, "{refused:?} has ended the command: {said:?}");
    }
    mounts.run(&["rm", "box"]).fails(125, &["box", "in use"]);
    mounts.run(&["umount", "box"]).fails(125, &["box", "its command is still running"]);
    drop(child.stdin.take());
    assert_eq!(end_of(&mut child).code(), Some(7));
    let again = ["run-mount", "--io", "kernel", "--name", "box", "--", "cat", "/file"];
    assert_eq!(mounts.run(&again).ok(), "one\ntwo\n");
    mounts.run(&["rm", "-f", "box"]).ok();
    assert_nothing_stays(&mounts);
}

#[test]
fn what_is_mounted_over_a_container_is_left_alone() {
    let mounts = with_plain();
    let at = kernel(&mounts, &["--name", "box", "plain"]);
    fs::write(at.join("new"), "written").unwrap();
    mount("over", &at, "tmpfs", MountFlags::NOSUID, None).unwrap();
    let said = mounts.run(&["commit", "box", "made"]);
    let line = mount_line(&at).unwrap();
    unmount(&at, UnmountFlags::DETACH).unwrap();
    assert!(!line.options.contains(&"ro".into()) && line.options.contains(&"nosuid".into()), "{line:?}");
    said.fails(125, &["tmpfs", "mounted over it"]);
    mounts.run(&["commit", "box", "made"]);
    assert_eq!(mounts.run(&["diff", "made"]).ok(), "A /new\n");
    mounts.umount("box");
    assert_nothing_stays(&mounts);
}

#[test]
fn flags_of_the_mount_stay() {
    let mounts = with_plain();
    let at = kernel(&mounts, &["--name", "box", "plain"]);
    let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    mount_remount(&at, flags, "").unwrap();
    let stay = || ["nosuid", "nodev", "noexec", "noatime", "rw"].iter().all(|option| has(&at, option));
    assert!(stay());
    assert_eq!(mounts.run(&["commit", "box", "made"]).code, 0);
    assert!(stay(), "after a commit: {:?}", mount_line(&at));
    let file = File::open(at.join("file")).unwrap();
    mounts.run(&["umount", "box"]).fails(125, &["box", "in use"]);
    assert!(stay(), "after umount: {:?}", mount_line(&at));
    drop(file);
    mounts.umount("box");
    assert_nothing_stays(&mounts);
}

#[test]
fn umount_waits_for_a_commit() {
    let mounts = with_plain();
    let at = with_much(&mounts);
    let mut first = committing(&mounts, &at);
    // It would be refused while the file is open, and must not make the mount writable.
    let file = File::open(at.join("file")).unwrap();
    let mut second = mounts.program(&["umount", "box"]).stderr(Stdio::null()).spawn().unwrap();
    loop {
        let has_ended = second.try_wait().unwrap().is_some();
        if first.try_wait().unwrap().is_some() {
            break;
        }
        assert!(!has_ended, "it does not wait");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(end_of(&mut first).success());
    assert_eq!(end_of(&mut second).code(), Some(125));
    drop(file);
    let mut first = committing(&mounts, &at);
    mounts.run(&["umount", "box"]);
    assert!(end_of(&mut first).success());
    assert_eq!(mounts.ps("box").0, "exited");
    assert_nothing_stays(&mounts);
}

#[test]
fn commits_of_one_container_come_one_after_the_other() {
    let mounts = with_plain();
    let at = with_much(&mounts);
    let mut all = vec![committing(&mounts, &at)];
    // Nothing is written meanwhile: a file that is open to be written makes a commit fail, and says so.
    let more = || mounts.program(&["commit", "box"]).stdout(Stdio::null()).spawn().unwrap();
    all.extend([more(), more()]);
    assert!(all.iter_mut().all(|child| end_of(child).success()));
    assert!(has(&at, "rw") && !has(&at, "ro"));
    mounts.umount("box");
    assert_nothing_stays(&mounts);
}

#[test]
fn a_killed_commit_leaves_no_mount_read_only() {
    let mounts = with_plain();
    let at = with_much(&mounts);
    let reader = File::open(at.join("file")).unwrap();
    for next in [
        &["commit", "box"][..],
        &["run-mount", "--io", "kernel", "--name", "box"],
        &["umount", "box"],
        &["commit", "--live", "box"],
        &["diff", "box"],
        &[],
    ] {
        let mut child = committing(&mounts, &at);
        kill(child.id());
        end_of(&mut child);
        if next.is_empty() {
            assert!(eventually(|| !has(&at, "ro")), "the server of the image sees to it");
        } else {
            mounts.run(next);
        }
        assert!(!has(&at, "ro"), "{next:?}");
        fs::write(at.join("new"), "written").unwrap();
    }
    // What the user has made read-only stays so.
    drop(reader);
    mount_remount(&at, MountFlags::RDONLY, "").unwrap();
    mounts.run(&["diff", "box"]);
    std::thread::sleep(Duration::from_secs(1));
    assert!(has(&at, "ro"));
    mounts.umount("box");
    assert_nothing_stays(&mounts);
}

#[test]
fn the_mount_points_of_a_command_have_the_usual_modes() {
    let mounts = Mounts::new();
    let mut tar = tar::Builder::new(Vec::new());
    let all = with_programs(&["touch"]);
    let mut archive = tar::Archive::new(&all[..]);
    for entry in archive.entries().unwrap() {
        use std::io::Read as _;
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        if path.starts_with("etc") {
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let is_file = entry.header().entry_type() == tar::EntryType::Regular;
        add(&mut tar, &path, 0o755, is_file.then_some(&content[..]));
    }
    mounts.import("none", &finish(tar));
    let run = "umask 077; exec \"$0\" run-mount --io kernel --name box none -- sh -c 'touch /etc/new; ls -ld /etc'";
    let mut command = mounts.command("sh");
    let said = super::mounts::said(command.args(["-c", run, super::mounts::PROGRAM]));
    assert!(said.out.starts_with("drwxr-xr-x "), "{said:?}");
    assert_nothing_stays(&mounts);
}

#[test]
fn a_damaged_container_is_no_matter_of_others() {
    let mounts = Mounts::with_programs();
    let at = kernel(&mounts, &["--name", "box", "programs"]);
    let other = kernel(&mounts, &["--name", "other", "programs"]);
    let id = mounts.inspect("other")["Id"].as_str().unwrap().to_owned();
    mounts.umount("other");
    assert!(!other.exists());
    fs::write(mounts.at(&format!("store/containers/{id}/mount.json")), "{").unwrap();
    let run = ["run-mount", "--io", "kernel", "--rm", "programs", "--", "sh", "-c", "exit 3"];
    assert_eq!(mounts.run(&run).code, 3);
    assert_eq!(read(&at.join("file")), "of the image\n");
    mounts.umount("box");
    assert_eq!(mounts.run(&run).code, 3);
    mounts.run(&["rm", "-f", "other"]);
    assert_nothing_stays(&mounts);
}

#[test]
fn looking_at_a_container_keeps_no_other_from_mounting_it() {
    let mounts = with_plain();
    let at = mounts.mkdir("mnt");
    let (at, done) = (at.to_str().unwrap().to_owned(), std::sync::atomic::AtomicBool::new(false));
    kernel(&mounts, &["--name", "box", "plain", &at]);
    mounts.umount("box");
    let id = mounts.inspect("box")["Id"].as_str().unwrap().to_owned();
    let upper = mounts.at(&format!("store/diff/{id}"));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    layerctl::sys::is_upper_in_use(&upper).unwrap();
                }
            });
        }
        let all: Vec<_> = (0..20)
            .map(|_| {
                let mounted = mounts.run(&["run-mount", "--io", "kernel", "--name", "box", "plain", &at]);
                mounts.run(&["umount", "box"]);
                mounted
            })
            .collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let failed: Vec<_> = all.iter().filter(|said| said.code != 0).collect();
        assert!(failed.is_empty(), "{failed:?}");
    });
    assert_nothing_stays(&mounts);
}
