//! A server that is killed while the kernel waits for it: it is gone at once, and so is whatever waits.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::SeekFrom;
use rustix::process::Signal;

use super::layer_tree::LayerTree;
use super::mounts::Mounts;
use super::processes::{descendants, eventually, kill, signal};

/// How long each write of the server takes: longer than all that is waited for takes on a busy machine.
const DELAY: std::time::Duration = std::time::Duration::from_secs(40);

/// The server of the only mount, whose writes to the disk each take long.
fn slow(mounts: &Mounts, server: u32) -> Child {
    let mut command = Command::new("strace");
    command.args(["-f", "-p", &server.to_string(), "-e", "trace=pwrite64", "-e", "signal=none"]);
    command.args(["-e", &format!("inject=pwrite64:delay_enter={}s", DELAY.as_secs()), "-o", &mounts.text("strace")]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("strace runs");
    let mut said = String::new();
    BufReader::new(child.stderr.as_mut().expect("its messages")).read_line(&mut said).expect("text");
    assert!(said.contains("attached"), "{said}");
    child
}

/// Writes to a file without a flush, has `ask` begin something that waits for it, and kills the server.
fn killed_while(ask: impl FnOnce(&Mounts, &Path) -> Child) {
    let mounts = Mounts::new();
    mounts.import("base", &LayerTree::new().file("file", b"of the layer").tar());
    let at = mounts.mount(&["--io", "cached", "--name", "box", "base"]).mountpoint;
    // Copied up, so that only the new data are to be written.
    fs::write(at.join("file"), "first").unwrap();
    File::open(at.join("file")).unwrap().sync_all().unwrap();
    let [server] = *mounts.servers() else { panic!("one server") };
    let mut strace = slow(&mounts, server);
    let mut command = Command::new("python3");
    command.args(["-c", CHANGE]).arg(at.join("file")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut writing = command.spawn().unwrap();
    BufReader::new(writing.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let mut asking = ask(&mounts, &at);
    // Another process waits for the server: one that waited for itself could not be killed.
    let waits = || [server, asking.id()].into_iter().any(|starter| !descendants(starter).is_empty());
    assert!(eventually(waits), "a process was started that waits for the server");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let begin = std::time::Instant::now();
    signal(server, Signal::KILL);
    // It would keep the thread whose write it holds.
    strace.kill().unwrap();
    strace.wait().unwrap();
    kill(server);
    assert!(eventually(|| asking.try_wait().unwrap().is_some()), "and what has waited for it ends");
    assert!(begin.elapsed() < DELAY, "the write has come to its end");
    drop(writing.stdin.take());
    writing.wait().unwrap();
    mounts.umount("box");
    assert!(eventually(|| mounts.processes().is_empty()), "{:?}", mounts.processes());
}

/// Changes a file by a mapping, since who is in write(2) holds the file's lock while the kernel holds them back; and does not close
/// it, which would write it.
const CHANGE: &str = r#"
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(file, 5)
print("mapped", flush=True)
mapped[0:5] = b"other"
sys.stdin.read()
os.kill(os.getpid(), 9)
"#;

/// `SEEK_DATA` is 3 (include/uapi/linux/fs.h).
const SEEK: &str = "open(my $file, '<', $ARGV[0]) or die; sysseek($file, 0, 3) or die";

#[test]
fn while_it_is_asked_where_data_are() {
    killed_while(|_, at| {
        let mut command = Command::new("perl");
        command.args(["-e", SEEK]).arg(at.join("file")).stderr(Stdio::null()).spawn().unwrap()
    });
}

#[test]
fn while_it_is_asked_for_its_rw_layer() {
    killed_while(|mounts, _| {
        let mut command = mounts.program(&["commit", "box", "-t", "made"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    });
}

#[test]
fn what_was_gathered_is_data_and_in_a_commit() {
    let mounts = Mounts::new();
    mounts.import("base", &LayerTree::new().file("file", &[0; 9000]).tar());
    let at = mounts.mount(&["--io", "cached", "--name", "box", "base"]).mountpoint;
    for name in ["file", "new"] {
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(at.join(name)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", 1 << 20).unwrap();
        let found = rustix::fs::seek(&file, SeekFrom::Data(20_000)).unwrap();
        assert!(found <= 1 << 20, "{name}: {found}");
        assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(1 << 20)).unwrap(), (1 << 20) + 4, "{name}");
        // Without a name too.
        fs::remove_file(at.join(name)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"more", 1 << 21).unwrap();
        let found = rustix::fs::seek(&file, SeekFrom::Data((1 << 20) + 5000)).unwrap();
        assert!(found > 1 << 20 && found <= 1 << 21, "{name}: {found}");
        let mut content = Vec::new();
        rustix::fs::seek(&file, SeekFrom::Start(1 << 21)).unwrap();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"more");
    }
    mounts.umount("box");
}
