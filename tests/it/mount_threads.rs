//! Several threads on one mount, each in a directory of its own or all in the same.

use std::sync::atomic::{AtomicBool, Ordering};

use super::mount_fixture::{MountFixture, MountOf};
use super::plain_driver::PlainTree;
use super::tree_op::{Op, Path, Tree as _};
use super::tree_snapshot::Snapshot;
use super::union_model::number_from;
use super::union_threads::{Dice, THREADS, layers, random_op, random_path};

const OPERATIONS: usize = 400;

/// What may come of an operation when others change the tree at the same time.
const EXPECTED: [i32; 8] =
    [libc::ENOENT, libc::EEXIST, libc::ENOTDIR, libc::EISDIR, libc::ENOTEMPTY, libc::EINVAL, libc::EPERM, libc::ELOOP];

/// Rounds of each test: a twentieth of the model's cases.
fn rounds() -> u64 {
    number_from("LAYERCTL_MODEL_CASES").unwrap_or(60) / 20
}

fn seed(round: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    number_from("LAYERCTL_MODEL_SEED").unwrap_or(now.as_secs() & 0xffff) + round
}

fn of(round: u64) -> MountOf {
    if round.is_multiple_of(2) { MountOf::Image } else { MountOf::Directories }
}

/// Each thread's operations and what they gave, while somebody looks at everything.
fn work(
    fixture: &MountFixture,
    seed: u64,
    op: fn(&mut Dice, usize) -> Op<Path>,
) -> Vec<(Op<Path>, super::tree_op::Outcome)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut tree = PlainTree::open(&fixture.mountpoint());
            let mut dice = Dice(seed);
            while !stop.load(Ordering::Relaxed) {
                let thread = dice.roll(THREADS);
                let path = random_path(&mut dice, thread);
                for op in [
                    Op::Readdir { path: path.clone() },
                    Op::Stat { path: path.clone() },
                    Op::Read { path, offset: 0, length: 400_000 },
                ] {
                    assert_expected(seed, &op, &tree.apply(&op));
                }
            }
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut tree = PlainTree::open(&fixture.mountpoint());
                    let mut dice = Dice(seed * 100 + thread as u64);
                    let run = || {
                        let op = op(&mut dice, thread);
                        let outcome = tree.apply(&op);
                        (op, outcome)
                    };
                    std::iter::repeat_with(run).take(OPERATIONS).collect::<Vec<_>>()
                })
            })
            .collect();
        let outcomes: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        outcomes.into_iter().flat_map(|outcomes| outcomes.expect("no panic")).collect()
    })
}

fn assert_expected(seed: u64, op: &Op<Path>, outcome: &super::tree_op::Outcome) {
    let expected = outcome.is_ok() || EXPECTED.iter().any(|errno| *outcome == Err(*errno));
    assert!(expected, "seed {seed}, {op:?}: {outcome:?}");
}

/// That the tree is in itself right, now and when it is mounted again.
fn assert_whole(fixture: &MountFixture, seed: u64) -> Snapshot {
    let got = Snapshot::of_mount(&fixture.mountpoint()).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    fixture.umount();
    fixture.nothing_private_is_left().unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    fixture.mount();
    let again = Snapshot::of_mount(&fixture.mountpoint()).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    assert_eq!(again.differences(&got), Vec::<String>::new(), "seed {seed}, mounted again");
    assert_eq!(again.inodes, got.inodes, "seed {seed}");
    fixture.umount();
    fixture.mounts.assert_nothing_is_live();
    got
}

#[test]
fn threads_in_their_own_directories_of_a_mount_do_not_meet() {
    for round in 0..rounds() {
        let (seed, fixture) = (seed(round), MountFixture::new(&layers(), of(round)));
        let lowers = fixture.lowers();
        let mut plain = PlainTree::open(&fixture.plain());
        for (op, got) in work(&fixture, seed, random_op) {
            let want = plain.apply(&op);
            assert_eq!(got, want, "seed {seed}, {op:?}");
        }
        let got = assert_whole(&fixture, seed);
        let want = Snapshot::of_plain(&fixture.plain());
        assert_eq!(got.differences(&want), Vec::<String>::new(), "seed {seed}");
        assert!(fixture.lowers() == lowers, "seed {seed}: a lower layer was changed");
    }
}

#[test]
fn threads_in_the_same_directories_of_a_mount_leave_a_whole_tree() {
    for round in 0..rounds() {
        let (seed, fixture) = (seed(round), MountFixture::new(&layers(), of(round)));
        let lowers = fixture.lowers();
        for (op, got) in work(&fixture, seed, |dice, _| random_op(dice, 0)) {
            assert_expected(seed, &op, &got);
        }
        assert_whole(&fixture, seed);
        assert!(fixture.lowers() == lowers, "seed {seed}: a lower layer was changed");
    }
}
