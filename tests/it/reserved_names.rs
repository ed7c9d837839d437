//! Names that begin with `.wh.`: a container has none, so that they are refused wherever they would be made or dropped.

use super::layer_tree::LayerTree;
use super::mounts::{Mounts, said};

fn mounts() -> Mounts {
    let mounts = Mounts::new();
    mounts.import("base", &LayerTree::new().file("d/file", b"file").dir("here", 0o755).tar());
    mounts
}

#[test]
fn a_store_or_upper_in_a_mount_of_ours_is_refused_before_anything_is_written() {
    let mounts = mounts();
    let at = mounts.mount(&["--name", "box", "base"]).mountpoint;
    let inner = at.join("here");
    let text = |name: &str| inner.join(name).to_str().expect("a name in UTF-8").to_owned();
    for root in ["", "store", "a/b/store"] {
        for args in [&["images"][..], &["import", "-"]] {
            let said = said(mounts.program(args).env("LAYERCTL_ROOT", text(root)));
            said.fails(125, &["here", "mount of layerctl", "--root"]);
        }
    }
    assert_eq!(std::fs::read_dir(&inner).expect("a directory").count(), 0);
    // A directory of the mount is a good layer, and none that takes changes.
    std::fs::create_dir(inner.join("upper")).expect("a directory");
    mounts.mkdir("lower");
    mounts.mkdir("mnt");
    let upper = format!("dirs={}=rw:{}=ro", text("upper"), mounts.text("lower"));
    let refused = mounts.run(&["union", "-o", &upper, "mnt"]);
    refused.fails(125, &["here/upper", "mount of layerctl", "volume"]);
    assert_eq!(std::fs::read_dir(inner.join("upper")).expect("a directory").count(), 0);
    mounts.mkdir("upper");
    let lower = format!("dirs={}=rw:{}=ro", mounts.text("upper"), text(""));
    mounts.run(&["union", "-o", &lower, "mnt"]).ok();
    mounts.umount(&mounts.text("mnt"));
    mounts.umount("box");
}

#[test]
fn what_is_copied_into_a_container_has_no_such_name() {
    let mounts = mounts();
    mounts.mount(&["--name", "box", "base"]);
    for is_mounted in [true, false] {
        if !is_mounted {
            mounts.umount("box");
        }
        for name in [".wh.a", ".wh..wh..opq", ".wh..wh.plnk/x", ".wh.dir/x", ".wh."] {
            mounts.shell("rm -rf src && mkdir src").ok();
            mounts.write(&format!("src/{name}"), "x");
            mounts.write("src/before", "x");
            let first = name.split('/').next().expect("a name");
            mounts.shell("tar cf - -C src . | $L cp - box:/here").fails(125, &["begins with .wh.", first]);
            mounts.run(&["cp", "src", "box:/here"]).fails(125, &["begins with .wh.", first]);
        }
    }
    // Of such a tar nothing has come to the container, and of the host's tree no such name.
    let out = mounts.shell("$L export box | tar t | grep -e wh -e '^here/before' ; true").ok();
    assert_eq!(out, "");
}
