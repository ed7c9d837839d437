//! A system call that fails is never an answer: strace makes single ones fail.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::generator::{Tar, gzip};
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

/// A read that fails once says nothing of what an archive is, wherever it fails; and the next import takes the archive.
#[test]
fn an_archive_that_cannot_be_read_is_no_root_file_system() {
    let mounts = Mounts::new();
    // Longer than one read, and than what is kept of a pipe.
    let content: Vec<u8> = (0..5 << 20).map(|byte: u32| (byte.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let image = mounts.import("image", &Tar::new().file("much", &content).finish());
    for (form, name) in [("--docker", "image.tar"), ("--oci", "layout.tar"), ("--oci", "layout/")] {
        mounts.run(&["save", form, &image, "-o", &mounts.text(name)]).ok();
    }
    fs::write(mounts.at("image.tar.gz"), gzip(&fs::read(mounts.at("image.tar")).unwrap())).unwrap();
    let blobs = mounts.at("layout/blobs/sha256");
    let largest = |dir: &Path| {
        let blobs = fs::read_dir(dir).unwrap().map(|blob| blob.unwrap().path());
        blobs.max_by_key(|blob| fs::metadata(blob).unwrap().len()).unwrap()
    };
    let layer = largest(&blobs);
    mounts.run(&["rmi", "-f", &image]).ok();
    // What is imported, and in which file of it a call fails.
    for (source, path) in [
        ("image.tar", mounts.at("image.tar")),
        ("layout.tar", mounts.at("layout.tar")),
        ("image.tar.gz", mounts.at("image.tar.gz")),
        ("pipe", mounts.at("pipe")),
        ("layout", mounts.at("layout/index.json")),
        ("layout", layer),
    ] {
        let mut failed = 0;
        for call in ["read", "pread64", "lseek", "open,openat,openat2"] {
            for errno in ["EIO", "ESTALE", "EINTR"] {
                if call == "lseek" && errno == "EINTR" {
                    continue;
                }
                for when in [1, 2, 3, 5, 8, 13, 21, 34] {
                    let inject = format!("{call}:error={errno}:when={when}");
                    let feeding = (source == "pipe").then(|| {
                        let mut cat = mounts.command("sh");
                        cat.args(["-c", "mkfifo pipe && exec cat image.tar > pipe"]);
                        let cat = cat.stderr(Stdio::null()).spawn().unwrap();
                        while !path.exists() {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        cat
                    });
                    let shown = mounts.text(source);
                    let (said, hits) = run_failing(&mounts, &inject, Some(&path), &["import", &shown]);
                    if let Some(mut cat) = feeding {
                        // Where the pipe was never opened it waits for that.
                        let _ = cat.kill();
                        cat.wait().unwrap();
                        fs::remove_file(&path).unwrap();
                    }
                    let what = format!("{source}, {inject}: {said:?}");
                    if hits == 0 || errno == "EINTR" {
                        assert_eq!((said.code, said.out.trim_end()), (0, image.as_str()), "{what}");
                        mounts.run(&["rmi", "-f", &image]).ok();
                        if hits == 0 {
                            break;
                        }
                        continue;
                    }
                    failed += 1;
                    assert_eq!((said.code, said.out.as_str()), (125, ""), "{what}");
                    assert!(said.err.contains(source) && said.err.trim_end().lines().count() == 1, "{what}");
                    let reason = if errno == "EIO" { "Input/output error" } else { "Stale file handle" };
                    assert!(said.err.contains(reason), "{what}");
                    assert_eq!(ids(&mounts), [""; 0], "{what}");
                }
            }
        }
        assert!(failed >= 2, "{source}: only {failed} imports have failed");
        if source != "pipe" {
            let imported = mounts.run(&["--quiet", "import", &mounts.text(source)]).ok();
            assert_eq!(imported.trim_end(), image, "{source}");
            mounts.run(&["rmi", "-f", &image]).ok();
        }
    }
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

/// A path of the container is named, and not that something of it could not be read.
#[test]
fn what_of_a_rw_layer_cannot_be_read_is_named() {
    let mounts = Mounts::new();
    mounts.import("image", &plain());
    let container = mounts.mount(&["--name", "c", "image"]);
    fs::create_dir_all(container.mountpoint.join("new/inner")).unwrap();
    fs::write(container.mountpoint.join("new/inner/file"), "text").unwrap();
    let live = container.mountpoint.join("new/inner/file");
    mounts.umount("c");
    let upper = mounts.inspect("c")["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().to_owned();
    let upper = Path::new(&upper);
    for (calls, path, shown) in [
        ("read,pread64,preadv,copy_file_range,sendfile", "new/inner/file", "/new/inner/file"),
        ("getdents64", "new/inner", "/new/inner"),
    ] {
        for args in [&["commit", "c", "committed"][..], &["diff", "c", "--tar", "-o", "diff.tar"]] {
            let said = failing(&mounts, &format!("{calls}:error=EIO"), &upper.join(path), args);
            said.fails(125, &["cannot read the rw layer's", shown, "Input/output error"]);
        }
    }
    assert!(!live.exists() && !mounts.at("diff.tar").exists());
    mounts.run(&["commit", "c", "committed"]).ok();
}

/// What a process of ours does not say any more is said of the mount that it was for, with what to do.
#[test]
fn a_process_that_is_killed_before_it_answers_is_said_of_its_mount() {
    let mounts = Mounts::new();
    mounts.import("image", &plain());
    let inject = "mount:error=EIO:signal=SIGKILL";
    let at = mounts.mkdir("there");
    let args = ["run-mount", "--name", "c", "image", "there"];
    let (said, _) = run_failing(&mounts, inject, None, &args);
    said.fails(125, &[at.to_str().unwrap(), "the server ended before the mount was live", "signal: 9", "mount again"]);
    let container = mounts.mount(&["--name", "d", "image"]);
    let (said, _) = run_failing(&mounts, "umount2:error=EIO:signal=SIGKILL", None, &["umount", "d"]);
    let shown = container.mountpoint.to_str().unwrap();
    said.fails(125, &[shown, "ended without an answer", "signal: 9", "run the command again"]);
    mounts.umount("d");
}
