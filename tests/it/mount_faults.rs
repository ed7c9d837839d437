//! System calls of a mount's server that fail: what its programs are told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::layer_tree::LayerTree;
use super::mounts::Mounts;

/// Opens the file, and for each word that it gets does what that says, and says what the system said.
const PROGRAM: &str = r#"
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
print("ready", flush=True)
for line in sys.stdin:
    try:
        if line == "fsync\n":
            os.fsync(fd)
        else:
            os.pwrite(fd, line.strip().encode(), 0)
        print("done", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"#;

/// A process that has a file open.
struct Program {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Program {
    fn open(file: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let orders = child.stdin.take().expect("its input");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        let mut program = Self { child, orders, answers };
        assert_eq!(program.answer(), "ready");
        program
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    fn run(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("it listens");
        self.answer()
    }

    fn end(self) {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        assert!(child.wait().expect("it ends").success());
    }
}

/// The server of the only mount, whose calls fail by strace(1) as long as this is there.
struct Failing(Child);

impl Failing {
    fn start(mounts: &Mounts, calls: &str, error: &str) -> Self {
        let [server] = *mounts.servers() else { panic!("one server") };
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &server.to_string(), "-e", &format!("trace={calls}"), "-e", "signal=none"]);
        command.args(["-e", &format!("inject={calls}:error={error}:when=1"), "-o", &mounts.text("strace")]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("strace runs");
        let mut said = String::new();
        BufReader::new(child.stderr.as_mut().expect("its messages")).read_line(&mut said).expect("text");
        assert!(said.contains("attached"), "{said}");
        Self(child)
    }

    /// Lets the server run on, and says whether a call has failed.
    fn end(mut self, mounts: &Mounts) -> bool {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("it is there");
        self.0.wait().expect("it ends");
        mounts.read("strace").contains("(INJECTED)")
    }
}

fn mounted() -> (Mounts, std::path::PathBuf) {
    let mounts = Mounts::new();
    mounts.import("base", &LayerTree::new().file("file", b"of the layer").tar());
    let at = mounts.mount(&["--name", "box", "base"]).mountpoint;
    (mounts, at)
}

#[test]
fn an_interrupted_call_of_the_server_is_made_again() {
    let (mounts, at) = mounted();
    let mut program = Program::open(&at.join("file"));
    let calls = "pwrite64,fsync,fdatasync,openat,copy_file_range,ftruncate";
    let failing = Failing::start(&mounts, calls, "EINTR");
    assert_eq!(program.run("WRITTEN"), "done");
    assert_eq!(program.run("fsync"), "done");
    assert!(failing.end(&mounts));
    let upper = mounts.inspect("box")["GraphDriver"]["Data"]["UpperDir"].as_str().expect("a path").to_owned();
    assert_eq!(std::fs::read_to_string(Path::new(&upper).join("file")).expect("a file"), "WRITTENlayer");
    program.end();
    mounts.umount("box");
}

#[test]
fn a_failed_flush_is_told_to_each_process_that_was_there() {
    let (mounts, at) = mounted();
    let file = at.join("file");
    let (mut first, mut second) = (Program::open(&file), Program::open(&file));
    // The copy-up, which flushes too, is done before.
    assert_eq!(first.run("WRITTEN"), "done");
    assert_eq!(first.run("fsync"), "done");
    assert_eq!(second.run("fsync"), "done");
    assert_eq!(first.run("AGAIN"), "done");
    let failing = Failing::start(&mounts, "fsync,fdatasync", "EIO");
    assert_eq!(first.run("fsync"), libc::EIO.to_string());
    assert!(failing.end(&mounts));
    // As from the kernel: each once, and one that comes later is not told.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut third = Program::open(&file);
    assert_eq!(third.run("fsync"), "done");
    assert_eq!(first.run("fsync"), "done");
    assert_eq!(second.run("fsync"), libc::EIO.to_string());
    assert_eq!(second.run("fsync"), "done");
    for program in [first, second, third] {
        program.end();
    }
    mounts.umount("box");
}
