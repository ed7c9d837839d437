//! Whole trees that come and go in a mount, by this machine's `tar` and `rm`.
//!
//! `LAYERCTL_STRESS_ENTRIES` says how many entries the tree has (1500), `LAYERCTL_STRESS_ROUNDS` how often (3).

use std::os::unix::fs::symlink;
use std::path::Path;

use super::layer_tree::LayerTree;
use super::mount_fixture::{MountFixture, MountOf};
use super::mounts::names;
use super::tree_snapshot::Snapshot;
use super::union_model::number_from;

/// A tree of about this many entries, as a root file system has them: deep and flat directories, links of both kinds.
fn build(dir: &Path, entries: u64) {
    std::fs::create_dir(dir).expect("a directory");
    for number in 0..entries / 10 {
        let at = dir.join(format!("d{}", number % 17)).join(format!("sub{}", number % 5)).join(format!("n{number}"));
        std::fs::create_dir_all(&at).expect("a directory");
        for file in 0..6 {
            let length = usize::try_from(number * 97 % 5000).expect("small");
            std::fs::write(at.join(format!("file-{file}")), vec![b'a' + file; length]).expect("a file");
        }
        std::fs::hard_link(at.join("file-0"), at.join("hard")).expect("a link");
        symlink("file-1", at.join("soft")).expect("a link");
        symlink("../missing", at.join("dangling")).expect("a link");
    }
}

/// Two unpackings and removals at a time, in the layers' own directory and in a new one.
#[test]
fn trees_are_unpacked_and_removed_over_and_over() {
    let entries = number_from("LAYERCTL_STRESS_ENTRIES").unwrap_or(1500);
    let rounds = number_from("LAYERCTL_STRESS_ROUNDS").unwrap_or(3);
    let layer = LayerTree::new().file("lower/tree/d0/sub0/of-the-layer", b"1").dir("upper", 0o755);
    for of in [MountOf::Directories, MountOf::Image] {
        let fixture = MountFixture::new(std::slice::from_ref(&layer), of);
        let lowers = fixture.lowers();
        build(&fixture.mounts.at("tree"), entries);
        let tree = Snapshot::of_plain(&fixture.mounts.at("tree"));
        fixture.mounts.shell("tar -cf tree.tar tree").ok();
        for _ in 0..rounds {
            fixture.mounts.shell("tar -xf tree.tar -C mnt/lower & tar -xf tree.tar -C mnt/upper && wait $!").ok();
            let got = Snapshot::of_mount(&fixture.mountpoint().join("upper/tree")).expect("the tree can be read");
            let want = Snapshot { inodes: got.inodes.clone(), changes: got.changes.clone(), ..tree.clone() };
            assert_eq!(got.differences(&want), Vec::<String>::new());
            fixture.mounts.shell("rm -rf mnt/lower/tree & rm -rf mnt/upper/tree && wait $!").ok();
            for dir in ["mnt/lower", "mnt/upper"] {
                assert_eq!(names(&fixture.mounts.at(dir)), Vec::<String>::new());
            }
        }
        fixture.umount();
        fixture.nothing_private_is_left().expect("nothing is left");
        fixture.mount();
        assert_eq!(names(&fixture.mountpoint().join("lower")), Vec::<String>::new());
        fixture.umount();
        assert!(fixture.lowers() == lowers, "a lower layer was changed");
        fixture.mounts.assert_nothing_is_live();
    }
}
