//! What a command's file systems are mounted on where its image has nothing: no part of the rw layer, nor of anything that is
//! made of the container.

use std::io::{Read as _, Write as _};

use super::mount_command::{Running, script_in_box, upper};
use super::mounts::{Mounts, names};
use super::processes::{end_of, eventually, kill};
use super::root_fs::{add, finish, programs};

/// The names of a tar.
fn entries(tar: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = tar::Archive::new(tar)
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().trim_end_matches('/').to_owned())
        .collect();
    names.sort();
    names
}

/// The image `programs` without any of the directories that file systems are mounted on, and `etc` only where a file is in it.
pub(crate) fn bare() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(programs()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if path
            .components()
            .next()
            .is_some_and(|first| !["dev", "etc", "proc", "sys"].iter().any(|name| first.as_os_str() == *name))
        {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let mut header = entry.header().clone();
            tar.append_data(&mut header, path, &*content).unwrap();
        }
    }
    finish(tar)
}

/// A store with that image under the name `programs`.
fn with_bare() -> Mounts {
    let mounts = Mounts::new();
    mounts.import("programs", &bare());
    mounts
}

const LOOK: &str = "[ -c /dev/null ] && [ -d /proc/self ] && [ -d /sys/kernel ] && ls -d /dev /etc /proc /sys";
const SEEN: &str = "/dev\n/etc\n/proc\n/sys\n";

/// That the container `box` is as its image: for each command that tells.
#[track_caller]
fn is_as_its_image(mounts: &Mounts) {
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "");
    let exported = |what: &str| {
        mounts.run(&["export", what, "-o", "exported.tar"]).ok();
        let tar = std::fs::read(mounts.at("exported.tar")).unwrap();
        std::fs::remove_file(mounts.at("exported.tar")).unwrap();
        entries(&tar)
    };
    assert_eq!(exported("box"), exported("programs"));
    mounts.run(&["diff", "box", "--tar", "-o", "layer.tar"]).ok();
    assert_eq!(entries(&std::fs::read(mounts.at("layer.tar")).unwrap()), Vec::<String>::new());
    std::fs::remove_file(mounts.at("layer.tar")).unwrap();
    for path in ["/proc", "/etc", "/etc/hosts"] {
        mounts.run(&["cp", &format!("box:{path}"), "copied"]).fails(1, &[path]);
        assert_eq!(mounts.run(&["explain", "box", path]).code, 1, "{path}");
    }
    mounts.run(&["commit", "box", "again"]).ok();
    let layers = |name: &str| mounts.inspect(name)["RootFS"]["Layers"].clone();
    assert_eq!(layers("again"), layers("programs"), "nothing is a layer");
    mounts.run(&["rmi", "again"]).ok();
}

/// The names in the rw layer but the union's own.
pub(crate) fn written(mounts: &Mounts) -> Vec<String> {
    names(&upper(mounts, "")).into_iter().filter(|name| !name.starts_with(".wh..wh.")).collect()
}

#[test]
fn an_image_without_them_runs_and_stays_as_it_is() {
    let mounts = with_bare();
    for options in [&["--read-only"][..], &[]] {
        for _ in 0..2 {
            let args = [&["run-mount", "--name", "box"], options, &["programs", "--", "sh", "-c", LOOK]].concat();
            assert_eq!(mounts.run(&args).ok(), SEEN, "{options:?}");
            assert_eq!(written(&mounts), Vec::<String>::new(), "{options:?}");
            is_as_its_image(&mounts);
        }
        mounts.run(&["rm", "box"]).ok();
    }
    // Without a command there is nothing to mount.
    let container = mounts.mount(&["--name", "box", "programs"]);
    assert!(["dev", "etc", "proc", "sys"].iter().all(|name| !container.mountpoint.join(name).exists()));
    is_as_its_image(&mounts);
    mounts.umount("box");
}

#[test]
fn they_are_not_told_of_while_the_command_runs_nor_after_a_kill() {
    let mounts = with_bare();
    let running = Running::start(&mounts, "echo go; read line");
    is_as_its_image(&mounts);
    // The caller.
    let mut running = running;
    kill(running.child.id());
    end_of(&mut running.child);
    running.is_over(&mounts);
    is_as_its_image(&mounts);
    // The server.
    let mut running = Running::start(&mounts, "echo go; read line");
    let servers = mounts.servers();
    assert_eq!(servers.len(), 1);
    kill(servers[0]);
    end_of(&mut running.child);
    assert!(eventually(|| mounts.processes().is_empty()));
    mounts.run(&["umount", "box"]);
    is_as_its_image(&mounts);
    assert_eq!(written(&mounts), Vec::<String>::new());
}

#[test]
fn what_is_written_beside_them_is_told_without_them() {
    let mounts = with_bare();
    let mut running = Running::start(&mounts, "echo x > /etc/new; rm /file; echo go; read line");
    let changed = "A /etc\nA /etc/new\nD /file\n";
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(mounts.run(&["diff", "box"]).ok()), sorted(changed.to_owned()));
    let committed = mounts.run(&["commit", "box", "live"]).ok();
    running.child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(running.end(&mounts), (Some(0), String::new()));
    assert_eq!(sorted(mounts.run(&["diff", "box"]).ok()), sorted(changed.to_owned()));
    mounts.run(&["commit", "box", "dead"]).ok();
    let layers = |name: &str| mounts.inspect(name)["RootFS"]["Layers"].clone();
    assert_eq!(layers("live"), layers("dead"), "{committed}");
    // The next run finds all as the last has left it.
    assert_eq!(script_in_box(&mounts, "cat /etc/new; ls /etc").ok(), "x\nhostname\nhosts\nnew\nresolv.conf\n");
    mounts.run(&["rm", "box"]).ok();
}

#[test]
fn a_whiteout_of_the_image_takes_none_of_them() {
    let mounts = Mounts::with_programs();
    let mut tar = tar::Builder::new(Vec::new());
    for name in [".wh.proc", ".wh.sys", ".wh.dev", "etc/.wh.hosts"] {
        add(&mut tar, name, 0o644, Some(b""));
    }
    std::fs::write(mounts.at("layer.tar"), finish(tar)).unwrap();
    mounts.run(&["--quiet", "build", "--from", "programs", "-t", "gone", "layer.tar"]).ok();
    let args = ["run-mount", "--name", "box", "--read-only", "gone", "--", "sh", "-c", LOOK];
    assert_eq!(mounts.run(&args).ok(), SEEN);
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "");
    // Nor does an opaque root.
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, ".wh..wh..opq", 0o644, Some(b""));
    std::fs::write(mounts.at("layer.tar"), finish(tar)).unwrap();
    std::fs::write(mounts.at("bare.tar"), bare()).unwrap();
    mounts.run(&["--quiet", "build", "--from", "programs", "-t", "opaque", "layer.tar", "bare.tar"]).ok();
    assert_eq!(mounts.run(&["run-mount", "--rm", "--read-only", "opaque", "--", "sh", "-c", LOOK]).ok(), SEEN);
}

#[test]
fn what_the_host_changes_of_them_is_a_change() {
    let mounts = with_bare();
    let mut running = Running::start(&mounts, "echo go; read line");
    let root = std::path::PathBuf::from(mounts.ps("box").1.unwrap());
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(root.join("etc/hosts"), mode(0o600)).unwrap();
    assert_eq!(std::fs::read(root.join("etc/hostname")).unwrap(), b"");
    std::fs::write(root.join("etc/hostname"), "written\n").unwrap();
    let renamed = std::fs::rename(root.join("etc"), root.join("etc2"));
    assert_eq!(renamed.unwrap_err().kind(), std::io::ErrorKind::CrossesDevices);
    std::fs::rename(root.join("etc/resolv.conf"), root.join("resolv")).unwrap();
    std::fs::remove_dir(root.join("sys")).unwrap();
    let changed = ["A /etc", "A /etc/hostname", "A /etc/hosts", "A /resolv"];
    let diff = || {
        let mut lines: Vec<_> = mounts.run(&["diff", "box"]).ok().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(diff(), changed);
    running.child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(running.end(&mounts), (Some(0), String::new()));
    assert_eq!(diff(), changed);
    mounts.run(&["cp", "box:/etc/hostname", "copied"]).ok();
    assert_eq!(mounts.read("copied"), "written\n");
    // The rw layer is a directory of a union as any other is.
    mounts.mkdir("mnt");
    let lower = format!("lowerdir={}", upper(&mounts, "").display());
    mounts.run(&["union", "-o", &lower, "mnt"]).ok();
    assert_eq!(mounts.read("mnt/etc/hostname"), "written\n");
    mounts.umount(&mounts.text("mnt"));
}
