//! A server that is killed in the middle of a load: mounted again, each thread's directory is as it was before or
//! after the one operation that was cut short, and what had been synced is there.
//!
//! `LAYERCTL_CRASH_ROUNDS` says how often (6).

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use layerctl::index::Kind;
use layerctl::union::RenameMode;

use super::layer_tree::{Item, LayerTree};
use super::mount_fixture::{MountFixture, MountOf};
use super::plain_driver::PlainTree;
use super::processes::{eventually, kill};
use super::tree_op::{Op, Path, Tree as _, path, show};
use super::tree_snapshot::Snapshot;
use super::union_model::number_from;
use super::union_threads::Dice;

const THREADS: usize = 4;
/// Operations of all threads until the server is killed at the earliest, and by how many more it may be later.
const AT_LEAST: usize = 60;
const FURTHER: usize = 150;
const NAMES: [&str; 8] = ["a", "b", "c", "x", "y", "big", "new", "deep"];

/// What a thread did until its operation was cut short.
struct History {
    thread: usize,
    done: usize,
    /// The last one, of which nobody knows whether it was done.
    cut_short: Op<Path>,
    /// Files with writes that were not synced, by their numbers in the plain twin.
    unsynced: BTreeSet<u64>,
}

fn layers() -> [LayerTree; 2] {
    let (mut low, mut top) = (LayerTree::new(), LayerTree::new());
    for thread in 0..THREADS {
        let at = |name: &str| format!("t{thread}/{name}");
        low = low
            .dir(&at("a"), 0o755)
            .file(&at("a/x"), b"x of the low")
            .link(&at("a/y"), &at("a/x"))
            .file_with(&at("big"), &vec![b'b'; 300_000], |item: &mut Item| item.mode = 0o600)
            .file(&at("b/c/deep"), b"deep");
        top = top.file(&at("b/new"), b"new").whiteout(&at("a/z"));
    }
    [low, top]
}

fn random_path(dice: &mut Dice, thread: usize) -> Path {
    let mut path = path(format!("t{thread}"));
    for _ in 0..=dice.roll(3) {
        path.push(NAMES[dice.roll(NAMES.len())].as_bytes().to_vec());
    }
    path
}

fn random_op(dice: &mut Dice, thread: usize) -> Op<Path> {
    let path = random_path(dice, thread);
    let (replace, exchange) = (RenameMode::Replace, RenameMode::Exchange);
    match dice.roll(16) {
        0 | 1 => Op::Create { path, mode: 0o640, umask: 0 },
        2 => Op::Mkdir { path, mode: 0o750, umask: 0 },
        3 | 4 => Op::Unlink { path },
        5 => Op::Rmdir { path },
        6 => Op::Link { from: path, to: random_path(dice, thread) },
        7..10 => Op::Rename { from: path, to: random_path(dice, thread), mode: replace },
        10 => Op::Rename { from: path, to: random_path(dice, thread), mode: exchange },
        11..14 => {
            let data = vec![b'0' + u8::try_from(dice.roll(70)).expect("small"); 1 + dice.roll(5000)];
            Op::Write { path, offset: dice.roll(5000) as u64, data }
        }
        14 => Op::Truncate { path, size: dice.roll(400_000) as u64 },
        _ => Op::Chmod { path, mode: 0o600 + u32::try_from(dice.roll(0o100)).expect("small") },
    }
}

/// How far the threads are.
#[derive(Debug)]
struct Progress {
    /// Where all meet when they can begin.
    ready: Barrier,
    done: AtomicUsize,
}

/// Works in the mount, and does the same in the plain twin, until the server is gone.
fn load(fixture: &MountFixture, thread: usize, seed: u64, progress: &Progress) -> History {
    let mut mount = PlainTree::open(&fixture.mountpoint());
    let mut plain = PlainTree::open(&fixture.plain());
    let mut dice = Dice(seed * 1000 + thread as u64);
    let mut unsynced = BTreeSet::new();
    progress.ready.wait();
    for done in 0.. {
        let op = random_op(&mut dice, thread);
        let number = |path: &Path| {
            use std::os::unix::fs::MetadataExt as _;
            let path = path.iter().fold(fixture.plain(), |at, name| at.join(super::layer_tree::os(name)));
            std::fs::symlink_metadata(path).map(|meta| meta.ino()).ok()
        };
        let written = match &op {
            Op::Write { path, .. } => number(path).map(|number| (path.clone(), number)),
            _ => None,
        };
        unsynced.extend(written.iter().map(|(_, number)| *number));
        let got = mount.apply(&op);
        if let Err(libc::ENOTCONN | libc::ECONNABORTED | libc::EIO | libc::EINTR) = got {
            return History { thread, done, cut_short: op, unsynced };
        }
        let want = plain.apply(&op);
        assert_eq!(got, want, "{op:?}");
        if let (Some((path, number)), true, true) = (written, got.is_ok(), dice.roll(2) == 0) {
            // Where that fails, the next operation finds it out too.
            if mount.sync(&path).is_ok() {
                unsynced.remove(&number);
            }
        }
        progress.done.fetch_add(1, Ordering::Relaxed);
    }
    unreachable!("it ends with the server")
}

/// What is comparable of a thread's directory: all but times, and the content of what was not synced.
fn comparable(snapshot: &Snapshot, plain: &Snapshot, history: &History) -> Snapshot {
    let mut part = snapshot.clone().timeless();
    let at = path(format!("t{}", history.thread));
    part.entries.retain(|path, _| path.starts_with(&at));
    for (path, entry) in &mut part.entries {
        let number = plain.inodes.get(path).map(|inode| inode.0);
        if entry.stat.kind == Kind::File && number.is_some_and(|number| history.unsynced.contains(&number)) {
            (entry.stat.size, entry.content) = (0, Vec::new());
        }
    }
    part
}

fn kill_in_a_load(of: MountOf, seed: u64) -> usize {
    let fixture = MountFixture::new(&layers(), of);
    let servers = fixture.mounts.servers();
    let [server] = servers.as_slice() else { panic!("{servers:?}") };
    let progress = Progress { ready: Barrier::new(THREADS + 1), done: AtomicUsize::new(0) };
    let histories: Vec<History> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (fixture, progress) = (&fixture, &progress);
                scope.spawn(move || load(fixture, thread, seed, progress))
            })
            .collect();
        progress.ready.wait();
        let enough = AT_LEAST + usize::try_from(seed % 7).expect("small") * FURTHER;
        let is_under_load = eventually(|| progress.done.load(Ordering::Relaxed) >= enough);
        kill(*server);
        assert!(is_under_load, "only {progress:?}");
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    fixture.is_dead();
    fixture.umount();
    fixture.mount();
    let got = Snapshot::of_mount(&fixture.mountpoint()).expect("the tree can be read");
    let before = Snapshot::of_plain(&fixture.plain());
    let mut plain = PlainTree::open(&fixture.plain());
    for history in &histories {
        let then = comparable(&got, &before, history).differences(&comparable(&before, &before, history));
        let _ = plain.apply(&history.cut_short);
        let after = Snapshot::of_plain(&fixture.plain());
        let now = comparable(&got, &after, history).differences(&comparable(&after, &after, history));
        assert!(
            then.is_empty() || now.is_empty(),
            "seed {seed}, {of:?}, {} after {} operations, killed in {:?}:\n{}\nor\n{}",
            show(&path(format!("t{}", history.thread))),
            history.done,
            history.cut_short.map(|path| show(path)),
            then.join("\n"),
            now.join("\n")
        );
    }
    fixture.umount();
    fixture.nothing_private_is_left().expect("nothing is left");
    fixture.mount();
    let again = Snapshot::of_mount(&fixture.mountpoint()).expect("the tree can be read");
    assert_eq!(again.differences(&got), Vec::<String>::new(), "seed {seed}, {of:?}");
    assert_eq!(again.inodes, got.inodes, "seed {seed}, {of:?}");
    fixture.umount();
    fixture.mounts.assert_nothing_is_live();
    histories.iter().map(|history| history.done).sum()
}

#[test]
fn a_killed_server_loses_nothing_that_was_synced() {
    let rounds = number_from("LAYERCTL_CRASH_ROUNDS").unwrap_or(6);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let first = number_from("LAYERCTL_MODEL_SEED").unwrap_or(now.as_secs() & 0xffff);
    let done: Vec<usize> = (0..rounds)
        .map(|round| kill_in_a_load(if round % 2 == 0 { MountOf::Image } else { MountOf::Directories }, first + round))
        .collect();
    eprintln!("killed after {done:?} operations");
    assert!(done.iter().all(|done| *done >= AT_LEAST), "there was some load: {done:?}");
}
