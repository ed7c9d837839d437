//! Mounts that another mount namespace has too, or alone, and mounts that have gone while a process uses them.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::mount_commit::image;
use super::mount_container::pid;
use super::mounts::{Mounts, Said, passes_through, when_free};
use super::processes::{end_of, eventually, is_alive, kill, signal};

/// A process in a mount namespace of its own, which has copies of all that was mounted when it began.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-c", "echo; exec sleep 1000"])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare starts");
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut [0]).expect("it says when it is there");
        Self(child)
    }

    /// Runs a shell there.
    fn shell(&self, mounts: &Mounts, script: &str) -> Said {
        let pid = self.0.id().to_string();
        super::mounts::said(mounts.command("nsenter").args(["-t", &pid, "-m", "sh", "-c", script]))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        kill(self.0.id());
        end_of(&mut self.0);
    }
}

/// What is written by both sides is in the rw layer, and the other side's mount is dead.
#[test]
fn a_copy_in_another_namespace_keeps_no_mount_alive() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    for target in ["c", "mnt"] {
        mounts.mkdir("mnt");
        let at = mounts.mount(&["--name", "c", &base, &mounts.text("mnt")]).mountpoint;
        let other = Namespace::new();
        let content = "written\n".repeat(1_000_000);
        fs::write(at.join("here"), &content).unwrap();
        other.shell(&mounts, &format!("echo there > {}/there", at.display())).ok();
        let target = if target == "c" { "c".to_owned() } else { mounts.text("mnt") };
        mounts.umount(&target);
        assert_eq!(other.shell(&mounts, &format!("cat {}/here", at.display())).code, 1);
        assert_eq!(mounts.ps("c").0, "exited");
        assert_eq!(mounts.servers(), Vec::<u32>::new());
        let at = mounts.mount(&["--name", "c", &mounts.text("mnt")]).mountpoint;
        assert!(fs::read_to_string(at.join("here")).unwrap() == content);
        assert_eq!(fs::read_to_string(at.join("there")).unwrap(), "there\n");
        mounts.umount("c");
        mounts.run(&["rm", "c"]).ok();
    }
}

#[test]
fn a_command_ends_and_a_container_goes_whatever_namespace_has_a_copy() {
    let mounts = Mounts::with_programs();
    let mut command = mounts.program(&["run-mount", "--name", "c", "programs", "--", "sh", "-c"]);
    command.arg("echo go; cat > /from-in; echo new > /new").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
    let _other = Namespace::new();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    assert!(end_of(&mut child).success());
    assert_eq!(mounts.ps("c").0, "exited");
    let upper = mounts.inspect("c")["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(format!("{upper}/from-in")).unwrap(), "typed\n");

    // Mounted with a copy elsewhere: it is committed, exported, unmounted, mounted again and removed.
    let at = mounts.mount(&["--name", "c"]).mountpoint;
    let _third = Namespace::new();
    fs::write(at.join("more"), "more\n").unwrap();
    mounts.run(&["commit", "c", "made"]).ok();
    assert!(mounts.program(&["export", "c"]).output().unwrap().status.success());
    mounts.umount("c");
    mounts.mount(&["--name", "c"]);
    let _fourth = Namespace::new();
    when_free(|| mounts.run(&["rm", "-f", "c"])).ok();
    mounts.assert_nothing_is_live();
}

/// The server keeps the namespace alive in which it was started, and nobody else has the mount.
#[test]
fn a_mount_of_a_namespace_that_its_job_has_left_is_in_reach() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let start = || {
        let script = format!("unshare -m \"$L\" run-mount --name c {base}");
        mounts.shell(&script)
    };
    assert_eq!(start().code, 0);
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
    let server = pid(&mounts, "c");
    mounts.write("host", "copied\n");
    mounts.run(&["cp", "host", "c:/copied"]).ok();
    mounts.run(&["commit", "c", "made"]).ok();
    assert!(mounts.program(&["export", "c"]).output().unwrap().status.success());
    mounts.run(&["run-mount", "--name", "c"]).fails(125, &["container c is in use"]);
    mounts.run(&["rm", "c"]).fails(125, &["container c is in use"]);
    mounts.run(&["umount", "c"]).ok();
    assert!(!is_alive(server));
    mounts.run(&["cp", "c:/copied", "back"]).ok();
    assert_eq!(mounts.read("back"), "copied\n");
    mounts.run(&["rm", "c"]).ok();
    assert_eq!(start().code, 0);
    mounts.run(&["rm", "-f", "c"]).ok();
    mounts.assert_nothing_is_live();
}

#[test]
fn what_a_process_uses_that_was_unmounted_lazily_is_in_use_until_it_is_forced() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let at = mounts.mount(&["--name", "c", &base]).mountpoint;
    let mut open = fs::File::create(at.join("open")).unwrap();
    mounts.run(&["umount", "--lazy", "c"]).ok();
    let server = pid(&mounts, "c");
    open.write_all(b"written\n").unwrap();
    open.sync_all().unwrap();
    for command in [&["umount", "c"][..], &["rm", "c"]] {
        let said = mounts.run(command);
        assert!(said.err.contains("error: container c is in use: it is unmounted, but a process"), "{said:?}");
        assert_eq!(said.code, 125);
    }
    assert!(is_alive(server));
    let said = mounts.run(&["umount", "--force", "c"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("container c: what programs have written there and not flushed (fsync) may be lost"));
    // With passthrough the kernel writes to the file of the rw layer itself, and only the flush needs a server.
    assert!(open.write_all(b"more").and_then(|()| open.sync_all()).is_err());
    drop(open);
    assert_eq!(mounts.ps("c").0, "exited");
    let at = mounts.mount(&["--name", "c"]).mountpoint;
    let kept = if passes_through() { "written\nmore" } else { "written\n" };
    assert_eq!(fs::read_to_string(at.join("open")).unwrap(), kept);
    mounts.run(&["umount", "c"]).ok();
    mounts.assert_nothing_is_live();
}

/// A server that does nothing is waited for, but not for ever, and the mount stays.
#[test]
fn a_server_without_progress_is_given_up_and_ended_by_force_only() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let at = mounts.mount(&["--name", "c", &base]).mountpoint;
    let server = pid(&mounts, "c");
    fs::write(at.join("early"), "early\n").unwrap();
    fs::File::open(at.join("early")).unwrap().sync_all().unwrap();
    fs::write(at.join("late"), "late\n").unwrap();
    signal(server, Signal::STOP);
    let said = mounts.run(&["umount", "--timeout", "3", "c"]);
    assert_eq!(said.code, 125, "{said:?}");
    for words in [
        "layerctl: waiting until container c: all that was written to it is in its rw layer\n",
        "error: container c is still mounted: its server (process ",
        "has shown no progress for 3 seconds",
    ] {
        assert!(said.err.contains(words), "{said:?}");
    }
    assert!(mounts.mounted().contains(&at) && is_alive(server));
    // The process that has waited ends with it.
    signal(server, Signal::CONT);
    assert!(eventually(|| mounts.processes().iter().all(|process| *process == server)));
    mounts.umount("c");
    let at = mounts.mount(&["--name", "c"]).mountpoint;
    assert_eq!(fs::read_to_string(at.join("late")).unwrap(), "late\n");
    let server = pid(&mounts, "c");
    signal(server, Signal::STOP);
    let said = mounts.run(&["umount", "--force", "--timeout", "1", "c"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("may be lost"), "{said:?}");
    assert!(!is_alive(server));
    assert_eq!(mounts.ps("c").0, "exited");
    mounts.assert_nothing_is_live();
}

/// A server that is killed while its mount is flushed and ended is dead at once, and so is what has waited for it.
#[test]
fn a_server_that_is_killed_at_the_end_of_its_mount_is_gone() {
    let mounts = Mounts::with_programs();
    for round in 0..6 {
        let mut command = mounts.program(&["run-mount", "--name", "c", "programs", "--", "sh", "-c"]);
        command.arg("i=0; while [ $i -lt 300 ]; do cat /bin/sh > /f$i; i=$((i+1)); done; echo go");
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round * 7));
        let server = mounts.servers();
        server.iter().for_each(|pid| signal(*pid, Signal::KILL));
        end_of(&mut child);
        assert!(eventually(|| mounts.processes().is_empty()), "round {round}");
        assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
        mounts.run(&["rm", "-f", "c"]).ok();
    }
}

/// It is not asked for what it has lost, and its mount is not said to be none.
#[test]
fn a_server_that_does_not_answer_is_not_taken_for_one_that_is_gone() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let at = mounts.mount(&["--name", "c", &base]).mountpoint;
    let server = pid(&mounts, "c");
    signal(server, Signal::STOP);
    let said = mounts.run(&["inspect", at.to_str().unwrap()]);
    assert!(said.code == 125 && said.err.contains(&format!("(process {server}) does not answer")), "{said:?}");
    let said = mounts.run(&["inspect", "c"]);
    assert!(said.code == 0 && said.err.contains("does not answer"), "{said:?}");
    signal(server, Signal::CONT);
    mounts.umount("c");
    mounts.assert_nothing_is_live();
}

/// What is known of a server is its number in its own pid namespace, which is another process's here.
#[test]
fn a_server_of_another_pid_namespace_is_not_killed_by_its_number_there() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let mut command = mounts.command("unshare");
    command.args(["--pid", "--fork", "--kill-child", "sh", "-c"]).env("L", super::mounts::PROGRAM);
    command.arg(format!("$L run-mount --name c {base} && echo && read wait"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        std::io::BufRead::read_line(&mut said, &mut String::new()).unwrap();
    }
    let number = mounts.servers();
    let here: Vec<_> = mounts.processes().into_iter().filter(|process| is_server(*process)).collect();
    let [server] = here[..] else { panic!("{here:?}") };
    assert_ne!(number, [server]);
    signal(server, Signal::STOP);
    let said = mounts.run(&["umount", "--force", "--timeout", "1", "c"]);
    assert!(said.code == 125 && said.err.contains("of another pid namespace"), "{said:?}");
    assert!(is_alive(server));
    kill(server);
    drop(child.stdin.take());
    child.wait().unwrap();
    mounts.run(&["rm", "--force", "c"]).ok();
    mounts.assert_nothing_is_live();
}

fn is_server(process: u32) -> bool {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).nth(1) == Some(b"serve")
}
