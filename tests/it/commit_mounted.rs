//! `commit` of a container that is mounted: all that was written before is in the layer, changes wait or go on.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::mount_commit::{image, layers, shown};
use super::mounts::{Mounts, names, said};
use super::processes::{end_of, eventually, kill};

/// Longer than anything takes that does not wait.
const WHILE: Duration = Duration::from_millis(500);
const EPOCH: &str = "1000000000";
/// More than a socket and a pipe take.
const LARGE: usize = 24 << 20;

fn commit(mounts: &Mounts, words: &[&str]) -> String {
    let words: Vec<&str> = ["commit", "c"].iter().chain(words).copied().collect();
    said(mounts.program(&words).env("SOURCE_DATE_EPOCH", EPOCH)).ok().trim_end().to_owned()
}

#[test]
fn what_was_written_before_is_in_the_layer() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let container = mounts.mount(&["--name", "c", &base]);
    let at = &container.mountpoint;
    let empty = commit(&mounts, &[]);
    assert_eq!(layers(&mounts, &empty), layers(&mounts, &base));
    // The kernel has these, and nobody has closed the files.
    let mut new = File::create(at.join("new")).unwrap();
    new.write_all(&vec![b'n'; 3 << 20]).unwrap();
    let lower = File::options().write(true).open(at.join("e/c")).unwrap();
    lower.write_all_at(b"C", 0).unwrap();
    fs::rename(at.join("d"), at.join("e/d")).unwrap();
    fs::hard_link(at.join("e/d/a"), at.join("link")).unwrap();
    fs::remove_file(at.join("f")).unwrap();
    let paused = commit(&mounts, &["-t", "paused"]);
    assert_eq!(commit(&mounts, &["--live"]), paused);
    assert_eq!(commit(&mounts, &["--pause=false"]), paused);
    assert_eq!(commit(&mounts, &["--pause"]), paused);
    let before = shown(at);
    drop((new, lower));
    mounts.umount("c");
    assert_eq!(commit(&mounts, &[]), paused, "mounted or not, it is the same layer");
    let again = mounts.mount(&["--read-only", "paused"]);
    assert_eq!(fs::read_to_string(again.mountpoint.join("e/c")).unwrap(), "C\n");
    assert_eq!(fs::read(again.mountpoint.join("new")).unwrap(), vec![b'n'; 3 << 20]);
    assert_eq!(shown(&again.mountpoint).len(), before.len());
    mounts.run(&["verify"]).ok();
}

#[test]
fn a_container_whose_command_runs_is_committed() {
    let mounts = Mounts::with_programs();
    let mut command = mounts.program(&["run-mount", "--name", "c", "programs", "--", "sh", "-c"]);
    let script = "echo one > /written; exec 9>> /open; echo two >&9; echo go; cat";
    let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let made = commit(&mounts, &[]);
    drop(child.stdin.take());
    assert!(end_of(&mut child).success());
    let said = mounts.run(&["run-mount", "--rm", &made, "--", "cat", "/written", "/open"]);
    assert_eq!(said.ok(), "one\ntwo\n");
}

/// A commit that has stopped in the middle of a large file.
struct Stopped {
    child: Child,
}

impl Stopped {
    /// Of the container `c`, to the image `made`.
    fn new(mounts: &Mounts) -> Self {
        let start = || {
            let mut command = mounts.program(&["--quiet", "commit", "c", "-t", "made"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut stopped = Self { child: start() };
        // It is stopped and goes on until it is where the layer's first bytes are on the disk, and most are still to come.
        let has_begun = || {
            stopped.stop();
            let begun = (1 << 20..LARGE as u64 / 2).contains(&content_in(&mounts.at("store/tmp")));
            if !begun {
                stopped.signal(Signal::CONT);
            }
            // Where others keep the processors busy, it may have come to its end between two looks.
            if stopped.child.try_wait().unwrap().is_some() {
                mounts.run(&["rmi", "made"]).ok();
                stopped.child = start();
            }
            begun
        };
        assert!(eventually(has_begun), "it packs");
        stopped
    }

    /// Returns when it does nothing any more, as it has stopped or has ended.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let either = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), either).expect("it is ours");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    fn go_on(self) -> super::mounts::Said {
        self.signal(Signal::CONT);
        let output = self.child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        super::mounts::Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Bytes of the files below a directory.
fn content_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |path: &Path| fs::symlink_metadata(path).map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 });
    entries.map(|entry| if entry.path().is_dir() { content_in(&entry.path()) } else { size(&entry.path()) }).sum()
}

/// A mounted container with a large file in it.
fn large(mounts: &Mounts) -> super::mounts::Container {
    let base = image(mounts);
    let container = mounts.mount(&["--name", "c", &base]);
    fs::write(container.mountpoint.join("a-large-one"), vec![b'x'; LARGE]).unwrap();
    container
}

#[test]
fn changes_wait_until_the_layer_is_packed_and_reading_does_not() {
    let mounts = Mounts::new();
    let container = large(&mounts);
    let at = &container.mountpoint;
    let stopped = Stopped::new(&mounts);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            fs::create_dir(at.join("late")).unwrap();
            done.store(true, Ordering::SeqCst);
        });
        let begin = Instant::now();
        while begin.elapsed() < WHILE {
            assert_eq!(fs::read_to_string(at.join("e/c")).unwrap(), "c\n");
            assert_eq!(fs::metadata(at.join("a-large-one")).unwrap().len(), LARGE as u64);
            assert!(!done.load(Ordering::SeqCst), "it should wait");
            std::thread::sleep(Duration::from_millis(10));
        }
        stopped.go_on().ok();
        changing.join().unwrap();
    });
    assert!(at.join("late").is_dir());
    let again = mounts.mount(&["--read-only", "made"]);
    assert!(!again.mountpoint.join("late").exists());
    assert_eq!(fs::read(again.mountpoint.join("a-large-one")).unwrap(), vec![b'x'; LARGE]);
}

#[test]
fn a_commit_that_dies_holds_nobody_back_and_leaves_nothing() {
    let mounts = Mounts::new();
    let container = large(&mounts);
    let mut stopped = Stopped::new(&mounts);
    kill(stopped.child.id());
    assert!(!end_of(&mut stopped.child).success());
    fs::create_dir(container.mountpoint.join("late")).unwrap();
    mounts.run(&["inspect", "made"]).fails_and_prints(1, &["made"], "[]\n");
    let made = commit(&mounts, &["-t", "made"]);
    assert_eq!(layers(&mounts, &made).len(), 2);
    assert_eq!(names(&mounts.at("store/tmp")), Vec::<String>::new());
    mounts.run(&["verify"]).ok();
}

#[test]
fn a_server_that_dies_is_told_and_nothing_is_half_made() {
    let mounts = Mounts::new();
    let container = large(&mounts);
    rustix::fs::syncfs(File::open(&container.mountpoint).unwrap()).unwrap();
    let server = mounts.servers()[0];
    let stopped = Stopped::new(&mounts);
    kill(server);
    stopped.go_on().fails(125, &["container c", "its server has ended"]);
    assert_eq!(names(&mounts.at("store/tmp")), Vec::<String>::new());
    // What was written is still there.
    let made = commit(&mounts, &[]);
    assert_eq!(layers(&mounts, &made).len(), 2);
}

#[test]
fn what_is_committed_while_changes_go_on_has_whole_files() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let container = mounts.mount(&["--name", "c", &base]);
    let at = &container.mountpoint;
    fs::create_dir(at.join("stays")).unwrap();
    (0..50).for_each(|number| fs::write(at.join(format!("stays/{number}")), "stays").unwrap());
    let content = |number: u32| format!("{number}\n").repeat(5000);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..3u32 {
            let (over, container) = (&over, &container);
            scope.spawn(move || {
                let at = &container.mountpoint;
                for number in (0..).map(|number| number * 3 + worker) {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let dir = at.join(format!("dir-{}", number % 7));
                    let _ = fs::create_dir(&dir);
                    let (part, whole) = (at.join(format!("part-{worker}")), dir.join(number.to_string()));
                    let written = File::create(&part).and_then(|mut file| {
                        file.write_all(content(number).as_bytes())?;
                        file.sync_data()
                    });
                    if written.is_ok() && fs::rename(&part, &whole).is_ok() && number % 2 == 0 {
                        let _ = fs::remove_file(&whole);
                    }
                    if number % 30 == 0 {
                        let _ = fs::remove_dir_all(&dir);
                    }
                }
            });
        }
        let commits = || {
            for number in 0..12 {
                let mode = if number % 3 == 0 { "--pause" } else { "--live" };
                mounts.run(&["commit", "c", "-t", &format!("made-{number}"), mode]).ok();
            }
        };
        // A failure must not leave the others running.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(commits));
        over.store(true, Ordering::SeqCst);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    for number in 0..12 {
        let made = mounts.mount(&["--name", "look", "--read-only", &format!("made-{number}")]);
        for name in 0..50 {
            assert_eq!(fs::read_to_string(made.mountpoint.join(format!("stays/{name}"))).unwrap(), "stays");
        }
        for dir in names(&made.mountpoint).iter().filter(|name| name.starts_with("dir-")) {
            for name in names(&made.mountpoint.join(dir)) {
                let read = fs::read_to_string(made.mountpoint.join(dir).join(&name)).unwrap();
                assert!(read == content(name.parse().unwrap()), "made-{number}: {dir}/{name}");
            }
        }
        mounts.umount("look");
        mounts.run(&["rm", "look"]).ok();
    }
    mounts.run(&["verify"]).ok();
}

#[test]
fn several_commits_at_once_are_the_same() {
    let mounts = Mounts::new();
    let _container = large(&mounts);
    let made: Vec<String> = std::thread::scope(|scope| {
        let commits: Vec<_> = (0..4).map(|_| scope.spawn(|| commit(&mounts, &[]))).collect();
        commits.into_iter().map(|commit| commit.join().unwrap()).collect()
    });
    assert!(made.iter().all(|one| *one == made[0]), "{made:?}");
}

#[test]
fn who_unmounts_does_not_wait_for_a_commit_that_has_stopped() {
    let mounts = Mounts::new();
    let _container = large(&mounts);
    let stopped = Stopped::new(&mounts);
    // It would fail if the server did not end.
    mounts.umount("c");
    stopped.go_on().fails(125, &["container c", "its server has ended"]);
    mounts.run(&["inspect", "made"]).fails_and_prints(1, &["made"], "[]\n");
    assert_eq!(layers(&mounts, &commit(&mounts, &[])).len(), 2);
}

#[test]
fn a_file_that_grows_all_the_time_keeps_no_commit_from_its_beginning() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let container = mounts.mount(&["--name", "c", &base]);
    // In MiB: so much as fast as it can, and then slowly. Not all of the disk, should the commit not come.
    const FAST: usize = 500;
    const AT_MOST: usize = 4 * FAST;
    let over = AtomicBool::new(false);
    let grows = container.mountpoint.join("grows");
    let has_grown_to_the_end = std::thread::scope(|scope| {
        let growing = scope.spawn(|| {
            let mut file = File::create(&grows).unwrap();
            let block = vec![b'g'; 1 << 20];
            (0..AT_MOST).any(|number| {
                for part in block.chunks(if number < FAST { block.len() } else { block.len() / 32 }) {
                    file.write_all(part).unwrap();
                    if number >= FAST {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                over.load(Ordering::SeqCst)
            })
        });
        assert!(eventually(|| fs::metadata(&grows).is_ok_and(|meta| meta.len() > 0)));
        commit(&mounts, &["-t", "made"]);
        over.store(true, Ordering::SeqCst);
        growing.join().unwrap()
    });
    assert!(has_grown_to_the_end, "the commit came only when the file had stopped to grow");
    // What the file gets while the layer is packed the kernel gathers.
    let made = mounts.mount(&["--read-only", "made"]);
    let length = fs::metadata(made.mountpoint.join("grows")).unwrap().len();
    assert!(0 < length && length <= fs::metadata(&grows).unwrap().len(), "{length}");
}
