//! A union whose process ends in the middle: opened again, the tree is that before or after one operation.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path as FsPath;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use layerctl::index::Kind;
use layerctl::stack::Stack;
use layerctl::union::{RenameMode, Union};
use layerctl::whiteout;

use super::layer_tree::{LayerTree, os};
use super::model_case::{Fixture, IndexFrom, equal, work_dir};
use super::own_process;
use super::plain_driver::PlainTree;
use super::tree_op::{Op, Path, Tree as _, path};
use super::tree_snapshot::Snapshot;
use super::union_driver::UnionTree;

pub(crate) fn layers() -> [LayerTree; 2] {
    let long = "l".repeat(255);
    [
        LayerTree::new()
            .dir("d", 0o755)
            .dir("e", 0o755)
            .file("d/a", &vec![b'a'; 40_000])
            .link("d/b", "d/a")
            .link("e/c", "d/a")
            .file("d/sub/x", b"x")
            .file("m/low", b"low")
            .file(&long, b"long")
            .file("o/one", b"1"),
        LayerTree::new().file("m/top", b"top").file("d/sub/y", b"y").opaque("o").file("o/two", b"2"),
    ]
}

/// Operations with all that can be cut short in them.
pub(crate) fn operations() -> Vec<Op<Path>> {
    let rename = |from: &str, to: &str, mode| Op::Rename { from: path(from), to: path(to), mode };
    let (replace, exchange) = (RenameMode::Replace, RenameMode::Exchange);
    vec![
        Op::Chmod { path: path("d/sub/x"), mode: 0o600 },
        Op::Write { path: path("d/sub/x"), offset: 0, data: b"X".to_vec() },
        Op::Write { path: path("d/b"), offset: 39_999, data: b"tail".to_vec() },
        Op::Unlink { path: path("d/a") },
        Op::Create { path: path("d/a"), mode: 0o644, umask: 0 },
        Op::Open { path: path("m/low"), slot: 0 },
        Op::Unlink { path: path("m/low") },
        Op::SlotWrite { slot: 0, offset: 0, data: b"LOW".to_vec() },
        rename("m", "e/m", replace),
        Op::Mkdir { path: path("m"), mode: 0o755, umask: 0 },
        Op::Mkdir { path: path("m/inside"), mode: 0o755, umask: 0 },
        rename("e/m/top", "d/top", replace),
        Op::Rmdir { path: path("e/m") },
        rename("d", "o", exchange),
        rename("o/sub", "m/inside", replace),
        Op::Unlink { path: path("l".repeat(255)) },
        Op::Unlink { path: path("m/inside/y") },
        Op::Unlink { path: path("m/inside/x") },
        rename("o/top", "renamed", RenameMode::Whiteout),
        Op::Link { from: path("e/c"), to: path("linked") },
        rename("e", "m/inside", replace),
        Op::Truncate { path: path("m/inside/c"), size: 7 },
        Op::Close { slot: 0 },
        rename("m", "d", exchange),
        Op::Unlink { path: path("m/two") },
        Op::Rmdir { path: path("m") },
        Op::Symlink { path: path("m"), target: b"d".to_vec() },
    ]
}

/// The plain trees before the first operation, and after each.
fn histories(fixture: &Fixture, operations: &[Op<Path>]) -> Vec<Snapshot> {
    let mut plain: PlainTree = fixture.open_plain();
    let mut trees = vec![Snapshot::of_plain(&fixture.plain()).timeless()];
    for op in operations {
        plain.apply(op).unwrap_or_else(|errno| panic!("{op:?}: errno {errno}"));
        trees.push(Snapshot::of_plain(&fixture.plain()).timeless());
    }
    trees
}

pub(crate) fn nothing_private_is_left(upper: &FsPath) {
    for name in [whiteout::WORK, whiteout::LINKS, whiteout::ORPHANS] {
        let left = std::fs::read_dir(upper.join(os(name))).map(Iterator::count).unwrap_or(0);
        assert_eq!(left, 0, "{} is empty", name.escape_ascii());
    }
}

fn copy(upper: &FsPath, to: &FsPath) {
    let status = Command::new("cp").args(["-a", "--"]).arg(upper).arg(to).status().expect("cp runs");
    assert!(status.success());
}

#[test]
fn a_copy_of_the_upper_taken_at_any_time_is_a_whole_union() {
    let fixture = Fixture::new(&layers(), IndexFrom::Builder);
    let operations = operations();
    let trees = histories(&fixture, &operations);
    for keep in [false, true] {
        let live = Fixture::new(&layers(), IndexFrom::Builder);
        let mut union = UnionTree::new(Arc::new(Union::open(live.stack().clone()).expect("opens")), keep);
        for (step, op) in operations.iter().enumerate() {
            union.apply(op).unwrap_or_else(|errno| panic!("{op:?}: errno {errno}"));
            let there = work_dir();
            let upper = there.path().join("copy");
            copy(&live.upper(), &upper);
            // The remains of what never got a name.
            let work = upper.join(os(whiteout::WORK));
            std::fs::create_dir_all(work.join("left/over")).expect("a directory");
            std::fs::write(work.join("t0"), b"remains").expect("a file");
            let stack = Stack { upper: Some(upper.clone()), ..live.stack().clone() };
            let copied = UnionTree::new(Arc::new(Union::open(stack).expect("opens")), false);
            let got = Snapshot::of_union(&copied).expect("the tree can be read").timeless();
            equal(&got, &trees[step + 1], &format!("after {op:?}")).expect("equal");
            nothing_private_is_left(&upper);
        }
    }
}

const KILLED: &str = "union_crash::a_killed_union_is_before_or_after_one_operation";

/// The process that is killed: does an operation for each byte that it gets, and says the number of each that is done.
fn until_killed(root: &FsPath) {
    let stack = Fixture::stack_in(root, &layers());
    let mut union = UnionTree::new(Arc::new(Union::open(stack).expect("opens")), false);
    println!("\nready");
    for (step, op) in operations().iter().enumerate() {
        std::io::stdin().read_exact(&mut [0]).expect("it may go on");
        union.apply(op).expect("the operation is done");
        println!("\ndone {}", step + 1);
    }
    std::process::exit(0);
}

#[test]
fn a_killed_union_is_before_or_after_one_operation() {
    if own_process::is_own(KILLED) {
        return until_killed(FsPath::new(&std::env::var_os("LAYERCTL_TEST_ROOT").expect("the directory")));
    }
    let fixture = Fixture::new(&layers(), IndexFrom::Builder);
    let trees = histories(&fixture, &operations());
    let mut ends = std::collections::BTreeSet::new();
    const ROUNDS: usize = 60;
    for round in 0..ROUNDS {
        let case = Fixture::new(&layers(), IndexFrom::Builder);
        let mut command = own_process::command(KILLED);
        command.env("LAYERCTL_TEST_ROOT", case.dir()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the process starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        // It gets no further than to this operation, and is killed at some moment in it.
        let last = round * operations().len() / (ROUNDS - 1);
        let mut orders = child.stdin.take().expect("its input");
        orders.write_all(&vec![b'\n'; last]).expect("it is there");
        let before = last.saturating_sub(1);
        let wanted = if before == 0 { "ready".to_owned() } else { format!("done {before}") };
        assert!(lines.any(|line| line.expect("text") == wanted), "it says {wanted}");
        std::thread::sleep(Duration::from_micros(round as u64 % 5 * 40));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        let done =
            lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("done ")?.parse::<usize>().ok()).last();
        let done = done.unwrap_or(before);
        ends.insert(done);
        let union = case.open();
        let got = Snapshot::of_union(&union).expect("the tree can be read").timeless();
        let before = equal(&got, &trees[done], "before");
        let after = trees.get(done + 1).map_or(Err(String::new()), |tree| equal(&got, tree, "after"));
        if let (Err(before), Err(after)) = (before, after) {
            panic!("killed after operation {done} of\n{:?}\n{before}\n{after}", operations().get(done));
        }
        nothing_private_is_left(&case.upper());
    }
    eprintln!("killed after {ends:?} operations");
    assert!(ends.len() >= operations().len() / 2, "killed at different moments: {ends:?}");
}

#[test]
fn an_unlinked_lower_file_stays_deleted_when_the_process_ends() {
    let fixture = Fixture::new(&[LayerTree::new().file("f", b"1").file("g", b"2")], IndexFrom::Builder);
    let mut union = fixture.open();
    for op in [
        Op::Open { path: path("f"), slot: 0 },
        Op::Unlink { path: path("f") },
        Op::SlotWrite { slot: 0, offset: 0, data: b"orphan".to_vec() },
    ] {
        union.apply(&op).expect("done");
    }
    let there = work_dir();
    copy(&fixture.upper(), &there.path().join("copy"));
    let stack = Stack { upper: Some(there.path().join("copy")), ..fixture.stack().clone() };
    let again = UnionTree::new(Arc::new(Union::open(stack).expect("opens")), false);
    let names: Vec<Path> = Snapshot::of_union(&again).expect("the tree can be read").entries.into_keys().collect();
    assert_eq!(names, [Path::new(), path("g")]);
    assert_eq!(again.lookup(&path("g")).map(|held| held.attr.kind), Ok(Kind::File));
    nothing_private_is_left(&there.path().join("copy"));
}
