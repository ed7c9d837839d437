//! Every command in every situation that it must refuse, or work in all the same: the documented exit status, one
//! sentence about it, and a store that is as it was. A command that is not in the table fails the test.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice::from_ref;

use super::archives::single;
use super::cli::{Output, Sandbox};
use super::damage::{flip, image};
use super::disk::{Disk, system};
use super::error_rows::Expect::{Deny, Find, Impossible, Look, Refuse, Work};
use super::error_rows::{
    BROKEN_LAYER, CONTAINER_RUNNING, FULL_DISK, FULL_OUTPUT, NAME_IN_USE, Row, UNKNOWN_NAME, WORDS,
};
use super::generator::{docker_since_25, sha256};
use super::listing::Listing;
use super::mounts::{PROGRAM, said, when_free};

/// A store with two images, a container of one of them, and files beside it.
struct World {
    sandbox: Sandbox,
    disk: Option<Disk>,
}

impl World {
    fn new(is_small: bool) -> Self {
        let sandbox = Sandbox::new();
        const EXT4: [&str; 9] = ["-q", "-b", "1024", "-m", "0", "-N", "400", "-J", "size=1"];
        let disk = is_small.then(|| Disk::new(&sandbox.path(""), "disk", 6, "mkfs.ext4", &EXT4));
        let mut used = image();
        used.names = vec!["used:1".into()];
        sandbox.write("used.tar", &docker_since_25(from_ref(&used)).tar());
        sandbox.write("free.tar", &docker_since_25(&[single("free")]).tar());
        sandbox.write("new.tar", &docker_since_25(&[single("new")]).tar());
        sandbox.write("file", &[7; 5000]);
        fs::create_dir(sandbox.path("mnt")).expect("it is made");
        fs::create_dir(sandbox.path("dir")).expect("it is made");
        sandbox.write("dir/content", b"theirs");
        let world = Self { sandbox, disk };
        for words in [&["import", "used.tar"][..], &["import", "free.tar"], &["run-mount", "--name", "box", "used:1"]] {
            world.run(words).lines();
        }
        fs::write(world.mountpoint().join("etc/made"), "made").expect("it is written");
        when_free(|| said(&mut world.command(&["umount", "box"]))).ok();
        world
    }

    fn root(&self) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.sandbox.root(), |disk| disk.path().join("store"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.sandbox.command(words);
        command.env("LAYERCTL_ROOT", self.root());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the program starts").into()
    }

    fn mountpoint(&self) -> PathBuf {
        let id = self.run(&["inspect", "box"]).json()[0]["Id"].as_str().expect("it has one").to_owned();
        self.root().join("mnt").join(id)
    }

    /// What is in the store, and beside it, but for what is being made.
    fn listing(&self) -> (Listing, Vec<String>) {
        let mut listing = Listing::with_identities(&self.root());
        for without in ["tmp", "lock", "mnt", "run"] {
            listing = listing.without(without);
        }
        // The server's words about a failure, and a union's own marks, are nobody's files.
        listing.0.retain(|path, _| !(path.starts_with("containers") && path.ends_with("log")));
        for line in listing.0.values_mut().filter(|line| line.contains(" trusted.layerctl.described=y ")) {
            line.truncate(line.find(" inode ").unwrap_or(line.len()));
        }
        // That something was made there and taken away again is to be seen of their times only.
        for dir in ["", "diff", "layers", "images", "images/names", "containers", "containers/names"] {
            listing.0.insert(dir.into(), "a directory".into());
        }
        let mut beside = super::mounts::names(&self.sandbox.path(""));
        beside.extend(self.disk.iter().flat_map(|disk| super::mounts::names(disk.path())));
        (listing, beside)
    }

    fn debris(&self) -> Vec<String> {
        let mut names = super::mounts::names(&self.root().join("tmp"));
        names.retain(|name| name != "record");
        names
    }

    /// Runs a row of a table.
    fn check(&self, situation: &str, (command, words, expect): &Row, change: impl FnOnce(&mut Command)) {
        let what = format!("{situation}: {command} {words:?}");
        let before = self.listing();
        let words: Vec<&str> = [&[*command][..], words].concat();
        let mut command = self.command(&words);
        change(&mut command);
        let mut output = Output::from(command.output().expect("the program starts"));
        if words[0] == "inspect" && output.stdout == "[]\n" {
            // As Docker's: an array in any case.
            output.stdout.clear();
        }
        let is_same = |what: &str| {
            let after = self.listing();
            after.0.assert_same(&before.0, what);
            assert_eq!(after.1, before.1, "{what}");
        };
        match expect {
            Refuse(code, words) => {
                assert_eq!(output.code, *code, "{what}: {output:?}");
                output.assert_refused(*code, words);
                is_same(&what);
            }
            Look => {
                assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{what}");
                fs::remove_file(self.sandbox.path("out")).ok();
                is_same(&what);
            }
            Find => {
                assert_eq!((output.code, output.stderr.as_str()), (3, ""), "{what}");
                is_same(&what);
            }
            Deny => {
                assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (1, "", ""), "{what}");
                is_same(&what);
            }
            Work => assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{what}"),
            Impossible => unreachable!("it is not run"),
        }
        assert_eq!(self.debris(), Vec::<String>::new(), "{what}");
    }
}

/// The commands that the program says it has.
pub(crate) fn commands() -> BTreeSet<String> {
    let help = Output::from(Command::new(PROGRAM).arg("--help").output().expect("the program starts"));
    let lines = help.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names =
        lines.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

/// Each row, in a world of its own.
fn run(situation: &str, table: &[Row], is_small: bool, prepare: impl Fn(&World) -> Option<File>) {
    let in_table: BTreeSet<String> = table.iter().map(|(command, ..)| (*command).to_owned()).collect();
    assert_eq!(in_table, commands(), "{situation}: the commands of the table, and of the program");
    for row in table.iter().filter(|(_, _, expect)| !matches!(expect, Impossible)) {
        let world = World::new(is_small);
        let held = prepare(&world);
        world.check(situation, row, |_| ());
        drop(held);
    }
}

#[test]
fn unknown_name() {
    run("unknown name", UNKNOWN_NAME, false, |_| None);
}

#[test]
fn name_in_use() {
    run("name in use", NAME_IN_USE, false, |_| None);
}

#[test]
fn container_running() {
    run("container running", CONTAINER_RUNNING, false, |world| {
        world.run(&["run-mount", "--name", "box"]).lines();
        Some(File::open(world.mountpoint().join("etc/made")).expect("it is there"))
    });
}

#[test]
fn broken_layer() {
    run("broken layer", BROKEN_LAYER, false, |world| {
        let hex = sha256(&image().layers[0]);
        for part in ["index", "split"] {
            flip(&world.root().join("layers").join(format!("{hex}.{part}")));
        }
        flip(&world.root().join("diff").join(hex).join("etc/noted"));
        None
    });
}

#[test]
fn full_disk() {
    run("full disk", FULL_DISK, true, |world| {
        let disk = world.disk.as_ref().expect("it has one");
        disk.leave_inodes(0);
        disk.leave_blocks(0);
        None
    });
}

#[test]
fn full_output() {
    let world = World::new(false);
    for row in FULL_OUTPUT {
        world.check("full output", row, |command| {
            command.stdout(File::options().write(true).open("/dev/full").expect("it is there"));
        });
    }
}

#[test]
fn no_permission() {
    let named: BTreeSet<String> = WORDS.iter().map(|(command, _)| (*command).to_owned()).collect();
    assert_eq!(named, commands());
    let world = World::new(false);
    // Its own directory must be open to all, and the program where all can reach it.
    fs::set_permissions(world.sandbox.path(""), Permissions::from_mode(0o755)).expect("it is ours");
    let program = world.sandbox.path("layerctl");
    // Not by this process: a child that another test has just forked would keep it open, and it could not be run.
    system("cp", &[], &[Path::new(PROGRAM), &program]);
    for (command, words) in WORDS {
        let before = world.listing();
        let mut unprivileged = Command::new("setpriv");
        unprivileged.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
        unprivileged.arg(&program).arg(command).args(*words);
        unprivileged.env("LAYERCTL_ROOT", world.root()).current_dir(world.sandbox.path(""));
        let output = Output::from(unprivileged.output().expect("setpriv is there"));
        output.assert_refused(125, &["cannot ", "store", "Permission denied"]);
        world.listing().0.assert_same(&before.0, command);
        assert_eq!(world.listing().1, before.1, "{command}");
    }
    // A place where it could be made, but not by this user.
    let closed = world.sandbox.path("closed");
    fs::create_dir(&closed).expect("it is made");
    // Whatever another test has made the umask.
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).expect("it is ours");
    let mut unprivileged = Command::new("setpriv");
    unprivileged.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).arg("images");
    let output = unprivileged.env("LAYERCTL_ROOT", closed.join("store")).output().expect("setpriv is there");
    Output::from(output).assert_refused(125, &["cannot create", "Permission denied"]);
    assert!(!Path::new(&closed).join("store").exists());
}
