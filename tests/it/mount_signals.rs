//! How a command in a container ends that is sent a signal, or whose caller or server is killed.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process_group};

use super::mount_command::{Running, containers, script_in_box, upper};
use super::mounts::{Mounts, PROGRAM, names};
use super::processes::{end_of, eventually, kill, signal};

#[test]
fn a_signal_reaches_the_command() {
    let mounts = Mounts::with_programs();
    for (number, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
    ] {
        let inside = format!("trap 'echo {name} > /caught; exit 3' {name}; echo go; while :; do sleep 0.02; done");
        let running = Running::start(&mounts, &inside);
        assert_eq!(mounts.ps("box").0, "running");
        signal(running.child.id(), number);
        assert_eq!(running.end(&mounts), (Some(3), String::new()), "{name}");
        assert_eq!(super::mounts::read(&upper(&mounts, "caught")), format!("{name}\n"));
        assert_eq!(mounts.ps("box"), ("exited".to_owned(), None));
    }
    // One that does not catch it is ended by it.
    let running = Running::start(&mounts, "echo go; exec sleep 1000");
    signal(running.child.id(), Signal::TERM);
    assert_eq!(running.end(&mounts), (Some(143), String::new()));
}

#[test]
fn a_signal_to_the_process_group_ends_all_in_order() {
    let mounts = Mounts::with_programs();
    let mut command = mounts.program(&["run-mount", "--name", "box", "programs", "--", "sh", "-c"]);
    command.arg("trap 'echo caught > /caught; exit 4' INT; echo go; while :; do sleep 0.02; done").process_group(0);
    let running = Running::of(command);
    let group = Pid::from_raw(i32::try_from(running.child.id()).unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    assert_eq!(running.end(&mounts), (Some(4), String::new()));
    assert_eq!(super::mounts::read(&upper(&mounts, "caught")), "caught\n");
    assert_eq!(mounts.ps("box"), ("exited".to_owned(), None));
}

/// With script(1), which has a terminal made for its command, and types what it reads.
#[test]
fn ctrl_c_at_a_terminal_ends_the_command_and_the_mount() {
    let mounts = Mounts::with_programs();
    for (inside, code) in [
        ("echo go; exec sleep 1000", 130),
        ("trap 'echo caught > /caught; exit 5' INT; echo go; while :; do sleep 0.02; done", 5),
    ] {
        let mut command = mounts.command("script");
        let line = "exec \"$L\" run-mount --name box programs -- sh -c \"$INSIDE\"";
        command.env("L", PROGRAM).env("INSIDE", inside).args(["-qec", line, "/dev/null"]);
        let mut running = Running::of(command);
        let mut keys = running.child.stdin.take().unwrap();
        keys.write_all(b"\x03").unwrap();
        let code_and_text = running.end(&mounts);
        assert_eq!(code_and_text, (Some(code), String::new()), "{inside}");
        assert_eq!(mounts.ps("box"), ("exited".to_owned(), None));
    }
    assert_eq!(super::mounts::read(&upper(&mounts, "caught")), "caught\n");
}

#[test]
fn nothing_is_left_of_a_killed_caller() {
    let mounts = Mounts::with_programs();
    let inside = "sleep 1000 & (sleep 1000 & ) ; echo new > /new; trap '' TERM INT HUP; echo go; sleep 1000";
    let mut running = Running::start(&mounts, inside);
    kill(running.child.id());
    end_of(&mut running.child);
    assert!(eventually(|| mounts.processes().is_empty() && mounts.mounted().is_empty()));
    running.is_over(&mounts);
    assert_eq!(mounts.ps("box"), ("exited".to_owned(), None));
    assert_eq!(names(&mounts.at("store/mnt")), Vec::<String>::new());
    let said = mounts.run(&["run-mount", "--name", "box", "--", "cat", "/new"]);
    assert_eq!(said.ok(), "new\n");
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let mounts = Mounts::with_programs();
    let inside =
        "sleep 1000 > /dev/null 2>&1 & (trap '' TERM HUP; sleep 1000 > /dev/null 2>&1 &); echo go; read line; exit 6";
    let mut running = Running::start(&mounts, inside);
    drop(running.child.stdin.take());
    assert_eq!(running.end(&mounts), (Some(6), String::new()));
}

#[test]
fn a_server_that_is_killed_under_a_command_is_told_of() {
    let mounts = Mounts::with_programs();
    let mut running = Running::start(&mounts, "echo new > /new; echo go; read line; exit 0");
    // From out here, as the container has no sync(1).
    let mountpoint = mounts.mounted().pop().unwrap();
    fs::File::open(mountpoint.join("new")).unwrap().sync_all().unwrap();
    let server = mounts.servers();
    assert_eq!(server.len(), 1);
    // Its starter puts the container in order as soon as it sees that.
    signal(running.child.id(), Signal::STOP);
    kill(server[0]);
    assert_eq!(mounts.ps("box").0, "dead");
    signal(running.child.id(), Signal::CONT);
    drop(running.child.stdin.take());
    let status = end_of(&mut running.child);
    let stderr = std::io::read_to_string(running.child.stderr.take().unwrap()).unwrap();
    assert_eq!(status.code(), Some(125));
    assert!(stderr.starts_with("error: ") && stderr.contains("server") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(mounts.mounted(), Vec::<PathBuf>::new());
    // What was written is there, as the container was there before its server ended.
    assert_eq!(script_in_box(&mounts, "cat /new").ok(), "new\n");
    assert_eq!(mounts.ps("box").0, "exited");
    running.is_over(&mounts);
    mounts.run(&["rm", "box"]).ok();

    let mut command = mounts.program(&["run-mount", "--rm", "programs", "--", "sh", "-c"]);
    command.arg("echo go; read line");
    let mut running = Running::of(command);
    mounts.servers().into_iter().for_each(kill);
    drop(running.child.stdin.take());
    assert_eq!(end_of(&mut running.child).code(), Some(125));
    assert_eq!((containers(&mounts), mounts.mounted()), (0, Vec::new()));
    running.is_over(&mounts);
}

#[test]
fn the_end_waits_for_no_other_mount_namespace() {
    let mounts = Mounts::with_programs();
    let running =
        Running::start(&mounts, "trap 'echo late > /late; exit 3' TERM; echo go; while :; do sleep 0.02; done");
    // As a service or another container that is started meanwhile: it has a copy of every mount.
    let mut other = Command::new("unshare");
    let mut other = other.args(["--mount", "--propagation", "private", "sleep", "600"]).spawn().unwrap();
    let mountpoint = PathBuf::from(mounts.inspect("box")["Mountpoint"].as_str().unwrap());
    let table = format!("/proc/{}/mountinfo", other.id());
    let exe = format!("/proc/{}/comm", other.id());
    let settled = super::processes::eventually(|| {
        fs::read_to_string(&exe).is_ok_and(|name| name == "sleep\n")
            && fs::read_to_string(&table).is_ok_and(|table| table.contains(mountpoint.to_str().unwrap()))
    });
    signal(running.child.id(), Signal::TERM);
    let ended = running.end(&mounts);
    let _ = other.kill();
    let _ = other.wait();
    assert!(settled, "the other namespace has the mount");
    assert_eq!(ended, (Some(3), String::new()));
    assert_eq!(super::mounts::read(&upper(&mounts, "late")), "late\n");
}
