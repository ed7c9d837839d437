//! The host's program as the executable of processes in a container, which must not be able to change it
//! (CVE-2019-5736 is runc's).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::attack::{File, Machine, OwnProgram, compiled, image};
use super::mounts::{Said, said};

/// All that a command could change of a file.
pub(crate) fn state(path: &Path) -> String {
    let meta = fs::symlink_metadata(path).unwrap();
    let mut names = vec![0_u8; 4096];
    let size = rustix::fs::listxattr(path, &mut names[..]).unwrap();
    names.truncate(size);
    let (mode, uid, gid, size, nlink) = (meta.mode(), meta.uid(), meta.gid(), meta.size(), meta.nlink());
    let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    let names = String::from_utf8_lossy(&names);
    format!("{mode:o} {uid}:{gid} {size} {nlink} {mtime:?} {ctime:?} {names:?}")
}

#[test]
fn a_command_cannot_change_the_host_s_program_through_its_exe() {
    let loader = compiled("own_exe.c", Machine::X86_64, &[]);
    let files: [File<'_>; 3] = [
        ("lib64/ld-linux-x86-64.so.2", 0o755, &loader),
        ("bin/script", 0o755, b"#!/proc/self/exe\n"),
        ("bin/script-of-script", 0o755, b"#!/bin/script\n"),
    ];
    let links = [
        ("bin/link", "/proc/self/exe"),
        ("bin/link-to-link", "link"),
        ("bin/relative", "../proc/self/exe"),
        ("bin/thread", "/proc/thread-self/exe"),
    ];
    let program = OwnProgram::new();
    program.mounts.import("attack", &image(&files, &links));
    let host = program.mounts.at("layerctl");
    let before = state(&host);
    for command in [
        "/proc/self/exe",
        "/proc/thread-self/exe",
        "/proc/self/../self/exe",
        "/bin/script",
        "/bin/script-of-script",
        "/bin/link",
        "link",
        "/bin/link-to-link",
        "/bin/relative",
        "/bin/thread",
    ] {
        for option in [&[][..], &["--read-only"]] {
            let args = [&["run-mount", "--rm"], option, &["attack", "--", command]].concat();
            let said = said(&mut program.command(&args));
            assert_eq!(state(&host), before, "{command} {option:?}: {said:?}");
            assert_eq!(said, Said { code: 0, out: String::new(), err: "held\n".into() }, "{command} {option:?}");
        }
    }
    program.mounts.assert_nothing_is_live();
}

#[test]
fn a_command_inherits_nothing_of_its_caller() {
    let [left, inherited] = ["leave_behind.c", "inherited.c"].map(|source| compiled(source, Machine::X86_64, &[]));
    let program = OwnProgram::new();
    program.mounts.import("attack", &image(&[("bin/attack", 0o755, &inherited)], &[]));
    program.install("caller", &left);
    // Without the filter a command can ask for keys.
    for option in ["--rm", "--security-opt=seccomp=unconfined"] {
        let mut command = program.mounts.command(program.mounts.at("caller"));
        command.arg(program.mounts.at("layerctl")).args(["run-mount", option, "attack", "--", "/bin/attack"]);
        assert_eq!(said(&mut command), Said { code: 0, out: String::new(), err: "held\n".into() }, "{option}");
    }
}

#[test]
fn a_program_that_cannot_be_bound_runs_no_command() {
    let program = OwnProgram::new();
    let attack = compiled("groups.c", Machine::X86_64, &[]);
    program.mounts.import("attack", &image(&[("bin/attack", 0o755, &attack)], &[]));
    let dir = program.mounts.mkdir("unbindable");
    rustix::mount::mount("tmpfs", &dir, "tmpfs", rustix::mount::MountFlags::empty(), c"").unwrap();
    rustix::mount::mount_change(&dir, rustix::mount::MountPropagationFlags::UNBINDABLE).unwrap();
    fs::copy(program.mounts.at("layerctl"), dir.join("layerctl")).unwrap();
    let mut command = program.mounts.command(dir.join("layerctl"));
    command.args(["run-mount", "--rm", "attack", "--", "/bin/attack"]);
    said(&mut command).fails(125, &["unbindable", "run a copy"]);
    rustix::mount::unmount(&dir, rustix::mount::UnmountFlags::DETACH).unwrap();
    program.mounts.assert_nothing_is_live();
}
