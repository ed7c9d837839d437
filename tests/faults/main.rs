//! What happens to a store, its mounts and its commands when a system call fails or a process is killed.
//!
//! `faults` makes each call of each command fail in turn, `kills` kills the process there, and for `full` the disk is full from there on. A point
//! is a process, the part that the thread plays in it, a group of calls, and the how-manieth of these: the undisturbed run
//! tells how many there are. [`judge`] has the rules. All is on a tmpfs(5) in a mount namespace of its own.

mod call;
mod campaign;
mod disk;
#[path = "../../fixtures/generator.rs"]
#[allow(dead_code)]
mod generator;
mod ground;
mod judge;
mod load;
mod point;
mod powercut;
mod scenario;
mod state;
mod template;
mod traced;
mod tracer;
mod tree;

use std::path::Path;
use std::process::{Command, ExitCode};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use campaign::Campaign;

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        return short();
    };
    match command.as_str() {
        "gate" => tracer::gate(rest),
        "trace" => tracer::trace(rest),
        "load" => load::run(rest),
        mode @ ("faults" | "kills" | "full") => match Campaign::parse(mode, rest) {
            Some(campaign) => on_tmpfs(|work| campaign.run(work)),
            None => usage(),
        },
        "powercut" => on_tmpfs(|work| powercut::run(rest, work).unwrap_or_else(usage)),
        _ => usage(),
    }
}

/// A part of all, as a test among others: in processes of their own, each with its mount namespace.
fn short() -> ExitCode {
    let ourselves = std::env::current_exe().expect("this program has a path");
    let runs: [&[&str]; 7] = [
        &["faults", "--points", "220"],
        &["faults", "--only", "rmi", "--site", "command:main:rename"],
        &["faults", "--only", "run-rm", "--site", "init:main:wait"],
        // The message of a command's end to the thread that follows it.
        &["faults", "--only", "run-rm", "--site", "command:container:socket"],
        &["kills", "--points", "140"],
        &["full", "--points", "60"],
        &["powercut", "--only", "import", "--fs", "btrfs", "--without", "each"],
    ];
    let is_good = |args: &&[&str]| Command::new(&ourselves).args(*args).status().expect("it starts").success();
    // All are run, whatever the first ones say.
    let failed = runs.iter().filter(|args| !is_good(args)).count();
    println!("{} passed, {failed} failed", runs.len() - failed);
    ExitCode::from(u8::from(failed > 0))
}

fn usage() -> ExitCode {
    eprintln!("usage: faults|kills|full [--errors one|all] [--points N] [--jobs N] [--only SCENARIO] [--site TEXT]");
    eprintln!("       powercut [--only SCENARIO] [--fs TYPE] [--without each]");
    ExitCode::from(2)
}

/// Works in a directory that is a tmpfs, where no other mount namespace has copies of what is mounted.
fn on_tmpfs(work: impl FnOnce(&Path) -> ExitCode) -> ExitCode {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace needs root");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts are private");
    let dir = tempfile::tempdir().expect("a temporary directory");
    mount(Some("faults"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=0700")).expect("a tmpfs is mounted");
    let code = work(dir.path());
    umount2(dir.path(), MntFlags::MNT_DETACH).expect("the tmpfs goes");
    code
}
