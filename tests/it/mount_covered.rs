//! A mount over which something else is mounted: that is never taken for it, and stays.

use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use super::mount_union::{PRACTICE, practice};
use super::mounts::{Mounts, mount_line, names};

/// Mounts over a path until it is dropped.
struct Cover<'a>(&'a Path);

impl Drop for Cover<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).expect("it is still mounted");
    }
}

#[test]
fn a_container_under_another_ones_mount_is_not_taken_for_that() {
    let mounts = Mounts::with_programs();
    let below = mounts.mount(&["--name", "below", "programs"]).mountpoint;
    let over = mounts.mount(&["--name", "over", "programs"]).mountpoint;
    std::fs::write(over.join("of-the-other"), "").unwrap();
    mounts.write("file", "");
    mount_bind(&over, &below).unwrap();
    let cover = Cover(&below);
    for args in [&["export", "below", "-o", "out.tar"][..], &["diff", "below"], &["cp", "file", "below:/copied"]] {
        let said = mounts.run(args);
        assert!(said.code != 0 && said.err.contains("is mounted over it"), "{args:?}: {said:?}");
    }
    assert!(!names(&over).contains(&"copied".to_owned()));
    drop(cover);
    assert!(!mounts.run(&["diff", "below"]).ok().contains("of-the-other"));
    mounts.umount("below");
    mounts.umount("over");
    mounts.assert_nothing_is_live();
}

#[test]
fn what_is_mounted_over_a_union_is_neither_unmounted_nor_remounted() {
    let mounts = practice();
    mounts.run(&["union", "-o", PRACTICE, "mnt"]).ok();
    let mnt = mounts.at("mnt");
    mount("over", &mnt, "tmpfs", MountFlags::empty(), None).unwrap();
    let cover = Cover(&mnt);
    // Without the store's directory of live mounts, only the kernel knows it.
    for args in [&["--root", "other", "umount", "mnt"][..], &["union", "-o", "remount,ro", "mnt"]] {
        let said = mounts.run(args);
        assert!(said.code != 0 && said.err.contains("is mounted over it"), "{args:?}: {said:?}");
        let line = mount_line(&mnt).unwrap();
        assert_eq!((line.fs_type.as_str(), line.options.contains(&"ro".to_owned())), ("tmpfs", false), "{args:?}");
    }
    drop(cover);
    mounts.umount("mnt");
    mounts.assert_nothing_is_live();
}
