//! The model test through real mounts: the kernel, the server and the union together are a plain directory.
//!
//! `LAYERCTL_MODEL_CASES` says how many cases the tests run (50), half of them on an image; the other variables are
//! those of `union_model`.

use std::sync::atomic::{AtomicU64, Ordering};

use layerctl::index::Kind;
use layerctl::union::RenameMode;

use super::layer_tree::LayerTree;
use super::model_case::{Numbers, brief, equal, outcome};
use super::mount_fixture::{MountFixture, MountOf};
use super::mounts::by_kernel;
use super::plain_driver::PlainTree;
use super::tree_op::{Op, Outcome, Path, Stat, Tree as _, Value};
use super::tree_snapshot::Snapshot;
use super::union_model::{number_from, repeat};

/// How many operations were done, and how many were refused.
static DONE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Runs operations on a mount and on its plain twin, and checks all that must hold.
fn run(
    layers: &[LayerTree],
    of: MountOf,
    next: &mut dyn FnMut(usize, &PlainTree) -> Option<Op<Path>>,
) -> Result<(), String> {
    let fixture = MountFixture::new(layers, of);
    let lowers = fixture.lowers();
    let mut numbers = Numbers::default();
    let mut compare = |when: &str| {
        let got = Snapshot::of_mount(&fixture.mountpoint()).map_err(|wrong| format!("{when}: {wrong}"))?;
        let want = Snapshot::of_plain(&fixture.plain());
        equal(&got, &want, when)?;
        // From Linux 6.16 on overlayfs over FUSE forgets whose copy a file is.
        if by_kernel() && of == MountOf::Image {
            return Ok(());
        }
        numbers.check(&got, &want).map_err(|wrong| format!("{when}: {wrong}"))
    };
    compare("before the first operation")?;
    let mut log = Vec::new();
    let with_log = |log: &[String], wrong: String| format!("{wrong}\n after\n  {}", log.join("\n  "));
    let mut plain = PlainTree::open(&fixture.plain());
    let mut mount = Some(PlainTree::open(&fixture.mountpoint()));
    let mut step = 0;
    while let Some(op) = next(step, &plain) {
        step += 1;
        if by_kernel() && of == MountOf::Image && is_other_with_overlayfs(&op) {
            continue;
        }
        let want = plain.apply(&op);
        DONE[usize::from(want.is_err())].fetch_add(1, Ordering::Relaxed);
        log.push(format!("{} -> {}", brief(&op), outcome(&want)));
        if matches!(op, Op::Reopen) {
            mount = None;
            fixture.umount();
            fixture.mount();
            compare("mounted again").map_err(|wrong| with_log(&log, wrong))?;
        }
        let got = mount.get_or_insert_with(|| PlainTree::open(&fixture.mountpoint())).apply(&op);
        if uncounted(got.clone(), of) != uncounted(want.clone(), of) {
            return Err(with_log(&log, format!("gave {}, must give {}, in the last", outcome(&got), outcome(&want))));
        }
        if want.is_err() {
            let touched = touched_when_refused(&op);
            let name = b"security.capability".to_vec();
            for path in touched {
                let now = Op::Utimens { path: path.clone(), mtime: None };
                for op in [now, Op::RemoveXattr { path, name: name.clone() }] {
                    [&mut plain].into_iter().chain(&mut mount).for_each(|tree| drop(tree.apply(&op)));
                }
            }
        }
    }
    compare("at the end").map_err(|wrong| with_log(&log, wrong))?;
    drop((mount, plain));
    fixture.umount();
    fixture.nothing_private_is_left().map_err(|wrong| with_log(&log, wrong))?;
    fixture.mount();
    compare("at the end, mounted again").map_err(|wrong| with_log(&log, wrong))?;
    fixture.umount();
    if fixture.lowers() != lowers {
        return Err(with_log(&log, "a lower layer was changed".to_owned()));
    }
    fixture.mounts.assert_nothing_is_live();
    Ok(())
}

/// Overlayfs counts no directories in a directory.
fn uncounted(outcome: Outcome, of: MountOf) -> Outcome {
    match outcome {
        Ok(Value::Stat(stat)) if by_kernel() && of == MountOf::Image && stat.kind == Kind::Directory => {
            Ok(Value::Stat(Stat { nlink: 0, ..stat }))
        }
        outcome => outcome,
    }
}

/// What overlayfs does not do, over whatever layers: devices 0:0, and the rename that leaves one.
fn is_other_with_overlayfs(op: &Op<Path>) -> bool {
    match op {
        Op::Rename { from, to, mode } => {
            // `redirect_max` of overlayfs: a directory of a layer whose path is longer is not renamed (`EXDEV`).
            let is_long = |path: &Path| path.iter().map(Vec::len).sum::<usize>() > 200;
            *mode == RenameMode::Whiteout || is_long(from) || is_long(to)
        }
        // The same, for a file whose data stay in the layer.
        Op::Link { from, to } => [from, to].into_iter().any(|path| path.iter().map(Vec::len).sum::<usize>() > 200),
        Op::Mknod { kind, rdev, .. } => *kind == Kind::CharDevice && *rdev == (0, 0),
        _ => false,
    }
}

/// Of what the refusal of an operation may move the times, on one of the two sides only.
fn touched_when_refused(op: &Op<Path>) -> Vec<Path> {
    match op {
        // FUSE's client moves the times and drops capabilities before it asks (fs/fuse/file.c, `fuse_file_fallocate`).
        Op::Fallocate { path, .. } => vec![path.clone()],
        // Ext4 makes the whiteout before it finds the directory not empty (fs/ext4/namei.c, `ext4_rename`).
        Op::Rename { from, to, mode: RenameMode::Whiteout } => {
            [from, to].iter().filter_map(|path| Some(path.split_last()?.1.to_vec())).collect()
        }
        _ => Vec::new(),
    }
}

fn model(of: MountOf) {
    let cases = number_from("LAYERCTL_MODEL_CASES").unwrap_or(50).div_ceil(2);
    repeat(cases, 1..4, 1..60, |layers, _, next| run(layers, of, next));
    let [done, refused] = [0, 1].map(|at| DONE[at].load(Ordering::Relaxed));
    eprintln!("{cases} cases; so far {done} operations were done, {refused} refused");
}

#[test]
fn a_mounted_union_is_a_plain_directory() {
    model(MountOf::Directories);
}

#[test]
fn a_container_is_a_plain_directory() {
    model(MountOf::Image);
}

/// A thread of the server had the last reference to the union, and the process ended while it put the upper in order:
/// a private directory was left, or the root's time had moved.
#[test]
fn a_server_ends_after_it_has_put_the_upper_in_order() {
    let fixture = MountFixture::new(&[LayerTree::new().file("f", b"f")], MountOf::Directories);
    let before = Snapshot::of_plain(&fixture.plain());
    for _ in 0..30 {
        fixture.umount();
        fixture.nothing_private_is_left().expect("nothing is left");
        let names = std::fs::read_dir(fixture.upper()).expect("the upper").count();
        assert_eq!(names, 0);
        fixture.mount();
        let got = Snapshot::of_mount(&fixture.mountpoint()).expect("the tree can be read");
        equal(&got, &before, "mounted again").expect("equal");
    }
}
