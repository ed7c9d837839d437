//! A store in a directory of its own with live mounts, and the program as its users call it.
//!
//! Whatever a test leaves mounted goes when its [`Mounts`] is dropped.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_layerctl");
/// How long is waited for what comes "eventually": longer than any machine that is busy with other things takes.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

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
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// The standard output of what went well and had nothing else to say.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
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
        let sentence = self.err.strip_prefix("error: ").and_then(|rest| rest.strip_suffix('\n'));
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
        assert_eq!(self.processes(), Vec::<u32>::new());
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

/// Whether something comes true while it is waited for.
pub(crate) fn eventually(mut is_true: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if is_true() {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    is_true()
}

/// Waits for a child, which must end by itself.
#[track_caller]
pub(crate) fn end_of(child: &mut std::process::Child) -> ExitStatus {
    let mut status = None;
    let ended = eventually(|| {
        status = child.try_wait().expect("it can be waited for");
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
    }
    status.expect("the process has not ended")
}

/// Whether all mounts are made with `--io passthrough`, by `LAYERCTL_IO`: `make passthrough` runs the tests of mounts so.
pub(crate) fn passes_through() -> bool {
    std::env::var("LAYERCTL_IO").is_ok_and(|way| way == "passthrough")
}

/// Whether there is such a process, and it is more than a zombie. One whose first thread has ended may have others.
pub(crate) fn is_alive(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.map(|task| fs::read_to_string(task.path().join("stat")).unwrap_or_default());
    let lives = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']));
    stats.into_iter().any(lives)
}

/// The processes that `pid` has started, and those that these have started.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let children = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        for line in children.collect::<Vec<_>>() {
            found.extend(line.split_whitespace().map(|pid| pid.parse::<u32>().expect("a pid")));
        }
        next += 1;
    }
    found.split_off(1)
}

/// Kills it, and waits: it holds its locks and files until the last of its threads is gone.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
    assert!(eventually(|| !is_alive(pid)), "{pid} lives on");
}

/// Whoever has started the tests in the background may have had them ignore signals, and so the programs that they
/// start. What is caught here is not ignored there.
fn hear_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = read(Path::new("/proc/self/status"));
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("the field is there");
        let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a number");
        for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1] {
            if ignored >> (signal.as_raw() - 1) & 1 == 1 {
                signal_hook::flag::register(signal.as_raw(), Arc::default()).expect("it can be caught");
            }
        }
    });
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    // It may be gone by itself.
    let _ = kill_process(pid, signal);
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

/// Adds a directory, or with content a file, to a tar.
pub(crate) fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: Option<&[u8]>) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(if content.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory });
    header.set_mode(mode);
    header.set_mtime(1_600_000_000);
    let content = content.unwrap_or_default();
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).expect("a tar entry");
}

pub(crate) fn finish(tar: tar::Builder<Vec<u8>>) -> Vec<u8> {
    tar.into_inner().expect("a tar")
}

/// The tar of a root file system with a few of this machine's programs, the libraries they need, and some files.
pub(crate) fn programs() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| {
        let mut tar = tar::Builder::new(Vec::new());
        for dir in ["bin", "dev", "etc", "proc", "srv", "sys", "tmp"] {
            add(&mut tar, dir, 0o755, None);
        }
        let mut files = std::collections::BTreeMap::new();
        for name in ["sh", "cat", "sleep", "ls", "id", "env", "rm", "mkdir", "chmod"] {
            let found = ["/bin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
            let path = found.unwrap_or_else(|| panic!("this machine has no {name}"));
            let libraries = Command::new("ldd").arg(&path).output().expect("ldd runs").stdout;
            for word in String::from_utf8_lossy(&libraries).split_whitespace().filter(|word| word.starts_with('/')) {
                files.insert(word.trim_start_matches('/').to_owned(), PathBuf::from(word));
            }
            files.insert(format!("bin/{name}"), path);
        }
        for (name, path) in files {
            add(&mut tar, &name, 0o755, Some(&fs::read(path).expect("a program")));
        }
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n";
        let group = b"root:x:0:\nweb:x:34:\nextra:x:50:web\n";
        let files =
            [("etc/passwd", &passwd[..]), ("etc/group", group), ("etc/hosts", b""), ("file", b"of the image\n")];
        for (name, content) in files {
            add(&mut tar, name, 0o644, Some(content));
        }
        finish(tar)
    })
}

/// The tar of a root file system without programs: quick to import.
pub(crate) fn plain() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "dir", 0o755, None);
    for name in ["file", "dir/one", "dir/two"] {
        add(&mut tar, name, 0o644, Some(format!("{name} of the image\n").as_bytes()));
    }
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_mode(0o777);
    link.set_size(0);
    tar.append_link(&mut link, "link", "dir/one").expect("a tar entry");
    finish(tar)
}
