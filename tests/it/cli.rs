//! The program itself, with a store of its own that goes with all that lives in it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::listing::Listing;
use super::mounts::{said, when_free};

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    /// Without the line that says what [`Output::is_root_file_system`] says.
    pub(crate) stderr: String,
    /// Whether it was said that a source was imported as a root file system.
    pub(crate) is_root_file_system: bool,
    /// 128 and the signal's number when one ended it.
    pub(crate) code: i32,
}

impl Output {
    /// The lines of standard output, of a run that must have gone well.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<&str> {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "the run should have gone well");
        self.stdout.lines().collect()
    }

    /// Standard output as JSON, of a run that must have gone well.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        self.lines();
        serde_json::from_str(&self.stdout).expect("standard output is JSON")
    }

    /// Fails unless this was refused as documented: this status, nothing on standard output, and on standard
    /// error one sentence that has all of `words` in it.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        assert!(self.stderr.starts_with("error: ") && self.stderr.ends_with('\n'), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {:?}", self.stderr);
        }
    }
}

/// Every import of a root file system says that it was one.
pub(crate) fn without_root_file_system(stderr: &str) -> (String, bool) {
    let is_it = |line: &&str| line.trim_end().ends_with(": imported as a root file system of one layer");
    let lines = || stderr.split_inclusive('\n');
    (lines().filter(|line| !is_it(line)).collect(), lines().any(|line| is_it(&line)))
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let text = |bytes| String::from_utf8(bytes).expect("the program writes text");
        let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
        let stdout = text(output.stdout);
        let (stderr, is_root_file_system) = without_root_file_system(&text(output.stderr));
        Self { stdout, stderr, is_root_file_system, code: code.expect("it has ended") }
    }
}

/// A directory with a store in it.
pub(crate) struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::with_prefix("layerctl-").expect("a temporary directory can be made") }
    }

    /// A path in the directory, beside the store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The store.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("store")
    }

    /// Writes a file beside the store; gives its path, for the command line.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file can be written");
        path.into_os_string().into_string().expect("the path is text")
    }

    /// The program with these words, nothing on standard input.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerctl"));
        command.args(words).env("LAYERCTL_ROOT", self.root()).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the program starts").into()
    }

    /// Unmounts: see [`when_free`].
    #[track_caller]
    pub(crate) fn umount(&self, target: &str) {
        when_free(|| said(&mut self.command(&["umount", target]))).ok();
    }

    /// With this file on standard input.
    pub(crate) fn run_from(&self, words: &[&str], path: &str) -> Output {
        let file = File::open(path).expect("the file is there");
        self.command(words).stdin(file).output().expect("the program starts").into()
    }

    /// With these bytes coming through a pipe on standard input.
    pub(crate) fn run_piped(&self, words: &[&str], bytes: &[u8]) -> Output {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut pipe = child.stdin.take().expect("there is a pipe");
        std::thread::scope(|scope| {
            // The program may have seen enough before the end.
            scope.spawn(move || pipe.write_all(bytes).ok());
            child.wait_with_output().expect("the program ends")
        })
        .into()
    }

    /// All that is in the store but for what is being made, with the files' very identities.
    pub(crate) fn store(&self) -> Listing {
        Listing::with_identities(&self.root()).without("tmp")
    }

    /// What is in the store's `tmp/`.
    pub(crate) fn debris(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.root().join("tmp")).expect("the store has it");
        names.map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned()).collect()
    }

    fn mounts_below(&self) -> Vec<PathBuf> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut places: Vec<PathBuf> = places.filter(|place| place.starts_with(self.dir.path())).collect();
        places.reverse();
        places
    }

    fn servers(&self) -> Vec<Pid> {
        let Ok(mounts) = std::fs::read_dir(self.root().join("run")) else { return Vec::new() };
        let pid = |dir: &Path| {
            let record: Value = serde_json::from_slice(&std::fs::read(dir.join("mount.json")).ok()?).ok()?;
            Pid::from_raw(record["pid"].as_i64()?.try_into().ok()?)
        };
        mounts.filter_map(|entry| pid(&entry.ok()?.path())).collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for place in self.mounts_below() {
            let _ = unmount(place, UnmountFlags::DETACH);
        }
        for server in self.servers() {
            let _ = kill_process(server, Signal::KILL);
        }
    }
}

/// Imports an archive from a file and from a pipe, each time into a store of its own.
pub(crate) fn each_way(archive: &[u8], more: &[&str], check: impl Fn(&Sandbox, &Output)) {
    let sandbox = Sandbox::new();
    let path = sandbox.write("archive", archive);
    check(&sandbox, &sandbox.run(&[&["import", &path], more].concat()));
    let sandbox = Sandbox::new();
    check(&sandbox, &sandbox.run_piped(&[&["import", "-"], more].concat(), archive));
}
