//! Many processes at one store: nobody waits while another one moves data, nothing that is in use goes, nothing is lost.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::slice::from_ref;

use rustix::fs::{FlockOperation, flock};

use super::disk::{Disk, system};
use super::generator::{Image, docker_before_25, docker_since_25, sha256};
use super::mounts::{Mounts, said};
use super::processes::{end_of, eventually};
use super::store_durable::image;

/// An import from a pipe, of which all but the end has been written.
struct Stalled {
    child: Child,
    rest: Vec<u8>,
}

impl Stalled {
    fn start(mounts: &Mounts, archive: &[u8], first: usize) -> Self {
        let mut command = mounts.program(&["--quiet", "import", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(&archive[..first]).unwrap();
        Self { child, rest: archive[first..].to_vec() }
    }

    fn finish(mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it waits for the rest");
        self.child.stdin.take().unwrap().write_all(&self.rest).unwrap();
        assert!(end_of(&mut self.child).success());
    }
}

fn staged(mounts: &Mounts) -> usize {
    let dirs = fs::read_dir(mounts.at("store/tmp")).into_iter().flatten().flatten();
    dirs.flat_map(|dir| fs::read_dir(dir.path()).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("layer-"))
        .count()
}

#[test]
fn an_import_that_waits_for_its_bytes_holds_nobody_up() {
    let mounts = Mounts::new();
    let slow = image("slow", 3, 20);
    let archive = docker_before_25(from_ref(&slow)).tar();
    let stalled = Stalled::start(&mounts, &archive, archive.len() / 2);
    assert!(eventually(|| staged(&mounts) > 0));
    // All of these end before the first import goes on: the same image, another one, and a container of each.
    for one in [&slow, &image("other", 2, 2)] {
        mounts.import_archive(&docker_since_25(from_ref(one)).tar());
        let name = &one.names[0];
        let mounted = mounts.mount(&["--name", "c", name]);
        assert!(fs::read_dir(&mounted.mountpoint).unwrap().count() > 0);
        assert_eq!(mounts.inspect("c")["State"]["Status"], "running");
        mounts.run(&["rm", "-f", "c"]).ok();
        mounts.run(&["rmi", name]).ok();
    }
    stalled.finish();
    assert_eq!(mounts.inspect("slow")["Id"], format!("sha256:{}", slow.id()));
    mounts.mount(&["--name", "c", "slow"]);
    mounts.run(&["rm", "-f", "c"]).ok();
}

#[test]
fn a_layer_that_an_import_counts_on_does_not_go() {
    let mounts = Mounts::new();
    let first = image("first", 2, 3);
    let mut second = Image::new("arm64", first.layers.clone(), &["second"]);
    second.names = vec!["second".into()];
    mounts.import_archive(&docker_since_25(from_ref(&first)).tar());
    let archive = docker_since_25(from_ref(&second)).tar();
    let stalled = Stalled::start(&mounts, &archive, archive.len() - 512);
    let records = || first.layers.iter().map(|layer| mounts.at("store/layers").join(sha256(layer) + ".json"));
    let is_leased = |record: std::path::PathBuf| {
        let record = File::open(record).unwrap();
        let is_leased = flock(&record, FlockOperation::NonBlockingLockExclusive).is_err();
        // Also for a child that another test has just forked.
        flock(&record, FlockOperation::Unlock).unwrap();
        is_leased
    };
    assert!(eventually(|| records().all(is_leased)), "the store has them, so that they are leased");
    mounts.run(&["rmi", "first"]).ok();
    assert!(records().all(|record| record.exists()));
    stalled.finish();
    mounts.mount(&["--name", "c", "second"]);
    mounts.run(&["rmi", "second"]).fails(125, &["second", "in use"]);
    mounts.run(&["rm", "-f", "c"]).ok();
    mounts.run(&["rmi", "second"]).ok();
    assert!(!records().any(|record| record.exists()), "now nobody needs them");
}

#[test]
fn twenty_at_once() {
    let mounts = Mounts::new();
    let shared = mounts.text("shared");
    fs::write(&shared, docker_before_25(&[image("shared", 3, 10)]).tar()).unwrap();
    // Each has a tag of its own for the image that all have.
    let one = |number: usize| {
        let (own, tag, container) = (format!("own{number}"), format!("tag{number}"), format!("c{number}"));
        let layers = [image("shared", 3, 10).layers, image(&own, 1, 5).layers].concat();
        let path = mounts.text(&format!("{own}.tar"));
        fs::write(&path, docker_since_25(&[Image::new("amd64", layers, &[&own])]).tar()).unwrap();
        let run = |words: &[&str]| mounts.run(words).ok();
        run(&["--quiet", "import", "--no-sync", &shared, "--tag", &tag]);
        run(&["--quiet", "import", "--no-sync", &path]);
        for name in [&tag, &own] {
            let mounted = mounts.mount(&["--name", &container, name]);
            assert_eq!(fs::read(mounted.mountpoint.join("shared-0/7")).unwrap(), b"7");
            assert_eq!(mounts.inspect(&container)["State"]["Status"], "running");
            assert!(!mounts.inspect(name)["RepoTags"].as_array().unwrap().is_empty());
            run(&["rm", "-f", &container]);
        }
        if number.is_multiple_of(2) {
            run(&["rmi", &own]);
            run(&["rmi", &tag]);
        }
    };
    std::thread::scope(|scope| (0..20_usize).for_each(|number| drop(scope.spawn(move || one(number)))));
    let listed = mounts.run(&["images"]).ok();
    for number in 0..20 {
        let has = |name: String| listed.lines().any(|line| line.split(' ').next() == Some(&name));
        let is_kept = number % 2 == 1;
        assert_eq!([has(format!("own{number}")), has(format!("tag{number}"))], [is_kept; 2], "{number}: {listed}");
    }
    assert_eq!(super::mounts::names(&mounts.at("store/tmp")), Vec::<String>::new());
    assert_eq!(super::mounts::names(&mounts.at("store/diff")).len(), 3 + 10);
}

#[test]
fn few_open_files_are_enough_or_the_error_says_so() {
    let mounts = Mounts::new();
    mounts.run(&["images"]).ok();
    // Deeper than there are descriptors, also for the removal of what fails.
    let mut deep = image("deep", 6, 10);
    let path = ["d"; 60].join("/");
    deep.layers.push(super::generator::Tar::new().file(&format!("{path}/file"), b"deep").finish());
    let deep = Image::new("amd64", deep.layers, &["deep"]);
    fs::write(mounts.at("archive"), docker_before_25(from_ref(&deep)).tar()).unwrap();
    let import = |limit: u32| mounts.shell(&format!("ulimit -n {limit}; exec $L --quiet import --no-sync archive"));
    let mut failed = 0;
    // Each layer that is unpacked has a part of its path open, and there is one for each processor at a time.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let enough = 20 + 20 * u32::try_from(processors).unwrap();
    for limit in 5..enough + 8 {
        let said = import(limit);
        if said.code == 0 {
            continue;
        }
        assert!(limit < enough, "{enough} are enough: {said:?}");
        said.fails(125, &["Too many open files"]);
        failed += 1;
    }
    assert!(failed > 0);
    // What those left that could not open enough to remove it, goes with the next.
    mounts.run(&["prune"]).ok();
    assert_eq!(super::mounts::names(&mounts.at("store/tmp")), Vec::<String>::new());
    mounts.run(&["run-mount", "--name", "c", "deep"]).ok();
    mounts.run(&["rm", "-f", "c"]).ok();
}

#[test]
fn a_disk_that_cannot_write_is_told_of_before_anything_is_visible() {
    let mounts = Mounts::new();
    // A disk that promises more than it has: the kernel finds out when it writes at last.
    let small = mounts.mkdir("small");
    system("mount", &["-t", "tmpfs", "-o", "size=12m", "none"], &[&small]);
    let disk = Disk::new(&small, "disk", 64, "mkfs.ext4", &["-q", "-m", "0"]);
    let root = disk.path().join("store");
    let noise: Vec<u8> = (0..24 << 20_u32).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let large = Image::new("amd64", vec![super::generator::Tar::new().file("large", &noise).finish()], &["large"]);
    fs::write(mounts.at("archive"), docker_since_25(&[large]).tar()).unwrap();
    let said = said(mounts.program(&["--quiet", "import", "archive"]).env("LAYERCTL_ROOT", &root));
    assert_eq!((said.code, said.out.as_str()), (125, ""), "{said:?}");
    let words = ["Input/output error", "No space left on device", "Read-only file system"];
    assert!(words.iter().any(|word| said.err.contains(word)) && said.err.lines().count() == 1, "{said:?}");
    assert_eq!(super::mounts::names(&root.join("images/names")), Vec::<String>::new());
    drop(disk);
}
