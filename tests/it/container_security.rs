//! `--security-opt`, and what the filter of system calls must leave as it is.

use super::attack::{File, Machine, OwnProgram, compiled, compiled_with_library, image};
use super::mounts::{Mounts, PROGRAM, Said, said};
use super::processes::{descendants, end_of, eventually};
use super::root_fs::with_programs;

fn ran(program: &OwnProgram, options: &[&str], image: &str, command: &str) -> Said {
    said(&mut program.command(&[&["run-mount", "--rm"], options, &[image, "--", command]].concat()))
}

const NO_NEW_PRIVILEGES: [&str; 2] = ["--security-opt", "no-new-privileges"];
const UNCONFINED: [&str; 2] = ["--security-opt", "seccomp=unconfined"];

#[test]
fn a_set_user_id_program_gains_root_unless_that_is_forbidden() {
    let [gains, stays] = [&["GAINS"][..], &[]].map(|defined| compiled("privileges.c", Machine::X86_64, defined));
    let files: [File<'_>; 2] = [("bin/gains", 0o4755, &gains), ("bin/stays", 0o4755, &stays)];
    let program = OwnProgram::new();
    program.mounts.import("attack", &image(&files, &[]));
    said(&mut program.command(&["--quiet", "build", "--from", "attack", "-t", "user", "--config", "User=1000"])).ok();
    for options in [&[][..], &UNCONFINED, &["--security-opt", "no-new-privileges:false"]] {
        assert_eq!(ran(&program, options, "user", "/bin/gains").err, "held\n", "{options:?}");
    }
    for options in [&NO_NEW_PRIVILEGES[..], &[NO_NEW_PRIVILEGES, UNCONFINED].concat()] {
        assert_eq!(ran(&program, options, "user", "/bin/stays").err, "held\n", "{options:?}");
    }
}

#[test]
fn threads_and_old_programs_run_under_the_filter() {
    let threads = compiled_with_library("threads.c");
    let old = compiled("refused_calls.c", Machine::I386, &[]);
    let program = OwnProgram::new();
    let files: [File<'_>; 2] = [("bin/threads", 0o755, &threads), ("bin/old", 0o755, &old)];
    program.mounts.import("attack", &image(&files, &[]));
    assert_eq!(ran(&program, &[], "attack", "/bin/threads").ok(), "16\n");
    assert_eq!(ran(&program, &[], "attack", "/bin/old").err, "held\n");
}

#[test]
fn the_filter_is_what_proc_says() {
    let mounts = Mounts::with_programs();
    let lines = |options: &[&str]| {
        let args = [&["run-mount", "--rm"], options, &["programs", "--", "cat", "/proc/self/status"]].concat();
        let status = mounts.run(&args).ok();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        [field("Seccomp:"), field("Seccomp_filters:"), field("NoNewPrivs:")].join(" ")
    };
    assert_eq!(lines(&[]), "2 1 0");
    assert_eq!(lines(&UNCONFINED), "0 0 0");
    assert_eq!(lines(&NO_NEW_PRIVILEGES), "2 1 1");
    assert_eq!(lines(&["--security-opt=seccomp=unconfined", "--security-opt=no-new-privileges"]), "0 0 1");
    let refused = mounts.run(&["run-mount", "programs", "--security-opt", "seccomp=my.json", "--", "true"]);
    refused.fails(2, &["seccomp=my.json", "seccomp=unconfined"]);
    mounts.run(&["run-mount", "--security-opt", "seccomp=unconfined", "programs"]).fails(2, &["--security-opt"]);
    assert_eq!(super::mount_command::containers(&mounts), 0);
}

/// What hides the host's files is there, or the command does not start.
#[test]
fn a_mount_that_fails_ends_the_run() {
    let attack = compiled("host_files.c", Machine::X86_64, &[]);
    for (flags, place) in [
        // sysfs, and what hides a directory.
        (0xf, "/sys"),
        // What hides a file, made read-only.
        (0x102b, "/proc/"),
        // What is made read-only.
        (0x102f, "/"),
    ] {
        let program = OwnProgram::new();
        program.mounts.import("attack", &image(&[("bin/attack", 0o755, &attack)], &[]));
        program.install("faults", &compiled("errors_of_mount.c", Machine::X86_64, &[&format!("FLAGS={flags}")]));
        let mut command = program.mounts.command(program.mounts.at("faults"));
        command.arg(program.mounts.at("layerctl")).args(["run-mount", "--rm", "attack", "--", "/bin/attack"]);
        said(&mut command).fails(125, &[place, "Input/output error"]);
        program.mounts.assert_nothing_is_live();
    }
}

/// sudo and su of this machine, with a PAM that asks nobody for a password.
#[test]
fn sudo_and_su_work() {
    let mounts = Mounts::with_programs();
    let permit = b"auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n";
    let mut files: Vec<(String, u32, Vec<u8>)> =
        ["sudo", "su"].map(|name| of_host(&format!("/usr/bin/{name}"), 0o4755)).to_vec();
    let plugins = std::fs::read_dir("/usr/libexec/sudo").expect("sudo is installed: scripts/check-needs");
    let plugins =
        plugins.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|so| so == "so"));
    files.extend(plugins.map(|path| of_host(path.to_str().unwrap(), 0o644)));
    files.push(of_host("/lib/x86_64-linux-gnu/security/pam_permit.so", 0o644));
    for library in libraries(&["/usr/bin/sudo", "/usr/bin/su", "/usr/libexec/sudo/sudoers.so"]) {
        files.push(of_host(&library, 0o755));
    }
    for (name, mode, content) in [
        ("etc/pam.d/sudo", 0o644, &permit[..]),
        ("etc/pam.d/su", 0o644, permit),
        ("etc/sudoers", 0o440, b"Defaults !use_pty\nALL ALL=(ALL:ALL) NOPASSWD: ALL\n"),
        ("etc/nsswitch.conf", 0o644, b"passwd: files\ngroup: files\n"),
    ] {
        files.push((name.to_owned(), mode, content.to_vec()));
    }
    let files: Vec<File<'_>> = files.iter().map(|(name, mode, content)| (name.as_str(), *mode, &content[..])).collect();
    std::fs::write(mounts.at("sudo.tar"), image(&files, &[])).unwrap();
    let build = ["--quiet", "build", "--from", "programs", "-t", "sudo", "--config", "User=web", "sudo.tar"];
    mounts.run(&build).ok();
    for command in [&["sudo", "-n", "id", "-u"][..], &["su", "-c", "id -u"], &["sudo", "-n", "-u", "#33", "id", "-u"]] {
        let uid = if command.contains(&"#33") { "33\n" } else { "0\n" };
        let said = mounts.run(&[&["run-mount", "--rm", "sudo", "--"], command].concat());
        assert_eq!((said.code, said.out.as_str()), (0, uid), "{command:?}: {said:?}");
        let args = [&["run-mount", "--rm"], &NO_NEW_PRIVILEGES[..], &["sudo", "--"], command].concat();
        assert_ne!(mounts.run(&args).code, 0, "{command:?}");
    }
}

fn of_host(path: &str, mode: u32) -> (String, u32, Vec<u8>) {
    let content = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    (path.trim_start_matches('/').to_owned(), mode, content)
}

fn libraries(programs: &[&str]) -> std::collections::BTreeSet<String> {
    let output = std::process::Command::new("ldd").args(programs).output().expect("ldd runs").stdout;
    let text = String::from_utf8_lossy(&output).into_owned();
    let is_path = |word: &&str| word.starts_with('/') && !word.ends_with(':');
    text.split_whitespace().filter(is_path).map(str::to_owned).collect()
}

/// Also where what init is given has numbers between those that the caller left open.
#[test]
fn no_descriptor_that_the_caller_left_open_is_in_the_container() {
    let mounts = Mounts::new();
    mounts.import("box", &with_programs(&["ls"]));
    mounts.write("left-open", "");
    let gaps: String = (4..40).step_by(2).map(|number| format!(" {number}<left-open")).collect();
    let script = "ls -l /proc/self/fd; echo >/ready; while [ ! -e /end ]; do read x </dev/null; done; exit 0";
    let mut command = mounts.command("bash");
    command.args(["-c", &format!("exec{gaps}; exec $L run-mount --rm box -- sh -c '{script}'")]).env("L", PROGRAM);
    let mut caller = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let links = |pid: u32| {
        let numbers = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        numbers.filter_map(|number| std::fs::read_link(number.path()).ok()).collect::<Vec<_>>()
    };
    let is_left = |link: &std::path::PathBuf| link.ends_with("left-open");
    assert!(eventually(|| mounts.mounted().iter().any(|mount| mount.join("ready").exists())));
    assert_eq!(links(caller.id()).iter().filter(|link| is_left(link)).count(), 18);
    let below: Vec<u32> = descendants(caller.id()).into_iter().filter(|pid| *pid != caller.id()).collect();
    assert!(below.len() >= 2, "init and the command");
    for pid in below {
        let links = links(pid);
        assert!(!links.is_empty() && !links.iter().any(is_left), "{pid}: {links:?}");
    }
    std::fs::write(mounts.mounted()[0].join("end"), "").unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(caller.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert!(end_of(&mut caller).success());
    assert!(said.contains("/proc/") && !said.contains("left-open"), "{said}");
    mounts.assert_nothing_is_live();
}
