//! The marks of a rw layer that the process cannot see: nothing is made of such a layer, least of all zeros.

use super::layer_tree::LayerTree;
use super::mounts::{Mounts, PROGRAM, Said, said};

/// Drops CAP_SYS_ADMIN, as CI containers do, and leaves the rest of root's.
const WITHOUT: [&str; 3] = ["setpriv", "--bounding-set=-sys_admin", "--"];
/// Root of a user namespace of its own.
const INSIDE: [&str; 3] = ["unshare", "-Ur", "--"];

fn mounts() -> Mounts {
    let mounts = Mounts::new();
    let layer = LayerTree::new().file("d/data", &[b'x'; 5000]).file("d/sub/inner", b"inner").file("plain", b"plain");
    mounts.import("base", &layer.tar());
    mounts
}

fn as_other(mounts: &Mounts, other: [&str; 3], args: &[&str]) -> Said {
    said(mounts.command(other[0]).args(&other[1..]).arg(PROGRAM).args(args))
}

/// A container whose rw layer has a file without data and a renamed directory.
fn marked(mounts: &Mounts) {
    let mountpoint = mounts.mount(&["--name", "box", "base"]).mountpoint;
    let at = mountpoint.to_str().expect("a name in UTF-8").to_owned();
    mounts.shell(&format!("chmod 600 {at}/d/data && mv {at}/d/sub {at}/moved")).ok();
    mounts.umount("box");
}

#[test]
fn without_the_capability_nothing_is_made_of_hidden_marks() {
    let mounts = mounts();
    marked(&mounts);
    mounts.write("file", "new");
    let out = mounts.text("out");
    let commands: [&[&str]; 8] = [
        &["export", "box", "-o", &out],
        &["commit", "box", "image"],
        &["diff", "box"],
        &["diff", "--tar", "box"],
        &["cp", "box:/d/data", &out],
        &["cp", "file", "box:/d/data"],
        &["explain", "box", "/moved"],
        &["run-mount", "--name", "box"],
    ];
    for other in [WITHOUT, INSIDE] {
        for args in commands {
            let said = as_other(&mounts, other, args);
            assert_ne!((said.code, said.out.as_str()), (0, ""), "{args:?}: {said:?}");
            assert_ne!(said.code, 0, "{args:?}: {said:?}");
            assert!(!mounts.at("out").exists(), "{args:?}: {said:?}");
            if args[0] != "run-mount" && other == WITHOUT {
                assert!(said.err.contains("CAP_SYS_ADMIN"), "{args:?}: {said:?}");
            }
        }
    }
    // Nobody has touched it meanwhile.
    mounts.run(&["export", "box", "-o", &out]).ok();
    let data = mounts.shell(&format!(
        "tar xOf {out} d/data | tr -d x | wc -c; tar xOf {out} d/data | wc -c; tar xOf {out} moved/inner"
    ));
    assert_eq!(data.ok().split_whitespace().collect::<Vec<_>>(), ["0", "5000", "inner"]);
}

#[test]
fn a_rw_layer_keeps_the_prefix_that_it_began_with() {
    let mounts = mounts();
    mounts.write("file", "new");
    mounts.mount(&["--name", "begun", "base"]);
    mounts.umount("begun");
    let upper = mounts.inspect("begun")["GraphDriver"]["Data"]["UpperDir"].as_str().expect("a path").to_owned();
    // As it is before anything has opened it; then it is begun without the capability, and every process sees its marks.
    for mark in ["user.layerctl.prefix", "trusted.layerctl.described"] {
        rustix::fs::removexattr(&*upper, mark).unwrap_or_else(|error| panic!("{mark}: {error}"));
    }
    assert_eq!(as_other(&mounts, WITHOUT, &["cp", "file", "begun:/new"]).ok(), "");
    let at = mounts.mount(&["--name", "begun"]).mountpoint;
    mounts.shell(&format!("chmod 600 {}/d/data", at.display())).ok();
    mounts.umount("begun");
    let out = mounts.text("out");
    as_other(&mounts, WITHOUT, &["export", "begun", "-o", &out]).ok();
    assert_eq!(mounts.shell(&format!("tar xOf {out} d/data | tr -d x | wc -c; tar xOf {out} new")).ok(), "0\nnew");
}
