//! Several threads on one union, each in a directory of its own: the tree is as if they had gone one by one.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use layerctl::union::RenameMode;

use super::layer_tree::{Item, LayerTree};
use super::model_case::{Fixture, IndexFrom, equal};
use super::tree_op::{Op, Path, Tree as _, path};
use super::tree_snapshot::Snapshot;
use super::union_driver::UnionTree;

pub(crate) const THREADS: usize = 4;

/// Numbers that look random, the same for a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides as u64).expect("small")
    }
}

/// Two layers with the same content in each thread's directory.
pub(crate) fn layers() -> [LayerTree; 2] {
    let (mut low, mut top) = (LayerTree::new(), LayerTree::new());
    for thread in 0..THREADS {
        low = low
            .dir(&format!("t{thread}"), 0o755)
            .dir(&format!("t{thread}/a"), 0o755)
            .file(&format!("t{thread}/a/x"), b"x of the low")
            .link(&format!("t{thread}/a/y"), &format!("t{thread}/a/x"))
            .file_with(&format!("t{thread}/big"), &vec![b'b'; 300_000], |item: &mut Item| item.mode = 0o600)
            .file(&format!("t{thread}/b/c/deep"), b"deep");
        top = top
            .dir(&format!("t{thread}"), 0o755)
            .file(&format!("t{thread}/b/new"), b"new")
            .whiteout(&format!("t{thread}/a/z"));
    }
    [low, top]
}

pub(crate) fn random_path(dice: &mut Dice, thread: usize) -> Path {
    let names = [&b"a"[..], b"b", b"c", b"x", b"y", b"big", b"new", b"deep"];
    let mut path = path(format!("t{thread}"));
    for _ in 0..=dice.roll(3) {
        path.push(names[dice.roll(names.len())].to_vec());
    }
    path
}

pub(crate) fn random_op(dice: &mut Dice, thread: usize) -> Op<Path> {
    let path = random_path(dice, thread);
    match dice.roll(13) {
        0 => Op::Create { path, mode: 0o640, umask: 0 },
        1 => Op::Mkdir { path, mode: 0o750, umask: 0 },
        2 | 3 => Op::Unlink { path },
        4 => Op::Rmdir { path },
        5 => Op::Link { from: path, to: random_path(dice, thread) },
        6 | 7 => Op::Rename { from: path, to: random_path(dice, thread), mode: RenameMode::Replace },
        8 => Op::Rename { from: path, to: random_path(dice, thread), mode: RenameMode::Exchange },
        9 => Op::Write { path, offset: dice.roll(5000) as u64, data: vec![b'w'; 1 + dice.roll(100)] },
        10 => Op::Truncate { path, size: dice.roll(400_000) as u64 },
        11 => Op::Chmod { path, mode: 0o600 + u32::try_from(dice.roll(0o100)).expect("small") },
        _ => Op::Readdir { path },
    }
}

fn threads_leave_what_they_would_alone(seed: u64, keep: bool) {
    let fixture = Fixture::new(&layers(), IndexFrom::Builder);
    let mut plain = fixture.open_plain();
    let union = fixture.open().union;
    let stop = AtomicBool::new(false);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        // Somebody who looks at everything all the time, and forgets it.
        scope.spawn(|| {
            let mut tree = UnionTree::new(Arc::clone(&union), false);
            let mut dice = Dice(seed);
            while !stop.load(Ordering::Relaxed) {
                let thread = dice.roll(THREADS);
                let path = random_path(&mut dice, thread);
                for op in [
                    Op::Readdir { path: path.clone() },
                    Op::Stat { path: path.clone() },
                    Op::Read { path, offset: 0, length: 400_000 },
                ] {
                    let outcome = tree.apply(&op);
                    // ESTALE is what a kernel gets, and asks again, when a name moved between two calls.
                    let expected = [libc::ENOENT, libc::ENOTDIR, libc::EISDIR, libc::EINVAL, libc::ESTALE];
                    assert!(
                        outcome.is_ok() || expected.iter().any(|errno| outcome == Err(*errno)),
                        "{op:?}: {outcome:?}"
                    );
                }
            }
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let mut tree = UnionTree::new(Arc::clone(&union), keep);
                scope.spawn(move || {
                    let mut dice = Dice(seed * 100 + thread as u64);
                    let run = || {
                        let op = random_op(&mut dice, thread);
                        let outcome = tree.apply(&op);
                        (op, outcome)
                    };
                    std::iter::repeat_with(run).take(150).collect::<Vec<_>>()
                })
            })
            .collect();
        let outcomes = workers.into_iter().map(|worker| worker.join().expect("no panic")).collect();
        stop.store(true, Ordering::Relaxed);
        outcomes
    });
    for (op, got) in outcomes.into_iter().flatten() {
        let want = plain.apply(&op);
        assert_eq!(got, want, "seed {seed}, {op:?}");
    }
    let want = Snapshot::of_plain(&fixture.plain());
    let tree = UnionTree::new(union, false);
    let got = Snapshot::of_union(&tree).expect("the tree can be read");
    equal(&got, &want, "after all").unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    drop(tree);
    let again = Snapshot::of_union(&fixture.open()).expect("the tree can be read");
    equal(&again, &want, "opened again").unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    assert_eq!(again.inodes, got.inodes, "seed {seed}");
}

#[test]
fn threads_in_their_own_directories_do_not_meet() {
    for seed in 1..=20 {
        threads_leave_what_they_would_alone(seed, seed % 2 == 0);
    }
}

#[test]
fn one_file_is_copied_up_once_by_many_threads() {
    for _ in 0..10 {
        let content = vec![b'.'; 2_000_000];
        let layer = LayerTree::new().file("f", &content).link("g", "f");
        let fixture = Fixture::new(&[layer], IndexFrom::Builder);
        let union = fixture.open().union;
        std::thread::scope(|scope| {
            for thread in 0..8u8 {
                let mut tree = UnionTree::new(Arc::clone(&union), false);
                scope.spawn(move || {
                    let path = path(if thread % 2 == 0 { "f" } else { "g" });
                    tree.apply(&Op::Write { path, offset: u64::from(thread) * 1000, data: vec![b'0' + thread; 1000] })
                        .expect("write");
                });
            }
        });
        let snapshot = Snapshot::of_union(&UnionTree::new(union, false)).expect("the tree can be read");
        let file = &snapshot.entries[&path("g")];
        assert_eq!((file.first_name.clone(), file.stat.nlink), (path("f"), 2));
        let mut expected = content;
        for thread in 0..8u8 {
            expected[usize::from(thread) * 1000..][..1000].fill(b'0' + thread);
        }
        assert!(file.content == expected, "every write is there");
    }
}

#[test]
fn a_file_that_is_renamed_while_its_data_are_copied_up_keeps_its_content() {
    let (big, other) = (vec![b'b'; 48 << 20], vec![b'o'; 4096]);
    let layer = LayerTree::new().file("big", &big).file("other", &other);
    let fixture = Fixture::new(&[layer], IndexFrom::Builder);
    let mut tree = fixture.open();
    for name in ["big", "other"] {
        // Both are in the upper now, without their data.
        tree.apply(&Op::Chmod { path: path(name), mode: 0o600 }).expect("chmod");
    }
    let (big_file, other_file) = (tree.lookup(&path("big")).expect("big"), tree.lookup(&path("other")).expect("other"));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| big_file_write(&tree, big_file.ino()));
        // From when the first data are there.
        let has_begun = || std::fs::metadata(fixture.upper().join("big")).expect("big").blocks() > 0;
        while !has_begun() && !writer.is_finished() {
            std::thread::yield_now();
        }
        let root = layerctl::union::Ino::ROOT;
        tree.union.rename((root, b"big"), (root, b"moved"), RenameMode::Replace).expect("rename");
        tree.union.rename((root, b"other"), (root, b"big"), RenameMode::Replace).expect("rename");
        assert_eq!(writer.join().expect("no panic"), Ok(1), "the write is done");
    });
    assert_eq!(tree.read(other_file.ino(), 0, 9), Ok(b"ooooooooo".to_vec()));
    drop((big_file, other_file));
    tree.close();
    drop(tree);
    let tree = fixture.open();
    for (name, content) in [("big", b"ooo"), ("moved", b"wbb")] {
        let held = tree.lookup(&path(name)).expect("lookup");
        assert_eq!(tree.read(held.ino(), 0, 3), Ok(content.to_vec()), "{name}");
    }
}

fn big_file_write(tree: &UnionTree, ino: layerctl::union::Ino) -> layerctl::union::FsResult<u64> {
    tree.union.write(ino, 0, b"w", None, layerctl::union::Times::Move).untold()
}

#[test]
fn a_change_of_attributes_meets_its_own_directory_while_two_change_places() {
    let layer = LayerTree::new().dir("a", 0o755).dir("b", 0o755);
    let fixture = Fixture::new(&[layer], IndexFrom::Builder);
    let tree = fixture.open();
    let (a, b) = (tree.lookup(&path("a")).expect("a"), tree.lookup(&path("b")).expect("b"));
    let root = layerctl::union::Ino::ROOT;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                tree.union.rename((root, b"a"), (root, b"b"), RenameMode::Exchange).expect("exchange");
            }
        });
        let changes = (0..4000u32).map(|round| {
            let set = layerctl::union::SetAttr { mode: Some(0o700 + round % 8), ..Default::default() };
            tree.union
                .setattr(a.ino(), &set, super::union_driver::ROOT_USER)
                .untold()
                .map(|attr| attr.mode == 0o700 + round % 8)
        });
        let wrong = changes.filter(|result| *result != Ok(true)).count();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(wrong, 0, "every change is seen at the directory it was meant for");
    });
    assert_eq!(tree.union.getattr(b.ino()).map(|attr| attr.mode), Ok(0o755), "the other one is never changed");
}
