//! Lists and sums of a store in which containers come and go.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failing_calls::run_failing;
use super::mounts::Mounts;
use super::root_fs::plain;

/// What goes while it is looked at is not there, and nothing to fail of.
#[test]
fn containers_that_go_meanwhile_fail_nothing() {
    let mounts = Mounts::with_programs();
    let done = AtomicBool::new(false);
    let script = "i=0; while [ $i -lt 40 ]; do mkdir -p /d$i/e/f; i=$((i+1)); done";
    let looks: [&[&str]; 8] = [
        &["df"],
        &["df", "-v"],
        &["ps", "--filter", "ancestor=programs"],
        &["images"],
        &["layers"],
        &["prune", "--dry-run", "--all", "--containers"],
        &["prune"],
        &["ps", "--format", "json"],
    ];
    let made = std::thread::scope(|scope| {
        let makers = [(), ()].map(|()| {
            scope.spawn(|| {
                let mut made = 0;
                while !done.load(Ordering::Relaxed) {
                    mounts.run(&["run-mount", "--rm", "programs", "--", "sh", "-c", script]).ok();
                    made += 1;
                }
                made
            })
        });
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..25 {
                for look in looks {
                    let said = mounts.run(look);
                    assert_eq!((said.code, said.err.as_str()), (0, ""), "{look:?} in round {round}: {said:?}");
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        let made: usize = makers.map(|maker| maker.join().expect("its containers run")).iter().sum();
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        made
    });
    assert!(made > 2, "{made} containers");
    mounts.assert_nothing_is_live();
    mounts.run(&["verify"]).ok();
}

/// The same at each call by which they look at something of a container: it is told that nothing is there, as the system does
/// from the moment on at which that has gone. An open directory that has gone cannot be read.
#[test]
fn what_goes_between_two_calls_is_passed_over() {
    let mounts = Mounts::new();
    mounts.import("image", &plain());
    let container = mounts.mount(&["--name", "c", "image"]);
    std::fs::create_dir_all(container.mountpoint.join("new/inner")).unwrap();
    std::fs::write(container.mountpoint.join("new/inner/file"), "text").unwrap();
    mounts.umount("c");
    let id = mounts.inspect("c")["Id"].as_str().unwrap().to_owned();
    let of_container = |path: &Path| path.components().any(|part| part.as_os_str() == id.as_str());
    let mut paths = Vec::new();
    let mut ahead = vec![mounts.at("store")];
    while let Some(path) = ahead.pop() {
        if path.symlink_metadata().unwrap().is_dir() {
            ahead.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.extend(Some(path).filter(|path| of_container(path)));
    }
    paths.push(mounts.at("store/containers/names/c"));
    assert!(paths.len() > 8, "{paths:?}");
    let mut hits = 0;
    for path in &paths {
        for calls in ["open,openat,openat2,statx,newfstatat,getdents64,flock,readlinkat", "getdents64"] {
            if calls == "getdents64" && !path.is_dir() {
                continue;
            }
            for look in [&["df", "-v"][..], &["ps"], &["images"], &["layers"], &["prune", "--dry-run", "--containers"]]
            {
                let (said, here) = run_failing(&mounts, &format!("{calls}:error=ENOENT"), Some(path), look);
                hits += here;
                let err: String = said.err.lines().filter(|line| !line.starts_with("strace:")).collect();
                assert_eq!((said.code, err.as_str()), (0, ""), "{look:?}, {calls} of {}: {said:?}", path.display());
            }
        }
    }
    assert!(hits > 20, "{hits} calls");
    assert_eq!(mounts.inspect("c")["Id"], id, "nothing was removed");
    mounts.run(&["verify"]).ok();
}
