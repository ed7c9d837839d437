//! A store in a directory of its own with live mounts, and the program as its users call it.
//!
//! Whatever a test leaves mounted goes when its [`Mounts`] is dropped.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::mount::UnmountFlags;
use serde_json::Value;

use super::cli::without_root_file_system;
use super::processes::{eventually, hear_signals, is_alive, kill};
use super::root_fs::programs;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_layerctl");

/// A temporary directory with a store in it.
pub(crate) struct Mounts {
    dir: tempfile::TempDir,
}

/// What the program said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// The exit status, 128+n for signal n.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A container in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) mountpoint: PathBuf,
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountLine {
    /// Of the mount and of the file system.
    pub(crate) options: Vec<String>,
    pub(crate) fs_type: String,
    pub(crate) source: String,
}

impl Said {
    fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code, out: text(output.stdout), err: without_root_file_system(&text(output.stderr)).0 }
    }

    /// The standard output of what went well and had nothing else to say, but perhaps what it has waited for on a machine that
    /// is busy with other things.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        let is_said = |line: &&str| !line.starts_with("layerctl: waiting until ");
        assert_eq!((self.code, self.err.lines().filter(is_said).count()), (0, 0), "{self:?}");
        self.out
    }

    /// That it failed with this exit status and one sentence on standard error, in which all of `words` are.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) {
        self.fails_and_prints(code, words, "");
    }

    /// The same with something on standard output.
    #[track_caller]
    pub(crate) fn fails_and_prints(self, code: i32, words: &[&str], out: &str) {
        assert_eq!((self.code, self.out.as_str()), (code, out), "{self:?}");
        let is_said = |line: &&str| !line.starts_with("layerctl: waiting until ");
        let said: String = self.err.split_inclusive('\n').filter(is_said).collect();
        let sentence = said.strip_prefix("error: ").and_then(|rest| rest.strip_suffix('\n'));
        let sentence = sentence.unwrap_or_else(|| panic!("{self:?}"));
        assert!(!sentence.contains('\n') && words.iter().all(|word| sentence.contains(word)), "{self:?}");
    }
}

impl Mounts {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().expect("a temporary directory"))
    }

    /// In this directory, which goes with it.
    pub(crate) fn within(dir: tempfile::TempDir) -> Self {
        assert!(rustix::process::geteuid().is_root(), "the mount tests need root");
        assert!(fs::File::open("/dev/fuse").is_ok(), "the mount tests need /dev/fuse");
        hear_signals();
        Self { dir }
    }

    /// With the image `programs` in the store.
    pub(crate) fn with_programs() -> Self {
        let mounts = Self::new();
        mounts.import("programs", programs());
        mounts
    }

    /// A path in the temporary directory, which has no links in it.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("the directory is there").join(path)
    }

    /// The same as text.
    pub(crate) fn text(&self, path: &str) -> String {
        self.at(path).to_str().expect("a name in UTF-8").to_owned()
    }

    /// Makes a directory.
    pub(crate) fn mkdir(&self, path: &str) -> PathBuf {
        let dir = self.at(path);
        fs::create_dir_all(&dir).expect("a directory is made");
        dir
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let file = self.at(path);
        fs::create_dir_all(file.parent().expect("a parent")).expect("a directory is made");
        fs::write(file, content).expect("a file is written");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        read(&self.at(path))
    }

    /// A command with this store, in the temporary directory, which hears of nobody's standard input and speaks English.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env("LAYERCTL_ROOT", self.at("store"))
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// The program with these arguments.
    pub(crate) fn program(&self, args: &[&str]) -> Command {
        let mut command = self.command(PROGRAM);
        command.args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        said(&mut self.program(args))
    }

    /// A shell script in which `$L` is the program.
    pub(crate) fn shell(&self, script: &str) -> Said {
        said(self.command("sh").env("L", PROGRAM).args(["-c", script]))
    }

    /// Brings a tar into the store under a name, and gives the image's id.
    pub(crate) fn import(&self, name: &str, tar: &[u8]) -> String {
        let path = self.at(&format!("{name}.tar"));
        fs::write(&path, tar).expect("an archive is written");
        let said = self.run(&["--quiet", "import", "--tag", name, path.to_str().expect("a name in UTF-8")]);
        fs::remove_file(path).expect("the archive is removed");
        said.ok().trim_end().to_owned()
    }

    /// Brings an archive of images with their names into the store.
    pub(crate) fn import_archive(&self, archive: &[u8]) {
        let path = self.text("archive.tar");
        fs::write(&path, archive).expect("an archive is written");
        self.run(&["--quiet", "import", &path]).ok();
        fs::remove_file(path).expect("the archive is removed");
    }

    /// `run-mount` in the background.
    #[track_caller]
    pub(crate) fn mount(&self, args: &[&str]) -> Container {
        let args: Vec<&str> = ["run-mount"].iter().chain(args).copied().collect();
        let line = self.run(&args).ok();
        let (id, mountpoint) = line.strip_suffix('\n').and_then(|line| line.split_once(' ')).expect("ID MOUNTPOINT");
        Container { id: id.to_owned(), mountpoint: mountpoint.into() }
    }

    /// Unmounts with the program. To be used where files of the mount have been open in this process: see [`when_free`].
    #[track_caller]
    pub(crate) fn umount(&self, target: &str) {
        assert_eq!(when_free(|| self.run(&["umount", target])).ok(), "");
    }

    /// Unmounts with umount(8).
    #[track_caller]
    pub(crate) fn umount8(&self, mountpoint: impl AsRef<OsStr>) {
        assert_eq!(when_free(|| said(self.command("umount").arg(mountpoint.as_ref()))).ok(), "");
    }

    /// The one object that `inspect` shows of this name.
    #[track_caller]
    pub(crate) fn inspect(&self, name: impl AsRef<OsStr>) -> Value {
        let name = name.as_ref().to_str().expect("a name in UTF-8").to_owned();
        let values: Value = serde_json::from_str(&self.run(&["inspect", &name]).ok()).expect("JSON");
        assert_eq!(values.as_array().map(Vec::len), Some(1), "{values}");
        values[0].clone()
    }

    /// State and mountpoint of a container by its name or id, as `ps` shows them.
    #[track_caller]
    pub(crate) fn ps(&self, name: &str) -> (String, Option<String>) {
        let rows: Value = serde_json::from_str(&self.run(&["--format", "json", "ps"]).ok()).expect("JSON");
        let rows = rows.as_array().expect("an array").clone();
        let is_named = |row: &&Value| row["Name"] == name || row["Id"] == name;
        let row = rows.iter().find(is_named).unwrap_or_else(|| panic!("{name} is not in {rows:?}"));
        let word = |field: &str| row[field].as_str().map(str::to_owned);
        (word("State").expect("a state"), word("Mountpoint"))
    }

    /// What is mounted below the temporary directory.
    pub(crate) fn mounted(&self) -> Vec<PathBuf> {
        let dir = self.at("");
        mount_table().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(&dir)).collect()
    }

    /// The servers that have registered themselves in the store.
    pub(crate) fn servers(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.at("store/run")).into_iter().flatten().flatten();
        let pid = |path: PathBuf| {
            let record: Value = serde_json::from_slice(&fs::read(path.join("mount.json")).ok()?).ok()?;
            u32::try_from(record["pid"].as_u64()?).ok()
        };
        entries.filter_map(|entry| pid(entry.path())).collect()
    }

    /// That nothing is mounted, no server is there and none is registered.
    #[track_caller]
    pub(crate) fn assert_nothing_is_live(&self) {
        assert_eq!(self.mounted(), Vec::<PathBuf>::new());
        assert_eq!(names(&self.at("store/run")), Vec::<String>::new());
        let left = self.processes();
        let words = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().escape_ascii().to_string();
        assert!(left.is_empty(), "{left:?}: {:?}", left.iter().map(words).collect::<Vec<_>>());
    }

    /// The processes that were started with this store in their environment.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let variable = [b"LAYERCTL_ROOT=", self.at("store").as_os_str().as_bytes()].concat();
        let is_ours = |pid: &u32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            is_alive(*pid) && environ.split(|byte| *byte == 0).any(|entry| entry == variable)
        };
        let pids = names(Path::new("/proc")).into_iter().filter_map(|name| name.parse().ok());
        pids.filter(is_ours).collect()
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let servers = self.servers();
        for path in self.mounted().iter().rev() {
            let _ = rustix::mount::unmount(path, UnmountFlags::DETACH);
        }
        if !eventually(|| !servers.iter().any(|pid| is_alive(*pid))) {
            // They were registered, so that these are servers, and of this store.
            servers.into_iter().filter(|pid| is_alive(*pid)).for_each(kill);
        }
    }
}

/// Runs a command to its end.
pub(crate) fn said(command: &mut Command) -> Said {
    Said::of(command.output().expect("the program starts"))
}

/// Does something with a mount until nobody uses that any more. A file that this process has closed may be open a
/// little longer in a child which the test of another thread has forked, and which is not another program yet.
pub(crate) fn when_free(run: impl Fn() -> Said) -> Said {
    let mut said = run();
    eventually(|| {
        let is_free = !["busy", "in use"].iter().any(|word| said.err.contains(word));
        if !is_free {
            said = run();
        }
        is_free
    });
    said
}

/// Runs a command with this on its standard input.
pub(crate) fn said_with_input(command: &mut Command, input: &str) -> Said {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may print before it has read all.
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).expect("it reads"));
        Said::of(child.wait_with_output().expect("it ends"))
    })
}

/// Whether all mounts are made with `--io passthrough`, by `LAYERCTL_IO`: `make passthrough` runs the tests of mounts so.
pub(crate) fn passes_through() -> bool {
    std::env::var("LAYERCTL_IO").is_ok_and(|way| way == "passthrough")
}

/// Whether all containers are mounted with `--io kernel`, by `LAYERCTL_IO`: `make kernel` runs tests of mounts so.
pub(crate) fn by_kernel() -> bool {
    std::env::var("LAYERCTL_IO").is_ok_and(|way| way == "kernel")
}

/// Mountpoints and the rest of their lines, in the order of mounting. Of escapes, only that of a space is read.
fn mount_table() -> Vec<(PathBuf, MountLine)> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("a mount table");
    let read = |line: &str| {
        let (mount, fs) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let [fs_type, source, super_options] = *fs.split(' ').collect::<Vec<_>>() else { return None };
        let options = mount.get(5)?.split(',').chain(super_options.split(',')).map(str::to_owned).collect();
        let line = MountLine { options, fs_type: fs_type.to_owned(), source: source.to_owned() };
        Some((PathBuf::from(mount.get(4)?.replace("\\040", " ")), line))
    };
    text.lines().filter_map(read).collect()
}

/// The uppermost mount at this very path.
pub(crate) fn mount_line(path: &Path) -> Option<MountLine> {
    mount_table().into_iter().rev().find(|(target, _)| target == path).map(|(_, line)| line)
}

#[track_caller]
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names in a directory, sorted.
#[track_caller]
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Everything below a directory, without following links: path, type and mode, owner, size, times and content.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        for name in names(&dir) {
            let path = dir.join(name);
            let meta = fs::symlink_metadata(&path).expect("an entry");
            let content = if meta.is_file() {
                use std::hash::{DefaultHasher, Hash as _, Hasher as _};
                let mut hasher = DefaultHasher::new();
                fs::read(&path).expect("a file").hash(&mut hasher);
                format!("{:x}", hasher.finish())
            } else {
                fs::read_link(&path).map(|target| target.display().to_string()).unwrap_or_default()
            };
            let (path_text, mode, uid, gid) = (path.display(), meta.mode(), meta.uid(), meta.gid());
            let (size, mtime, ctime) =
                (meta.size(), (meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
            let (ino, nlink) = (meta.ino(), meta.nlink());
            lines.push(format!("{path_text} {mode:o} {uid}:{gid} {size} {mtime:?} {ctime:?} {ino} {nlink} {content}"));
            if meta.is_dir() {
                rest.push(path);
            }
        }
    }
    lines.sort();
    lines
}
