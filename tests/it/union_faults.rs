//! A system call of the union fails once: the operation has had no effect or all of it, in the union that is open and in
//! the one that is opened next, and done again it goes through.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path as FsPath;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use layerctl::union::Union;

use super::model_case::{Fixture, IndexFrom};
use super::own_process;
use super::plain_driver::PlainTree;
use super::tree_op::{Op, Path, Tree as _, path};
use super::tree_snapshot::Snapshot;
use super::union_crash;
use super::union_driver::{ROOT_USER, UnionTree};

const DISTURBED: &str = "union_faults::a_failed_call_leaves_an_operation_undone_or_done";
/// Failures in a row after which an operation is not tried again.
const TRIES: usize = 3;

/// A system call that fails, with this error, at its so manyth time.
#[derive(Debug, Clone, Copy)]
struct Fault {
    call: &'static str,
    error: &'static str,
    at: usize,
    /// How often in a row.
    times: usize,
}

/// One line for each entry of a tree.
fn lines(snapshot: Snapshot) -> Vec<String> {
    let line = |(path, mut entry): (Path, super::tree_snapshot::Entry)| {
        let mut hasher = DefaultHasher::new();
        std::mem::take(&mut entry.content).hash(&mut hasher);
        let path = path.iter().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>().join("/");
        format!("{path}: {entry:?} {:x}", hasher.finish())
    };
    snapshot.timeless().entries.into_iter().map(line).collect()
}

/// The process whose calls fail. It does the operations in a thread of its own, since calls are counted for each.
fn disturbed(root: &FsPath) {
    let stack = Fixture::stack_in(root, &union_crash::layers());
    let operations = union_crash::operations();
    let root = root.to_owned();
    let run = move || {
        println!("\nbegins");
        let open = || Union::open(stack.clone());
        let union = open().or_else(|_| open()).or_else(|_| open()).expect("opens the third time");
        let mut union = UnionTree::new(Arc::new(union), false);
        for (step, op) in operations.iter().enumerate() {
            let mut tries = 0;
            while let Err(errno) = union.apply(op) {
                // What fails several times in a row hits the test too.
                let tree =
                    Snapshot::of_union(&union).or_else(|_| Snapshot::of_union(&union)).expect("the tree can be read");
                let text = lines(tree).join("\n");
                let write = || std::fs::write(root.join("failed"), &text);
                write().or_else(|_| write()).expect("written");
                println!("\nfailed {step} {errno}");
                let mut order = String::new();
                std::io::stdin().read_line(&mut order).expect("an order");
                if order.trim() == "next" {
                    break;
                }
                tries += 1;
                assert!(tries < TRIES, "{op:?}: errno {errno}");
            }
        }
        println!("\nend");
        let mut order = String::new();
        std::io::stdin().read_line(&mut order).expect("an order");
        if order.trim() == "exit" {
            std::process::exit(0);
        }
        union.close();
    };
    std::thread::Builder::new()
        .name("disturbed".to_owned())
        .spawn(run)
        .expect("a thread")
        .join()
        .expect("it ends well");
}

/// Starts this test's own process under strace(1), which makes the calls fail.
fn start(case: &FsPath, name: &str, fault: Fault) -> Child {
    let own = own_process::command(name);
    let mut command = Command::new("strace");
    let Fault { call, error, at, times } = fault;
    command.args(["-f", "-qq", "-o"]).arg(case.join("strace"));
    command.args(["-e", &format!("trace={call}"), "-e", "signal=none"]);
    command.args(["-e", &format!("inject={call}:error={error}:when={at}..{}", at + times - 1)]);
    command.arg(own.get_program()).args(own.get_args()).env("LAYERCTL_TEST_ROOT", case);
    command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("strace runs")
}

/// Whether a call of the thread with the union failed; others run into it too, and no matter.
fn was_hit(case: &FsPath) -> bool {
    std::fs::read_to_string(case.join("strace")).expect("what strace says").contains("(INJECTED)")
}

/// Runs all operations with one fault, and says whether it came to it.
fn with(fault: Fault, trees: &[Vec<String>], operations: &[Op<Path>], ends: &str) -> bool {
    let case = Fixture::new(&union_crash::layers(), IndexFrom::Builder);
    let mut child = start(case.dir(), DISTURBED, fault);
    let mut orders = child.stdin.take().expect("its input");
    let (mut told, mut has_begun) = (Vec::new(), false);
    for line in BufReader::new(child.stdout.take().expect("its output")).lines() {
        let line = line.expect("text");
        has_begun |= line == "begins";
        if line == "end" {
            writeln!(orders, "{ends}").expect("it listens");
        }
        let Some(failed) = line.strip_prefix("failed ") else { continue };
        told.push(failed.to_owned());
        assert_ne!(fault.error, "EINTR", "{fault:?}: {told:?}");
        let step: usize = failed.split(' ').next().and_then(|step| step.parse().ok()).expect("a number");
        let got = std::fs::read_to_string(case.dir().join("failed")).expect("the tree");
        let order = match got {
            got if got == trees[step].join("\n") => "again",
            got if got == trees[step + 1].join("\n") => "next",
            got => panic!("{fault:?}: {failed} of {:?} left\n{got}\nwas\n{}", operations[step], trees[step].join("\n")),
        };
        writeln!(orders, "{order}").expect("it listens");
    }
    let status = child.wait().expect("it ends");
    if !has_begun {
        // It was a call of the test itself.
        return true;
    }
    assert!(status.success(), "{fault:?}: {told:?}");
    let got = lines(Snapshot::of_union(&case.open()).expect("the tree can be read"));
    assert_eq!(got, *trees.last().expect("the last"), "{fault:?}, opened again: {told:?}");
    union_crash::nothing_private_is_left(&case.upper());
    was_hit(case.dir())
}

#[test]
fn a_failed_call_leaves_an_operation_undone_or_done() {
    if own_process::is_own(DISTURBED) {
        return disturbed(FsPath::new(&std::env::var_os("LAYERCTL_TEST_ROOT").expect("the directory")));
    }
    let fixture = Fixture::new(&union_crash::layers(), IndexFrom::Builder);
    let operations = union_crash::operations();
    let mut plain: PlainTree = fixture.open_plain();
    let mut trees = vec![lines(Snapshot::of_plain(&fixture.plain()))];
    for op in &operations {
        plain.apply(op).unwrap_or_else(|errno| panic!("{op:?}: errno {errno}"));
        trees.push(lines(Snapshot::of_plain(&fixture.plain())));
    }
    // A long run comes to every call; this one to some of each.
    let all = std::env::var_os("LAYERCTL_ALL_FAULTS");
    let named = |call: &str| {
        all.as_ref().is_none_or(|names| names == "1" || names.to_string_lossy().split(',').any(|name| name == call))
    };
    let mut points = 0;
    for (call, error, stride) in [
        ("linkat", "ENOSPC", 1),
        ("linkat", "EMLINK", 2),
        ("renameat", "EIO", 3),
        ("renameat2", "ENOSPC", 2),
        ("unlinkat", "EIO", 5),
        ("openat", "EMFILE", 17),
        ("mkdirat", "ENOSPC", 3),
        ("utimensat", "EIO", 7),
        ("setxattr", "ENOSPC", 7),
        ("lsetxattr", "EIO", 7),
        ("lgetxattr", "EIO", 9),
        ("fchmodat", "EIO", 5),
        ("fchownat", "EIO", 5),
        ("newfstatat", "EIO", 60),
        ("fstat", "EIO", 13),
        ("getdents64", "EIO", 13),
        ("pwrite64", "ENOSPC", 1),
        ("pwrite64", "EINTR", 1),
        ("ftruncate", "EIO", 1),
        ("copy_file_range", "ENOSPC", 1),
        ("fsetxattr", "EIO", 1),
        ("fgetxattr", "EIO", 5),
        ("renameat", "EINTR", 3),
        ("openat", "EINTR", 17),
        ("getdents64", "EINTR", 5),
        ("flock", "EINTR", 1),
    ] {
        if !named(call) {
            continue;
        }
        let stride = if all.is_some() { 1 } else { stride };
        for (round, at) in (1..).step_by(stride).enumerate() {
            let ends = ["close", "exit"][round % 2];
            let times = 1 + round % 3 / 2;
            if !with(Fault { call, error, at, times }, &trees, &operations, ends) {
                break;
            }
            points += 1;
        }
    }
    eprintln!("{points} calls failed");
    assert!(points > 0);
}

/// Writes to a file of three names until that is done, and makes it durable.
fn written_by_force(root: &FsPath) {
    let stack = Fixture::stack_in(root, &union_crash::layers());
    let run = move || {
        let union = UnionTree::new(Arc::new(Union::open(stack).expect("opens")), false);
        let file = union.lookup(&path("d/b")).expect("a file");
        while let Err(errno) =
            union.union.write(file.ino(), 39_996, b"KEEP", None, layerctl::union::Times::Move).untold()
        {
            println!("\nfailed {}", errno.0);
            // Directories are read again, as with many of them.
            let again = union.union.setattr(file.ino(), &layerctl::union::SetAttr::default(), ROOT_USER).untold();
            println!("\nsetattr {again:?}");
        }
        union.union.fsync(file.ino(), false).expect("durable");
        println!("\nacknowledged");
        std::process::exit(0);
    };
    std::thread::spawn(run).join().expect("it ends well");
}

const FORCED: &str = "union_faults::what_fsync_has_acknowledged_of_a_file_of_several_names_stays";

#[test]
fn what_fsync_has_acknowledged_of_a_file_of_several_names_stays() {
    if own_process::is_own(FORCED) {
        return written_by_force(FsPath::new(&std::env::var_os("LAYERCTL_TEST_ROOT").expect("the directory")));
    }
    for error in ["ENOSPC", "EIO", "EMLINK"] {
        for at in 1..=3 {
            let case = Fixture::new(&union_crash::layers(), IndexFrom::Builder);
            let fault = Fault { call: "linkat", error, at, times: 1 };
            let child = start(case.dir(), FORCED, fault).wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&child.stdout).into_owned();
            assert!(said.contains("\nacknowledged\n"), "{fault:?}: {said}");
            assert_eq!(was_hit(case.dir()), said.contains("\nfailed "), "{fault:?}: {said}");
            let union = case.open();
            let inos: Vec<_> = ["d/a", "d/b", "e/c"]
                .map(|name| {
                    let file = union.lookup(&path(name)).expect("a file");
                    let tail = union.read(file.ino(), 39_996, 10).expect("its end");
                    assert_eq!(tail, b"KEEP", "{fault:?}: {name}");
                    (file.ino(), file.attr.nlink)
                })
                .to_vec();
            assert!(inos.iter().all(|ino| *ino == (inos[0].0, 3)), "{fault:?}: {inos:?}");
        }
    }
}
