//! A system call that fails is never an answer: strace makes single ones fail.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::mounts::{Mounts, PROGRAM, Said, said};
use super::root_fs::plain;

/// Runs the program with `inject` (strace's words), for calls that name `path` if there is one. Also says how many
/// calls failed so.
pub(crate) fn run_failing(mounts: &Mounts, inject: &str, path: Option<&Path>, args: &[&str]) -> (Said, usize) {
    let log = mounts.at("strace.log");
    let calls = inject.split(':').next().expect("the calls");
    let mut command = mounts.command("strace");
    // The loader looks into each of its directories, and nothing of that may fail.
    command.env_remove("LD_LIBRARY_PATH");
    command.args(["-f", "-qq", "-e", &format!("trace={calls}"), "-e", &format!("inject={inject}"), "-o"]).arg(&log);
    if let Some(path) = path {
        command.arg("-P").arg(path);
    }
    let said = said(command.arg(PROGRAM).args(args));
    let hits = fs::read_to_string(&log).expect("strace writes").matches("(INJECTED)").count();
    fs::remove_file(log).expect("the log is removed");
    (said, hits)
}

/// As [`run_failing`], where some call must have failed.
#[track_caller]
fn failing(mounts: &Mounts, inject: &str, path: &Path, args: &[&str]) -> Said {
    let (said, hits) = run_failing(mounts, inject, Some(path), args);
    assert!(hits > 0, "{inject} has hit nothing: {said:?}");
    said
}

fn ids(mounts: &Mounts) -> Vec<String> {
    mounts.run(&["images", "--quiet", "--no-trunc"]).ok().lines().map(str::to_owned).collect()
}

#[test]
fn an_image_is_not_removed_under_a_container_that_cannot_be_read() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &plain());
    mounts.mount(&["--name", "c", &image]);
    mounts.umount("c");
    let record = mounts.at("store/containers").join(mounts.inspect("c")["Id"].as_str().unwrap()).join("record.json");
    let shown = record.to_str().unwrap();
    for errno in ["EIO", "EMFILE"] {
        let said = failing(&mounts, &format!("open,openat:error={errno}"), &record, &["rmi", &image]);
        said.fails(125, &[shown]);
        let said = failing(&mounts, &format!("open,openat:error={errno}"), &record, &["rm", "c"]);
        said.fails(125, &[shown]);
        let said = failing(&mounts, &format!("open,openat:error={errno}"), &record, &["prune", "--all"]);
        said.fails(125, &[shown]);
    }
    let whole = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    mounts.run(&["rmi", &image]).fails(125, &["in use", "damaged", "rm -f"]);
    fs::write(&record, whole).unwrap();
    assert_eq!(mounts.run(&["run-mount", "--name", "c", "--rm", "--", "/none"]).code, 127, "all is still there");
}

#[test]
fn what_cannot_be_looked_at_does_not_stray() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &plain());
    let layers: Value = serde_json::from_str(&mounts.run(&["--format", "json", "layers"]).ok()).unwrap();
    let layer = layers[0]["Id"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let record = mounts.at("store/layers").join(format!("{layer}.json"));
    // As a process that died leaves it, so that the next one sweeps.
    let left = |mounts: &Mounts| mounts.write("store/tmp/0123456789abcdef/part", "");
    left(&mounts);
    let said = failing(&mounts, "statx,newfstatat:error=EIO", &record, &["prune"]);
    said.fails(125, &[record.to_str().unwrap()]);
    assert!(mounts.at("store/diff").join(&layer).exists(), "its files are still there");
    left(&mounts);
    failing(&mounts, "statx,newfstatat:error=EIO", &record, &["tag", &image, "other"]).ok();
    mounts.run(&["verify"]).ok();
    assert_eq!(ids(&mounts), [image]);
}

#[test]
fn prune_says_what_it_could_not_remove() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &plain());
    let layers: Value = serde_json::from_str(&mounts.run(&["--format", "json", "layers"]).ok()).unwrap();
    let layer = layers[0]["Id"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let record = mounts.at("store/layers").join(format!("{layer}.json"));
    let said = failing(&mounts, "open,openat:error=EIO", &record, &["prune", "--all"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.err.contains(record.to_str().unwrap()), "{said:?}");
    assert!(said.out.contains(&format!("Deleted: image {image}")) && !said.out.contains("Deleted: layer"), "{said:?}");
    let said = mounts.run(&["prune", "--all"]).ok();
    assert!(said.contains("Deleted: layer"), "{said}");

    let left = mounts.at("store/tmp/0123456789abcdef");
    mounts.write("store/tmp/0123456789abcdef/part", "");
    let said = failing(&mounts, "unlinkat:error=EIO", &left, &["prune"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(!said.out.contains("Deleted") && said.err.contains("0123456789abcdef"), "{said:?}");
    assert_eq!(mounts.run(&["prune"]).ok().lines().next(), Some("Deleted: leftover tmp/0123456789abcdef"));
    assert!(!left.exists());
}

#[test]
fn an_archive_that_cannot_be_read_is_no_root_file_system() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &plain());
    let archive = mounts.text("image.tar");
    mounts.run(&["save", &image, "-o", &archive]).ok();
    mounts.run(&["rmi", "-f", &image]).ok();
    for call in ["read", "pread64", "lseek", "open,openat"] {
        for errno in ["EIO", "ESTALE"] {
            for when in 1..6 {
                let inject = format!("{call}:error={errno}:when={when}");
                let (said, hits) = run_failing(&mounts, &inject, Some(Path::new(&archive)), &["import", &archive]);
                if hits == 0 {
                    assert!(when > 1 || call == "lseek", "{inject} has hit nothing");
                    mounts.run(&["rmi", "-f", &image]).ok();
                    break;
                }
                assert_eq!((said.code, said.out.as_str()), (125, ""), "{inject}: {said:?}");
                assert!(said.err.contains("image.tar"), "{inject}: {said:?}");
                assert_eq!(ids(&mounts), [""; 0], "{inject}");
            }
        }
    }
    assert_eq!(mounts.run(&["--quiet", "import", &archive]).ok().trim_end(), image);
}

#[test]
fn a_want_of_descriptors_is_no_damage() {
    let mounts = Mounts::new();
    mounts.import("image", &plain());
    for when in [20, 40, 60, 80] {
        let inject = format!("open,openat,openat2:error=EMFILE:when={when}");
        let (said, _) = run_failing(&mounts, &inject, None, &["verify"]);
        assert!([0, 125].contains(&said.code), "{inject}: {said:?}");
    }
}

/// The calls that the store and the archives make.
const CALLS: [&str; 24] = [
    "openat",
    "openat2",
    "read",
    "pread64",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "getdents64",
    "statx",
    "newfstatat",
    "ftruncate",
    "flock",
    "utimensat",
    "getrandom",
];

#[test]
fn an_interrupted_call_is_made_again() {
    let mounts = Mounts::with_programs();
    let mut hits = 0;
    for call in CALLS {
        // Not the first ones, which are the loader's and the shell's.
        let inject = format!("{call}:error=EINTR:when=14+2");
        let mut go = |args: &[&str]| {
            let (said, here) = run_failing(&mounts, &inject, None, args);
            assert_eq!(said.code, 0, "{inject}: {args:?}: {said:?}");
            hits += here;
        };
        for name in ["out.tar", "other.tar"] {
            go(&["save", "programs", "-o", &mounts.text(name)]);
        }
        assert_eq!(fs::read(mounts.at("out.tar")).unwrap(), fs::read(mounts.at("other.tar")).unwrap());
        go(&["build", "--from", "programs", "-t", "built", &mounts.text("out.tar")]);
        go(&["import", &mounts.text("out.tar"), "-t", "again"]);
        go(&["verify"]);
        go(&["rmi", "built"]);
        go(&["prune"]);
    }
    assert!(hits > 300, "only {hits} calls were interrupted");
}
