//! Where one point is tried: a directory with a store, inputs and a mountpoint, made anew from a template each time.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_layerctl");
/// After this a run counts as one that never ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a run said, and how it ended: 128+n for signal n, nothing when it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn is_done(&self) -> bool {
        self.code == Some(0)
    }

    /// In one line.
    pub(crate) fn brief(&self) -> String {
        let code = self.code.map_or("did not end".to_owned(), |code| format!("exit status {code}"));
        format!("{code}: {}", self.err.trim_end().replace('\n', " / "))
    }
}

/// What the standard input of a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    Nothing,
    /// A file, through a pipe.
    Pipe(&'static str),
}

pub(crate) struct Ground {
    dir: PathBuf,
}

impl Ground {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// As the template is.
    pub(crate) fn reset(&self, template: &Path) {
        self.end_all();
        let _ = fs::remove_dir_all(&self.dir);
        let status = Command::new("cp").arg("-a").args([template, &self.dir]).status().expect("cp starts");
        assert!(status.success(), "the template is copied to {}", self.dir.display());
    }

    /// A command that works with the store here, is in this directory and speaks English.
    pub(crate) fn command(&self, program: &str, input: Input) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env("LAYERCTL_ROOT", self.at("store"))
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .env("LC_ALL", "C");
        command.stdin(match input {
            Input::Nothing => Stdio::null(),
            Input::Pipe(path) => {
                let mut cat =
                    Command::new("cat").arg(self.at(path)).stdout(Stdio::piped()).spawn().expect("cat starts");
                let pipe = cat.stdout.take().expect("a pipe");
                // It ends with the reader.
                std::thread::spawn(move || cat.wait());
                pipe.into()
            }
        });
        command
    }

    /// Runs the program to its end, undisturbed.
    pub(crate) fn run(&self, args: &[&str], input: Input) -> Said {
        let mut command = self.command(PROGRAM, input);
        self.said(command.args(args), "plain")
    }

    /// Runs a command to its end, or kills it.
    pub(crate) fn said(&self, command: &mut Command, name: &str) -> Said {
        let (out, err) = (self.at(&format!("{name}.out")), self.at(&format!("{name}.err")));
        let create = |path: &Path| File::create(path).expect("a file for what is printed");
        let mut child = command.stdout(create(&out)).stderr(create(&err)).spawn().expect("the program starts");
        let status = wait(&mut child, PATIENCE);
        if status.is_none() {
            let _ = child.kill();
            // What hangs in the kernel cannot be killed before the server is.
            std::thread::spawn(move || child.wait());
        }
        self.printed(status.map(code), &out, &err)
    }

    pub(crate) fn printed(&self, code: Option<i32>, out: &Path, err: &Path) -> Said {
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        Said { code, out: read(out), err: String::from_utf8_lossy(&read(err)).into_owned() }
    }

    /// What is mounted here.
    pub(crate) fn mounted(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").expect("a mount table");
        let path = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
        text.lines().filter_map(path).filter(|path| path.starts_with(&self.dir)).collect()
    }

    /// The processes that were started with this store in their environment, or with a command line that has it.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let variable = [b"LAYERCTL_ROOT=", self.at("store").as_os_str().as_bytes()].concat();
        let entries = fs::read_dir("/proc").expect("proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_ours = |pid: &i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !command.starts_with(b"cat\0") && environ.split(|byte| *byte == 0).any(|entry| entry == variable)
        };
        pids.filter(is_ours).collect()
    }

    /// Whether no process is left after some time.
    pub(crate) fn is_quiet(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while !self.processes().is_empty() {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Kills and unmounts whatever is left.
    pub(crate) fn end_all(&self) {
        for pid in self.processes() {
            // They have this store in their environment, so that they are this point's.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for path in self.mounted().iter().rev() {
            let _ = umount2(path, MntFlags::MNT_DETACH | MntFlags::MNT_FORCE);
        }
        self.is_quiet(Duration::from_secs(5));
    }

    /// What lies in `tmp/`; one file is there for good.
    pub(crate) fn debris(&self) -> Vec<String> {
        let names = fs::read_dir(self.at("store/tmp")).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name != "record").collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// Waits for the end of a child; nothing if that does not come.
pub(crate) fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
