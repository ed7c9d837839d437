//! `run-mount IMAGE -- CMD`: a command in a container, and how it ends.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use layerctl::id::Digest;
use serde_json::{Value, json};

use super::mounts::{Mounts, Said, by_kernel, listing, names, said_with_input};
use super::processes::{descendants, end_of, eventually, is_alive, kill};
use super::root_fs::{add, finish, programs};

/// `run-mount programs -- sh -c SCRIPT`.
fn script(mounts: &Mounts, script: &str) -> Said {
    mounts.run(&["run-mount", "programs", "--", "sh", "-c", script])
}

/// How many containers there are.
pub(crate) fn containers(mounts: &Mounts) -> usize {
    let rows: Value = serde_json::from_str(&mounts.run(&["--format", "json", "ps"]).ok()).unwrap();
    rows.as_array().unwrap().len()
}

/// A script that runs in the container `box`, has said `go`, and of which more may be read.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
    /// All that was started for it.
    processes: Vec<u32>,
}

impl Running {
    pub(crate) fn start(mounts: &Mounts, script: &str) -> Self {
        Self::of(mounts.program(&["run-mount", "--name", "box", "programs", "--", "sh", "-c", script]))
    }

    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), "go");
        let processes = descendants(child.id());
        // At least the server, init and the command.
        assert!(processes.len() >= 3, "{processes:?}");
        Self { child, stdout, processes }
    }

    /// The exit status and what came on standard error, when everything is over.
    #[track_caller]
    pub(crate) fn end(mut self, mounts: &Mounts) -> (Option<i32>, String) {
        let status = end_of(&mut self.child);
        let stderr = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
        self.is_over(mounts);
        (status.code(), stderr)
    }

    #[track_caller]
    pub(crate) fn is_over(&self, mounts: &Mounts) {
        assert!(eventually(|| !self.processes.iter().any(|pid| is_alive(*pid))), "{:?}", self.processes);
        mounts.assert_nothing_is_live();
    }
}

/// A file in the rw layer of the container `box`.
pub(crate) fn upper(mounts: &Mounts, path: &str) -> PathBuf {
    PathBuf::from(mounts.inspect("box")["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap()).join(path)
}

/// An image `app` with this in its config.
fn app(mounts: &Mounts, config: &Value) {
    let layer = programs();
    let diff_id = format!("sha256:{}", Digest::of(layer).hex());
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"] }]);
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "manifest.json", 0o644, Some(manifest.to_string().as_bytes()));
    add(&mut tar, "config.json", 0o644, Some(config.to_string().as_bytes()));
    add(&mut tar, "layer.tar", 0o644, Some(layer));
    mounts.import("app", &finish(tar));
}

#[test]
fn the_exit_status_is_that_of_the_command() {
    let mounts = Mounts::with_programs();
    for (line, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 1", 1),
        ("exit 125", 125),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -INT $$", 130),
    ] {
        let said = script(&mounts, line);
        assert_eq!(said, Said { code, out: String::new(), err: String::new() }, "{line}");
        mounts.assert_nothing_is_live();
    }
    assert_eq!(names(&mounts.at("store/mnt")), Vec::<String>::new());
}

#[test]
fn a_command_that_cannot_be_run_has_its_own_status() {
    let mounts = Mounts::with_programs();
    let before = listing(&mounts.at("store/diff"));
    for (command, code) in
        [("nosuch", 127), ("/bin/nosuch", 127), ("/file", 126), ("/bin", 126), ("bin/sh/x", 126), ("etc/passwd", 126)]
    {
        mounts.run(&["run-mount", "programs", "--", command]).fails(code, &[command]);
        mounts.run(&["run-mount", "--rm", "programs", "--", command]).fails(code, &[command]);
    }
    // A container that was there before stays.
    mounts.run(&["run-mount", "--name", "box", "programs", "--", "sh", "-c", ": > /new"]).ok();
    mounts.run(&["run-mount", "--name", "box", "--", "nosuch"]).fails(127, &["nosuch"]);
    assert_eq!(mounts.ps("box"), ("exited".to_owned(), None));
    assert!(upper(&mounts, "new").exists());
    // A script is there, but not what is to read it.
    script_in_box(&mounts, "echo '#!/bin/nosuch' > /bin/script; chmod 755 /bin/script").ok();
    for command in ["/bin/script", "script"] {
        mounts.run(&["run-mount", "--name", "box", "--", command]).fails(127, &[command, "interpreter"]);
    }
    mounts.run(&["rm", "box"]).ok();
    assert_eq!(containers(&mounts), 0);
    assert_eq!(listing(&mounts.at("store/diff")), before);
    mounts.assert_nothing_is_live();
}

#[test]
fn the_mount_is_the_root_directory_and_keeps_the_changes() {
    let mounts = Mounts::with_programs();
    let image = listing(&mounts.at("store/diff"));
    let inside =
        "cat /file; echo changed > /file; mkdir /dir; echo new > /dir/new; rm /etc/group; ls /etc; ls -d /tmp/..";
    let said = mounts.run(&["run-mount", "--name", "box", "programs", "--", "sh", "-c", inside]);
    assert_eq!(said.ok(), "of the image\nhostname\nhosts\npasswd\nresolv.conf\n/tmp/..\n");
    mounts.assert_nothing_is_live();
    assert_eq!(mounts.ps("box"), ("exited".to_owned(), None));
    assert_eq!(super::mounts::read(&upper(&mounts, "file")), "changed\n");
    assert_eq!(super::mounts::read(&upper(&mounts, "dir/new")), "new\n");
    // Again, with a command and without one.
    let said = mounts.run(&["run-mount", "--name", "box", "--", "sh", "-c", "cat /file /dir/new; echo more >> /file"]);
    assert_eq!(said.ok(), "changed\nnew\n");
    let container = mounts.mount(&["--name", "box"]);
    assert_eq!(super::mounts::read(&container.mountpoint.join("file")), "changed\nmore\n");
    assert!(!container.mountpoint.join("etc/group").exists());
    mounts.run(&["run-mount", "--name", "box", "--", "sh", "-c", ":"]).fails(125, &["box", "in use"]);
    mounts.run(&["rm", "-f", "box"]).ok();
    assert_eq!(listing(&mounts.at("store/diff")), image);
}

#[test]
fn the_processes_of_the_host_are_not_seen() {
    let mounts = Mounts::with_programs();
    let inside = "echo $$; cd /proc; for pid in [0-9]*; do echo $pid; done; kill -0 $PPID || echo no; ls -d \"$1\"";
    let host = mounts.text("");
    let said = mounts.run(&["run-mount", "programs", "--", "sh", "-c", inside, "sh", &host]);
    assert_eq!(said.out, "2\n1\n2\n", "{said:?}");
    assert!(said.code != 0 && said.err.contains("No such file or directory"), "{said:?}");
    let said = mounts.run(&["run-mount", "--name", "box", "programs", "--", "cat", "/proc/sys/kernel/hostname"]);
    assert_eq!(said.ok().trim_end(), &mounts.inspect("box")["Id"].as_str().unwrap()[..12]);
    // Nor does the host see the container's mounts, and /dev has what programs count on.
    let inside = "[ -d /proc/self ] && [ -c /dev/null ] && [ -c /dev/urandom ] && [ -d /dev/shm ] && echo x > /dev/null \
                  && cat /proc/self/mountinfo | { read -r line; echo \"${line##* - }\"; }";
    let said = script(&mounts, inside).ok();
    let fs_type = if by_kernel() { "overlay " } else { "fuse.layerctl " };
    assert!(said.starts_with(fs_type) && !said.contains("/tmp"), "{said}");
    mounts.assert_nothing_is_live();
}

#[test]
fn an_empty_command_is_the_images_own() {
    let mounts = Mounts::new();
    let run = |words: &[&str]| mounts.run(&[["run-mount", "--rm", "app", "--"].as_slice(), words].concat());
    let echo = r#"echo "$0:$*""#;
    for (config, empty, given) in [
        (json!({ "Entrypoint": ["sh", "-c", echo], "Cmd": ["a", "b c"] }), "a:b c\n", None),
        (json!({ "Entrypoint": ["sh", "-c", echo] }), "sh:\n", None),
        (json!({ "Cmd": ["sh", "-c", echo, "cmd"] }), "cmd:\n", Some("given:x\n")),
        (json!({ "Entrypoint": null, "Cmd": ["sh", "-c", echo, "null"] }), "null:\n", None),
        // Docker takes an entrypoint of an empty word for none.
        (json!({ "Entrypoint": [""], "Cmd": ["sh", "-c", echo, "word"] }), "word:\n", None),
    ] {
        app(&mounts, &config);
        assert_eq!(run(&[]).ok(), empty, "{config}");
        if let Some(given) = given {
            assert_eq!(run(&["sh", "-c", echo, "given", "x"]).ok(), given);
        }
    }
    app(&mounts, &json!({}));
    run(&[]).fails(2, &["command"]);
    app(&mounts, &json!({ "Entrypoint": [""], "Cmd": [] }));
    run(&[]).fails(2, &["command"]);
    app(&mounts, &json!({ "Entrypoint": [], "Cmd": [] }));
    run(&[]).fails(2, &["command"]);
    assert_eq!(containers(&mounts), 0);
    mounts.assert_nothing_is_live();
}

#[test]
fn the_environment_is_the_images() {
    let mounts = Mounts::new();
    app(&mounts, &json!({ "Env": ["PATH=/nowhere:/bin", "A=b c", "EMPTY="] }));
    let said = mounts.run(&["run-mount", "app", "--", "env"]);
    let mut lines: Vec<String> = said.ok().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["A=b c", "EMPTY=", "HOME=/root", "PATH=/nowhere:/bin"]);
    app(&mounts, &json!({}));
    let said = mounts.run(&["run-mount", "app", "--", "env"]).ok();
    assert!(said.contains("HOME=/root\n") && said.contains("PATH=/") && said.lines().count() == 2, "{said}");
}

#[test]
fn the_working_directory_is_the_images() {
    let mounts = Mounts::new();
    for dir in ["/srv", "/not/there/yet", ""] {
        app(&mounts, &json!({ "WorkingDir": dir }));
        let said = mounts.run(&["run-mount", "app", "--", "sh", "-c", "pwd -P"]);
        assert_eq!(said.ok().trim_end(), if dir.is_empty() { "/" } else { dir });
    }
}

#[test]
fn the_user_is_the_images() {
    let mounts = Mounts::new();
    let who = "echo $(id -u) $(id -g) $(id -G) $HOME; : > /tmp/mine; ls -n /tmp/mine";
    for (user, wanted, owner) in [
        ("", "0 0 0 /root", "0 0"),
        ("web", "33 34 34 50 /srv", "33 34"),
        ("33", "33 34 34 50 /srv", "33 34"),
        ("web:extra", "33 50 50 /srv", "33 50"),
        ("1234:5678", "1234 5678 5678 /", "1234 5678"),
    ] {
        app(&mounts, &json!({ "User": user }));
        mounts.run(&["run-mount", "--name", "box", "app"]).ok();
        // What only root could write is open for this.
        let mountpoint = PathBuf::from(mounts.inspect("box")["Mountpoint"].as_str().unwrap());
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(mountpoint.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        mounts.umount("box");
        let out = mounts.run(&["run-mount", "--name", "box", "--", "sh", "-c", who]).ok();
        let (first, second) = out.trim_end().split_once('\n').unwrap();
        assert_eq!(first, wanted, "{user}");
        assert!(second.contains(&format!(" 1 {owner} 0 ")), "{user}: {second}");
        mounts.run(&["rm", "box"]).ok();
    }
    app(&mounts, &json!({ "User": "nobody" }));
    mounts.run(&["run-mount", "app", "--", "id"]).fails(2, &["nobody"]);
    mounts.assert_nothing_is_live();
}

pub(crate) fn script_in_box(mounts: &Mounts, script: &str) -> Said {
    mounts.run(&["run-mount", "--name", "box", "--", "sh", "-c", script])
}

#[test]
fn a_container_with_a_command_is_in_use() {
    let mounts = Mounts::with_programs();
    let mut running = Running::start(&mounts, "echo go; read line; cat /file; echo $line; exit 9");
    let (state, mountpoint) = mounts.ps("box");
    assert_eq!(state, "running");
    // The host can look into it meanwhile.
    let mountpoint = PathBuf::from(mountpoint.unwrap());
    assert_eq!(super::mounts::read(&mountpoint.join("file")), "of the image\n");
    fs::write(mountpoint.join("file"), "from outside\n").unwrap();
    mounts.run(&["umount", "box"]).fails(125, &["box", "in use"]);
    mounts.run(&["rm", "box"]).fails(125, &["box", "in use"]);
    mounts.run(&["run-mount", "--name", "box"]).fails(125, &["box", "in use"]);
    mounts.run(&["run-mount", "--name", "box", "--", "true"]).fails(125, &["box", "in use"]);
    running.child.stdin.take().unwrap().write_all(b"from us\n").unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut running.stdout, &mut rest).unwrap();
    assert_eq!(rest, "from outside\nfrom us\n");
    assert_eq!(running.end(&mounts), (Some(9), String::new()));
}

#[test]
fn a_container_with_a_command_is_removed_by_force() {
    let mounts = Mounts::with_programs();
    let before = listing(&mounts.at("store/diff"));
    let mut running = Running::start(&mounts, "trap '' TERM INT; sleep 1000 & echo new > /new; echo go; sleep 1000");
    mounts.run(&["rm", "-f", "box"]).ok();
    assert_eq!(containers(&mounts), 0);
    // Its input is open still.
    assert_eq!(end_of(&mut running.child).code(), Some(137));
    running.is_over(&mounts);
    assert_eq!(listing(&mounts.at("store/diff")), before);
}

#[test]
fn a_container_that_is_to_go_goes_with_its_command() {
    let mounts = Mounts::with_programs();
    let before = listing(&mounts.at("store/diff"));
    for (inside, code) in [("echo new > /new", 0), ("rm -rf /srv; exit 5", 5), ("kill -KILL $$", 137)] {
        let said = mounts.run(&["run-mount", "--rm", "--name", "box", "programs", "--", "sh", "-c", inside]);
        assert_eq!(said, Said { code, out: String::new(), err: String::new() });
        assert_eq!(containers(&mounts), 0);
        for dir in ["mnt", "run"] {
            assert_eq!(names(&mounts.at("store").join(dir)), Vec::<String>::new());
        }
    }
    // Also when its caller is killed.
    let mut command = mounts.program(&["run-mount", "--rm", "--name", "box", "programs", "--", "sh", "-c"]);
    command.arg("echo new > /new; echo go; exec sleep 1000");
    let mut running = Running::of(command);
    kill(running.child.id());
    end_of(&mut running.child);
    assert!(eventually(|| containers(&mounts) == 0 && mounts.processes().is_empty()));
    running.is_over(&mounts);
    assert_eq!(listing(&mounts.at("store/diff")), before);
}

#[test]
fn standard_input_output_and_error_are_passed_through() {
    let mounts = Mounts::with_programs();
    let text = "a line\n".repeat(50_000);
    let said = said_with_input(&mut mounts.program(&["run-mount", "--rm", "programs", "--", "cat"]), &text);
    assert!(said.code == 0 && said.err.is_empty() && said.out == text);
    let said = script(&mounts, "echo out; echo err >&2; read line; echo $? >&2");
    assert_eq!(said, Said { code: 0, out: "out\n".into(), err: "err\n1\n".into() });
}

#[test]
fn a_read_only_container_takes_no_changes() {
    let mounts = Mounts::with_programs();
    let run =
        |inside: &str| mounts.run(&["run-mount", "--name", "box", "--read-only", "programs", "--", "sh", "-c", inside]);
    let said = run("echo x > /new");
    assert!(said.code != 0 && said.err.contains("Read-only file system"), "{said:?}");
    let said = run("rm /file");
    assert!(said.code != 0 && said.err.contains("Read-only file system"), "{said:?}");
    let said = run("echo x > /dev/null && echo x > /dev/shm/x && cat /file");
    assert_eq!(said.ok(), "of the image\n");
    let visible: Vec<_> = names(&upper(&mounts, "")).into_iter().filter(|name| !name.starts_with(".wh..wh.")).collect();
    assert_eq!(visible, Vec::<String>::new());
    assert_eq!(script_in_box(&mounts, "echo x > /new; cat /new").ok(), "x\n");
}

#[test]
fn a_mountpoint_may_be_given_with_a_command() {
    let mounts = Mounts::with_programs();
    mounts.mkdir("mnt");
    let mut command = mounts.program(&["run-mount", "--name", "box", "programs", "mnt", "--", "sh", "-c"]);
    command.arg("echo go; read line; echo new > /new");
    let mut running = Running::of(command);
    assert_eq!(mounts.mounted(), [mounts.at("mnt")]);
    assert_eq!(mounts.read("mnt/file"), "of the image\n");
    drop(running.child.stdin.take());
    assert_eq!(running.end(&mounts), (Some(0), String::new()));
    assert_eq!(names(&mounts.at("mnt")), Vec::<String>::new());
    assert_eq!(super::mounts::read(&upper(&mounts, "new")), "new\n");
}

#[test]
fn two_commands_in_containers_of_one_image_do_not_meet() {
    let mounts = Mounts::with_programs();
    let image = listing(&mounts.at("store/diff"));
    let inside = "echo $1 > /file; echo $1 > /new-$1; echo go; read line; cat /file; ls -d /new-*";
    let start = |name: &str| {
        let mut command = mounts.program(&["run-mount", "--rm", "--name", name, "programs", "--", "sh", "-c", inside]);
        command.args(["sh", name]);
        Running::of(command)
    };
    let mut both = [start("one"), start("two")];
    assert_eq!(mounts.mounted().len(), 2);
    for (running, name) in both.iter_mut().zip(["one", "two"]) {
        drop(running.child.stdin.take());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut running.stdout, &mut rest).unwrap();
        assert_eq!(rest, format!("{name}\n/new-{name}\n"));
        assert_eq!(end_of(&mut running.child).code(), Some(0));
    }
    mounts.assert_nothing_is_live();
    assert_eq!(listing(&mounts.at("store/diff")), image);
}
