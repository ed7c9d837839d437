//! Hostile commands: small static programs, compiled from `tests/hostile`, in images made for them.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::mounts::Mounts;
use super::root_fs::{add, finish};

/// Where the sources are.
pub(crate) const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile");

/// The machine that a program is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    X86_64,
    I386,
}

/// One file of an image: its path, mode and content.
pub(crate) type File<'a> = (&'a str, u32, &'a [u8]);

/// The bytes of a program that needs neither libraries nor a loader. With `-D` for each of `definitions`.
#[track_caller]
pub(crate) fn compiled(source: &str, machine: Machine, definitions: &[&str]) -> Vec<u8> {
    let mut cc = Command::new("cc");
    cc.args(["-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie", "-O1"])
        // Only the kernel's headers, which a compiler for i386 looks for in another place.
        .args(["-Wall", "-Wextra", "-Wno-unused-function", "-Werror", "-isystem", "/usr/include/x86_64-linux-gnu"])
        .arg(if machine == Machine::I386 { "-m32" } else { "-m64" })
        .args(definitions.iter().map(|definition| format!("-D{definition}")));
    built(cc, source)
}

/// The same of a program of the C library, with it in the program.
#[track_caller]
pub(crate) fn compiled_with_library(source: &str) -> Vec<u8> {
    let mut cc = Command::new("cc");
    cc.args(["-static", "-pthread", "-O1", "-Wall", "-Wextra", "-Werror"]);
    built(cc, source)
}

#[track_caller]
fn built(mut cc: Command, source: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = dir.path().join("program");
    cc.args(["-o".as_ref(), program.as_os_str()]).arg(Path::new(SOURCES).join(source));
    let output = cc.output().expect("cc runs");
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(program).expect("a program")
}

/// A tar of a root file system with these files, symbolic links, and the directories that a container needs.
pub(crate) fn image(files: &[File<'_>], links: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["bin", "dev", "etc", "lib64", "proc", "sys", "tmp"] {
        add(&mut tar, dir, 0o755, None);
    }
    for (name, mode, content) in files {
        add(&mut tar, name, *mode, Some(content));
    }
    for (name, target) in links {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_mode(0o777);
        link.set_size(0);
        tar.append_link(&mut link, name, target).expect("a tar entry");
    }
    finish(tar)
}

/// The program under test in a directory of its own, so that an attack which comes through harms nothing else.
pub(crate) struct OwnProgram {
    pub(crate) mounts: Mounts,
}

impl OwnProgram {
    pub(crate) fn new() -> Self {
        static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
        let program = Self { mounts: Mounts::new() };
        let content = CONTENT.get_or_init(|| std::fs::read(super::mounts::PROGRAM).expect("the program"));
        program.install("layerctl", content);
        program
    }

    /// Puts a program into the temporary directory that [`Self::command`] runs in.
    pub(crate) fn install(&self, name: &str, content: &[u8]) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.mounts.at(name);
        std::fs::write(&path, content).expect("a program");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.mounts.command(self.mounts.at("layerctl"));
        command.args(args);
        command
    }
}
