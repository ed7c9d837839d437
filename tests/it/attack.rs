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

/// The bytes of a program that needs neither libraries nor a loader. With `-D` for each of `definitions`.
#[track_caller]
pub(crate) fn compiled(source: &str, machine: Machine, definitions: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = dir.path().join("program");
    let output = Command::new("cc")
        .args(["-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie", "-O1"])
        // Only the kernel's headers, which a compiler for i386 looks for in another place.
        .args(["-Wall", "-Wextra", "-Wno-unused-function", "-Werror", "-isystem", "/usr/include/x86_64-linux-gnu"])
        .arg(if machine == Machine::I386 { "-m32" } else { "-m64" })
        .args(definitions.iter().map(|definition| format!("-D{definition}")))
        .args(["-o".as_ref(), program.as_os_str()])
        .arg(Path::new(SOURCES).join(source))
        .output()
        .expect("cc runs");
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(program).expect("a program")
}

/// A tar of a root file system with these files, which may all be executed, symbolic links, and the directories that a
/// container needs.
pub(crate) fn image(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["bin", "dev", "etc", "lib64", "proc", "sys", "tmp"] {
        add(&mut tar, dir, 0o755, None);
    }
    for (name, content) in files {
        add(&mut tar, name, 0o755, Some(content));
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
        let mounts = Mounts::new();
        let content = CONTENT.get_or_init(|| std::fs::read(super::mounts::PROGRAM).expect("the program"));
        std::fs::write(mounts.at("layerctl"), content).expect("a copy of the program");
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(mounts.at("layerctl"), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        Self { mounts }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.mounts.command(self.mounts.at("layerctl"));
        command.args(args);
        command
    }
}
