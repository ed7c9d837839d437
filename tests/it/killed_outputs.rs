//! A command that is killed while it writes leaves nothing beside its target that the next one does not remove.

use std::fs;
use std::path::Path;

use super::failing_calls::run_failing;
use super::mounts::Mounts;
use super::root_fs::plain;

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Kills `args` at each call of `call` in turn, until one runs through; gives how often a name was left.
fn kill_at_each(mounts: &Mounts, call: &str, args: &[&str], dir: &Path, expected: &[&str]) -> usize {
    let mut left = 0;
    for when in 1..200 {
        let (said, _) = run_failing(mounts, &format!("{call}:signal=KILL:when={when}"), None, args);
        if said.code == 0 {
            assert_eq!(names(dir), expected, "{args:?}");
            return left;
        }
        assert_eq!(said.code, 137, "{call} {when}: {said:?}");
        left += usize::from(names(dir).iter().any(|name| !expected.contains(&name.as_str())));
        mounts.run(args).ok();
        assert_eq!(names(dir), expected, "{args:?} after {call} {when}");
    }
    panic!("{args:?} does not end at {call}");
}

#[test]
fn save_and_export_leave_one_file() {
    let mounts = Mounts::new();
    mounts.import("image", &plain());
    let out = mounts.mkdir("out");
    for (command, target) in [("save", "out/a.tar"), ("export", "out/a.tar")] {
        let args = [command, "image", "-o", &mounts.text(target)];
        for call in ["fdatasync", "linkat", "rename"] {
            kill_at_each(&mounts, call, &args, &out, &["a.tar"]);
        }
    }
    // The second time the file is there, so that a name comes first.
    let left = kill_at_each(&mounts, "rename", &["save", "image", "-o", &mounts.text("out/a.tar")], &out, &["a.tar"]);
    assert_eq!(left, 1, "the kill before the rename leaves a name");
}

#[test]
fn cp_leaves_the_files_that_it_copies() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &plain());
    mounts.mount(&["--name", "c", &image]);
    mounts.umount("c");
    mounts.write("in/x", "x");
    mounts.run(&["cp", &format!("{}/.", mounts.text("in")), "c:/"]).ok();
    let out = mounts.mkdir("out");
    let args = ["cp", "c:/x", &mounts.text("out")];
    let mut left = 0;
    for call in ["pwrite64", "renameat", "utimensat"] {
        left += kill_at_each(&mounts, call, &args, &out, &["x"]);
    }
    assert!(left > 0, "some kill leaves a name");
    assert_eq!(fs::read(out.join("x")).unwrap(), b"x");
}
