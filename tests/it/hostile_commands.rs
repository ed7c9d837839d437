//! Commands that attack the host from inside a container: each program of `tests/hostile` as one or more users, with and
//! without the filter of system calls. `LAYERCTL_HOSTILE=long` (`make hostile-commands`) runs every combination.

use std::process::Command;

use super::attack::{File, Machine, OwnProgram, compiled, image};
use super::container_program::state;
use super::mounts::{Said, said};

/// How an attack is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// It is the command.
    Command,
    /// It is the image's dynamic loader, and the command is the host's program.
    Loader,
}

/// A program, the machine it is compiled for, what is defined for it, how it starts, and whether it is about the filter.
type Attack = (&'static str, Machine, &'static [&'static str], Start, bool);

const ATTACKS: [Attack; 13] = [
    ("own_exe.c", Machine::X86_64, &[], Start::Loader, false),
    ("user_namespace.c", Machine::X86_64, &["LOADER"], Start::Loader, false),
    ("user_namespace.c", Machine::X86_64, &[], Start::Command, false),
    ("inherited.c", Machine::X86_64, &[], Start::Command, false),
    ("refused_calls.c", Machine::X86_64, &[], Start::Command, true),
    ("refused_calls.c", Machine::I386, &[], Start::Command, true),
    ("host_files.c", Machine::X86_64, &[], Start::Command, false),
    ("devices.c", Machine::X86_64, &[], Start::Command, false),
    ("out_of_root.c", Machine::X86_64, &[], Start::Command, false),
    ("init_attack.c", Machine::X86_64, &[], Start::Command, false),
    ("handles.c", Machine::X86_64, &[], Start::Command, false),
    ("shared_memory.c", Machine::X86_64, &[], Start::Command, false),
    ("groups.c", Machine::X86_64, &[], Start::Command, false),
];

fn is_long() -> bool {
    std::env::var("LAYERCTL_HOSTILE").is_ok_and(|form| form == "long")
}

/// The options of a run: those of each group in turn, or in the short form only some.
fn options(index: usize) -> Vec<Vec<&'static str>> {
    let filters = [&[][..], &["--security-opt", "seccomp=unconfined"], &["--security-opt", "no-new-privileges"]];
    let modes = [&[][..], &["--read-only"], &["--io", "passthrough"]];
    let all = filters.iter().flat_map(|filter| modes.iter().map(|mode| [*filter, *mode].concat()));
    // In the short form each attack runs with and without the filter, and the modes take turns.
    let all: Vec<_> = all.collect();
    if is_long() { all } else { [index % 3, 3 + index % 3].map(|at| all[at].clone()).to_vec() }
}

#[test]
fn no_attack_comes_through() {
    let program = OwnProgram::new();
    let layerctl = |args: &[&str]| said(&mut program.command(args));
    let (mut runs, mut came_through) = (0, Vec::new());
    for (index, (source, machine, definitions, start, is_filter)) in ATTACKS.into_iter().enumerate() {
        let attack = compiled(source, machine, definitions);
        let (place, command) = match start {
            Start::Command => ("bin/attack", "/bin/attack"),
            Start::Loader => ("lib64/ld-linux-x86-64.so.2", "/proc/self/exe"),
        };
        let files: [File<'_>; 2] = [(place, 0o755, &attack), ("bin/script", 0o755, b"#!/proc/self/exe\n")];
        let name = format!("attack-{index}");
        program.mounts.import(&name, &image(&files, &[]));
        let user = format!("user-{name}");
        layerctl(&["--quiet", "build", "--from", &name, "-t", &user, "--config", "User=1000:1001"]).ok();
        let before = state(&program.mounts.at("layerctl"));
        for image in [&name, &user] {
            for options in options(index) {
                if is_filter && options.contains(&"seccomp=unconfined") {
                    continue;
                }
                let args = [&["run-mount", "--rm"], &options[..], &[image, "--", command]].concat();
                let result = layerctl(&args);
                runs += 1;
                let held = Said { code: 0, out: String::new(), err: "held\n".into() };
                if result != held || state(&program.mounts.at("layerctl")) != before {
                    came_through.push(format!("{source} {machine:?} {args:?}: {result:?}"));
                }
            }
        }
    }
    program.mounts.assert_nothing_is_live();
    println!("hostile commands: {} programs, {runs} runs, {} came through", ATTACKS.len(), came_through.len());
    assert_eq!(came_through, Vec::<String>::new());
}

#[test]
fn a_working_directory_is_one_of_the_container() {
    let attack = compiled("out_of_root.c", Machine::X86_64, &[]);
    let program = OwnProgram::new();
    program.mounts.import("attack", &image(&[("bin/attack", 0o755, &attack)], &[("bin/up", "/proc/self/cwd/../..")]));
    let numbers = if is_long() { 0..256 } else { 3..12 };
    // CVE-2024-21626.
    let numbered = numbers.flat_map(|fd| [format!("/proc/self/fd/{fd}"), format!("/proc/self/fd/{fd}/../../..")]);
    let named = ["/proc/1/root", "/proc/self/cwd", "/bin/up", "/proc/self/root/../../.."].map(String::from);
    for dir in named.into_iter().chain(numbered) {
        let config = format!("WorkingDir={dir}");
        said(&mut program.command(&["--quiet", "build", "--from", "attack", "-t", "there", "--config", &config])).ok();
        let result = said(&mut program.command(&["run-mount", "--rm", "there", "--", "/bin/attack"]));
        // No directory, or one of the container.
        assert!(result.code == 125 || (result.code, result.err.as_str()) == (0, "held\n"), "{dir}: {result:?}");
    }
}

#[test]
fn a_tree_that_leads_elsewhere_is_not_entered() {
    let attack = compiled("host_files.c", Machine::X86_64, &[]);
    for place in ["proc", "sys", "dev", "etc"] {
        let program = OwnProgram::new();
        let host = program.mounts.mkdir("host");
        program.mounts.write("host/hosts", "the host's\n");
        program.mounts.write("host/passwd", "web:x:0:0::/:\n");
        let mut tar = tar::Builder::new(Vec::new());
        for dir in ["bin", "dev", "etc", "proc", "sys"].into_iter().filter(|dir| *dir != place) {
            super::root_fs::add(&mut tar, dir, 0o755, None);
        }
        super::root_fs::add(&mut tar, "bin/attack", 0o755, Some(&attack));
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, place, &host).unwrap();
        program.mounts.import("attack", &super::root_fs::finish(tar));
        let before = super::mounts::listing(&host);
        let result = said(&mut program.command(&["run-mount", "--rm", "attack", "--", "/bin/attack"]));
        assert_eq!(super::mounts::listing(&host), before, "{place}: {result:?}");
        if place == "etc" {
            assert_eq!(result.err, "held\n", "{place}");
        } else {
            result.fails(125, &[&format!("/{place}")]);
        }
    }
}

/// A user or group file may be a device that never ends, or a pipe that has no writer.
#[test]
fn a_user_file_that_is_none_is_refused() {
    let attack = compiled("privileges.c", Machine::X86_64, &["GAINS"]);
    let links = ["/dev/zero", "/proc/self/fd/0", "/proc/kmsg", "/sys/kernel/uevent_seqnum"];
    for (name, target) in links.iter().flat_map(|target| [("etc/passwd", *target), ("etc/group", *target)]) {
        let program = OwnProgram::new();
        program.mounts.import("attack", &image(&[("bin/attack", 0o755, &attack)], &[(name, target)]));
        let mut command: Command = program.command(&["run-mount", "--rm", "attack", "--", "/bin/attack"]);
        said(&mut command).fails(2, &[name]);
    }
    let program = OwnProgram::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut pipe = tar::Header::new_gnu();
    pipe.set_entry_type(tar::EntryType::Fifo);
    pipe.set_mode(0o666);
    pipe.set_size(0);
    tar.append_data(&mut pipe, "etc/passwd", std::io::empty()).unwrap();
    super::root_fs::add(&mut tar, "bin/attack", 0o755, Some(&attack));
    program.mounts.import("attack", &super::root_fs::finish(tar));
    said(&mut program.command(&["run-mount", "--rm", "attack", "--", "/bin/attack"])).fails(2, &["etc/passwd"]);
}
