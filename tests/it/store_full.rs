//! A disk that runs full at every point of an import: the error says so, the store is as it was, and with room again
//! the import works. What removes works on a full disk.
//!
//! `LAYERCTL_FULL_STEP` says how many blocks are between two tries (8).

use std::path::Path;
use std::slice::from_ref;

use super::cli::Output;
use super::disk::Disk;
use super::generator::{Image, Members, docker_since_25};
use super::listing::Listing;
use super::mounts::PROGRAM;
use super::store_durable::image;

const EXT4: [&str; 9] = ["-q", "-b", "1024", "-m", "0", "-N", "400", "-J", "size=1"];
const DIRECTORIES: [&str; 6] = ["diff", "layers", "images", "images/names", "containers", "containers/names"];

struct Full {
    disk: Disk,
    archive: String,
    dir: tempfile::TempDir,
}

impl Full {
    fn new(archive: &Members) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::new(dir.path(), "disk", 6, "mkfs.ext4", &EXT4);
        let path = dir.path().join("archive");
        std::fs::write(&path, archive.tar()).expect("an archive is written");
        Self { disk, archive: path.to_str().expect("a name in UTF-8").to_owned(), dir }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = std::process::Command::new(PROGRAM);
        command.args(words).env("LAYERCTL_ROOT", self.disk.path().join("store"));
        command.output().expect("the program starts").into()
    }

    fn import(&self) -> Output {
        self.run(&["--quiet", "import", &self.archive])
    }

    /// All records and files. That a directory of the store was changed and changed back is to be seen of its time only.
    fn store(&self) -> Listing {
        let mut listing = Listing::with_identities(&self.disk.path().join("store")).without("tmp").without("lock");
        for name in DIRECTORIES.iter().chain(&[""]) {
            listing.0.insert(name.into(), "a directory".into());
        }
        listing
    }

    fn debris(&self) -> Vec<String> {
        let mut names = super::mounts::names(&self.disk.path().join("store/tmp"));
        names.retain(|name| name != "record");
        names
    }

    /// An import at this point fails and changes nothing, or works. Gives whether it worked.
    fn attempt(&self, point: &str) -> bool {
        let before = self.store();
        let output = self.import();
        assert_eq!(self.debris(), Vec::<String>::new(), "{point}: {output:?}");
        if output.code == 0 {
            return true;
        }
        output.assert_refused(125, &["cannot ", "store", "No space left on device"]);
        self.store().assert_same(&before, point);
        false
    }
}

fn step() -> usize {
    std::env::var("LAYERCTL_FULL_STEP").map_or(8, |step| step.parse().expect("a number"))
}

/// Many small files, some names, and layers enough for a directory of the store to grow.
fn new_image() -> Image {
    let mut new = image("new", 4, 12);
    new.names.extend(["old:latest".into(), "more:1".into(), "more:2".into(), "more:3".into()]);
    new
}

#[test]
fn a_disk_that_runs_full_anywhere_leaves_the_store_as_it_was() {
    let full = Full::new(&docker_since_25(from_ref(&new_image())));
    let old = full.disk.path().join("old");
    std::fs::write(&old, docker_since_25(from_ref(&image("old", 2, 3))).tar()).expect("an archive is written");
    full.run(&["--quiet", "import", old.to_str().expect("UTF-8")]).lines();
    let works = (0..4000).step_by(step()).find(|blocks| {
        full.disk.leave_blocks(*blocks as u64);
        full.attempt(&format!("{blocks} blocks"))
    });
    assert!(works.is_some_and(|blocks| blocks > 60), "{works:?}: it ran full before");
    let listed = full.run(&["images"]);
    assert!(listed.stdout.contains("more") && listed.lines().len() == 7, "{listed:?}");
}

#[test]
fn a_full_table_of_inodes_leaves_the_store_as_it_was() {
    let full = Full::new(&docker_since_25(from_ref(&new_image())));
    full.run(&["images"]).lines();
    let works = (0..400).step_by(step().div_ceil(3)).find(|inodes| {
        full.disk.leave_inodes(*inodes as u64);
        full.attempt(&format!("{inodes} inodes"))
    });
    assert!(works.is_some_and(|inodes| inodes > 50), "{works:?}: it ran full before");
}

#[test]
fn a_disk_that_is_full_from_the_first_on_does_no_harm() {
    let full = Full::new(&docker_since_25(from_ref(&image("new", 1, 1))));
    let works = (0..60).find(|inodes| {
        full.disk.leave_inodes(*inodes);
        let output = full.import();
        if output.code != 0 {
            output.assert_refused(125, &["cannot ", "store", "No space left on device"]);
        }
        output.code == 0
    });
    assert!(works.is_some_and(|inodes| inodes > 8), "{works:?}: it ran full before");
}

#[test]
fn what_is_in_the_way_can_be_removed_from_a_full_disk() {
    let full = Full::new(&docker_since_25(from_ref(&image("big", 2, 20))));
    full.import().lines();
    full.run(&["run-mount", "--name", "c", "big"]).lines();
    full.run(&["umount", "c"]).lines();
    let mnt = full.dir.path().join("mnt");
    std::fs::create_dir(&mnt).expect("a directory is made");
    full.run(&["run-mount", "--name", "dead", "big", mnt.to_str().expect("UTF-8")]).lines();
    let inspected: serde_json::Value =
        serde_json::from_str(&full.run(&["inspect", "dead"]).stdout).expect("inspect prints JSON");
    let server = inspected[0]["State"]["Pid"].as_u64().expect("a server");
    super::processes::kill(u32::try_from(server).expect("a pid"));
    // Its registration goes with the next look for one, so that its end makes no room for a record.
    assert_ne!(full.run(&["inspect", "/"]).code, 0);
    assert_eq!(super::mounts::names(&full.disk.path().join("store/run")), Vec::<String>::new());
    full.disk.leave_inodes(0);
    full.disk.leave_blocks(0);
    full.import().assert_refused(125, &["No space left on device"]);
    full.run(&["rm", "dead"]).lines();
    full.disk.leave_blocks(0);
    full.run(&["rm", "c"]).lines();
    full.disk.leave_blocks(40);
    full.disk.leave_inodes(0);
    full.disk.leave_blocks(0);
    full.run(&["rmi", "big"]).lines();
    assert_eq!(full.debris(), Vec::<String>::new());
    assert_eq!(super::mounts::names(&full.disk.path().join("store/diff")), Vec::<String>::new());
    full.disk.empty();
    full.import().lines();

    // The rest of an import that was killed is all that is in the way of the next one.
    full.run(&["rmi", "big"]).lines();
    let dead = full.disk.path().join("store/tmp/0123456789abcdef");
    std::fs::create_dir_all(dead.join("layer-0")).expect("a directory is made");
    fill(&full.disk, &dead.join("layer-0"));
    full.disk.leave_blocks(0);
    full.import().lines();
    assert!(!dead.exists());
}

/// Takes all inodes.
fn fill(disk: &Disk, dir: &Path) {
    disk.empty();
    disk.leave_blocks(400);
    for number in 0..disk.room().f_favail {
        std::fs::write(dir.join(number.to_string()), "x").expect("a file is made");
    }
}
