//! Commands that only read write nothing to a container: not even times, which another container's commit would tell.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::mounts::Mounts;
use super::root_fs::plain;

type Stats = BTreeMap<PathBuf, (u64, u32, u64, i64, i64, i64, i64)>;

/// What `stat` shows of all that is in the store, but for where things are staged.
fn stats(store: &Path) -> Stats {
    let mut stats = BTreeMap::new();
    let mut todo = vec![store.to_owned()];
    while let Some(path) = todo.pop() {
        if path == store.join("tmp") {
            continue;
        }
        let meta = path.symlink_metadata().unwrap();
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        stats.insert(path, (meta.ino(), meta.mode(), meta.size(), times.0, times.1, times.2, times.3));
    }
    stats
}

#[track_caller]
fn assert_same(before: &Stats, after: &Stats, what: &str) {
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.is_empty(), "{what}: {changed:?}");
}

#[test]
fn commands_that_read_leave_no_trace() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &plain());
    mounts.write("in/x", "x");
    mounts.mount(&["--name", "c", &image]);
    mounts.umount("c");
    mounts.run(&["cp", &format!("{}/.", mounts.text("in")), "c:/new"]).ok();
    let out = mounts.text("out.tar");
    let copy = mounts.text("copy");
    let commands: &[&[&str]] = &[
        &["diff", "c"],
        &["diff", "--tar", "c", "-o", &out],
        &["explain", "c", "/new/x"],
        &["export", "c", "-o", &out],
        &["inspect", "c"],
        &["cp", "c:/new", &copy],
        &["verify"],
        &["df"],
        &["ps"],
        &["history", &image],
        &["images"],
        &["layers"],
    ];
    let store = mounts.at("store");
    let before = stats(&store);
    for command in commands {
        mounts.run(command).ok();
        assert_same(&before, &stats(&store), &format!("{command:?}"));
    }
    // A commit writes to the store, and not to its container.
    let id = mounts.inspect("c")["Id"].as_str().unwrap().to_owned();
    let of_container = |stats: Stats| -> Stats {
        stats.into_iter().filter(|(path, _)| path.to_str().is_some_and(|path| path.contains(&id))).collect()
    };
    mounts.run(&["commit", "c", "-t", "committed"]).ok();
    assert_same(&of_container(before), &of_container(stats(&store)), "commit");
}
