//! `--io kernel`: a running command, whose tree is in its own mount namespace only, and other commands that need it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::kernel_mount::{assert_nothing_stays, ready};
use super::mounts::{Mounts, names, read};
use super::processes::{descendants, end_of, eventually, is_alive, kill};

/// A command that counts as fast as it can, in two files that are the same at each moment it does not run.
const COUNT: &str = "n=0; echo ready; while :; do n=$((n+1)); echo $n > /one; echo $n > /two; done";

fn run(mounts: &Mounts, script: &str) -> Child {
    ready(mounts.program(&["run-mount", "--io", "kernel", "--name", "box", "programs", "--", "sh", "-c", script]))
}

fn content(mounts: &Mounts, image: &str, path: &str) -> String {
    mounts.run(&["run-mount", "--rm", image, "--", "cat", path]).ok()
}

/// What freezes processes here, and every group in it.
fn groups() -> Vec<PathBuf> {
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(dir) = left.pop() {
        // One that has just gone has no groups.
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        left.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
        found.push(dir);
    }
    found
}

/// No control group of this container is left.
#[track_caller]
fn assert_no_group(id: &str) {
    let left =
        || groups().into_iter().filter(|group| group.ends_with(format!("layerctl-{}", &id[..12]))).collect::<Vec<_>>();
    assert!(eventually(|| left().is_empty()), "{:?}", left());
}

fn id(mounts: &Mounts) -> String {
    mounts.inspect("box")["Id"].as_str().unwrap().to_owned()
}

#[test]
fn a_running_command_is_committed_as_it_was_at_one_moment() {
    let mounts = Mounts::with_programs();
    let mut child = run(&mounts, COUNT);
    let id = id(&mounts);
    let mut last = 0;
    for round in 0..4 {
        let image = format!("made{round}");
        let said = mounts.run(&["commit", "box", &image]);
        assert_eq!(said.code, 0, "{said:?}");
        let counted = |path| content(&mounts, &image, path).trim().parse::<i64>().unwrap_or(0);
        let (one, two) = (counted("/one"), counted("/two"));
        // The shell may stop between the two, or between the truncation of a file and its write.
        assert!(one == two || one == two + 1 || one == 0 || two == 0, "{one} {two}");
        assert!(one.max(two) > last, "it has gone on since {last}: {one} {two}");
        last = one.max(two);
    }
    assert_no_group(&id);
    mounts.run(&["rm", "-f", "box"]).ok();
    end_of(&mut child);
    assert_nothing_stays(&mounts);
}

#[test]
fn a_killed_commit_lets_the_command_go_on() {
    let mounts = Mounts::with_programs();
    let mut child = run(&mounts, &format!("cat /bin/sh /bin/sh > /much; {COUNT}"));
    let id = id(&mounts);
    let one = mounts.at(&format!("store/diff/{id}/one"));
    let counts = |one: &Path| {
        let before = fs::read(one).unwrap();
        eventually(|| fs::read(one).unwrap() != before)
    };
    for pause in [0, 3, 6, 12, 25, 50] {
        let mut commit = mounts.program(&["commit", "box"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        kill(commit.id());
        end_of(&mut commit);
        assert!(counts(&one), "after {pause} ms");
    }
    assert_no_group(&id);
    // A caller that is killed meanwhile ends its command, frozen or not.
    let mut commit = mounts.program(&["commit", "box"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let all = descendants(child.id());
    kill(child.id());
    end_of(&mut child);
    end_of(&mut commit);
    assert!(eventually(|| all.iter().all(|pid| !is_alive(*pid) || mounts.servers().contains(pid))));
    mounts.run(&["run-mount", "--io", "kernel", "--name", "box", "--", "cat", "/two"]);
    assert_no_group(&id);
    mounts.run(&["rm", "-f", "box"]).ok();
    mounts.run(&["prune"]).ok();
    assert_nothing_stays(&mounts);
}

#[test]
fn a_command_is_ended_while_it_is_committed() {
    let mounts = Mounts::with_programs();
    for end in [&["umount", "-f", "box"][..], &["rm", "-f", "box"]] {
        let mut child = run(&mounts, &format!("cat /bin/sh /bin/sh /bin/sh > /much; {COUNT}"));
        let id = id(&mounts);
        let mut commit =
            mounts.program(&["commit", "box"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let said = mounts.run(end);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(end_of(&mut child).code(), Some(137));
        end_of(&mut commit);
        assert_no_group(&id);
        mounts.run(&["rm", "-f", "box"]);
    }
    assert_nothing_stays(&mounts);
}

#[test]
fn files_are_copied_into_a_running_command() {
    let mounts = Mounts::with_programs();
    let mut child = run(&mounts, "mkdir /dir; echo ready; read line; cat /dir/copied /etc/hostname; read line");
    mounts.write("copied", "copied\n");
    mounts.run(&["cp", "copied", "box:/dir/copied"]).ok();
    let mut tar = tar::Builder::new(Vec::new());
    super::root_fs::add(&mut tar, "from-tar", 0o644, Some(b"by a tar\n"));
    fs::write(mounts.at("tar"), super::root_fs::finish(tar)).unwrap();
    let tar = fs::File::open(mounts.at("tar")).unwrap();
    let said = super::mounts::said(mounts.program(&["cp", "-", "box:/dir"]).stdin(tar));
    assert_eq!(said.code, 0, "{said:?}");
    // No link of the tree leads out of it.
    let outside = mounts.mkdir("outside");
    let upper = mounts.at(&format!("store/diff/{}", id(&mounts)));
    std::os::unix::fs::symlink(&outside, upper.join("dir/out")).unwrap();
    mounts.run(&["cp", "copied", "box:/dir/out/copied"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"\n").unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "copied");
    assert_eq!(lines.next().unwrap().unwrap(), id(&mounts)[..12], "what is mounted for the command stays");
    mounts.run(&["cp", "box:/dir/from-tar", "back"]).ok();
    assert_eq!(mounts.read("back"), "by a tar\n");
    drop(stdin);
    end_of(&mut child);
    assert_eq!(names(&mounts.at("outside")), Vec::<String>::new());
    mounts.run(&["rm", "box"]).ok();
    assert_nothing_stays(&mounts);
}

#[test]
fn a_read_only_container_leaves_no_trace_in_its_rw_layer() {
    let mounts = Mounts::with_programs();
    let args = ["run-mount", "--io", "kernel", "--read-only", "--name", "box"];
    let script = "echo ready; read line; exit 3";
    let mut child = ready(mounts.program(&[&args[..], &["programs", "--", "sh", "-c", script]].concat()));
    let id = id(&mounts);
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "");
    assert_eq!(mounts.run(&["commit", "box", "made"]).code, 0);
    mounts.write("file", "");
    let refused = mounts.run(&["cp", "file", "box:/new"]);
    assert!(refused.code != 0 && refused.err.contains("Read-only"), "{refused:?}");
    mounts.run(&["run-mount", "--io", "kernel", "--name", "box"]).fails(125, &["box", "in use"]);
    drop(child.stdin.take());
    assert_eq!(end_of(&mut child).code(), Some(3));
    for way in ["kernel", "cached"] {
        let at = mounts.mount(&["--io", way, "--read-only", "--name", "box"]).mountpoint;
        assert_eq!(read(&at.join("file")), "of the image\n");
        assert!(fs::write(at.join("new"), "").is_err());
        assert_eq!(mounts.ps("box").0, "running");
        mounts.umount("box");
    }
    let dir = mounts.at(&format!("store/containers/{id}"));
    assert!(!dir.join("rw.json").exists() && !dir.join("work").exists(), "{:?}", names(&dir));
    // What was written before is shown, and stays.
    let at = mounts.mount(&["--io", "kernel", "--name", "box"]).mountpoint;
    fs::write(at.join("file"), "written").unwrap();
    mounts.umount("box");
    let at = mounts.mount(&["--io", "kernel", "--read-only", "--name", "box"]).mountpoint;
    assert_eq!(read(&at.join("file")), "written");
    mounts.umount("box");
    mounts.run(&["rm", "box"]).ok();
    assert_nothing_stays(&mounts);
}
