//! What is damaged breaks itself only, and can be removed.

use std::fs::{self, File};
use std::io::Write as _;

use super::mounts::Mounts;

#[test]
fn a_damaged_container_does_not_hide_the_others_and_can_be_removed() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &super::root_fs::plain());
    for name in ["broken", "whole"] {
        mounts.mount(&["--name", name, &image]);
        mounts.umount(name);
    }
    let id = mounts.inspect("broken")["Id"].as_str().unwrap().to_owned();
    let record = mounts.at("store/containers").join(&id).join("record.json");
    fs::write(&record, "{").unwrap();

    let listed = mounts.run(&["ps"]);
    assert_eq!(listed.code, 125);
    assert!(listed.out.contains("whole") && !listed.out.contains("broken"), "{}", listed.out);
    assert!(listed.err.starts_with("error: ") && listed.err.contains(&id), "{}", listed.err);
    mounts.run(&["rm", "broken"]).fails(125, &["record.json", "damaged"]);
    mounts.run(&["run-mount", "--rm", &image, "--", "true"]).fails(127, &["true"]);
    mounts.run(&["rm", "-f", "broken"]).ok();

    assert_eq!(mounts.run(&["ps"]).code, 0);
    assert!(!mounts.at("store/diff").join(&id).exists(), "its rw layer is gone too");
    mounts.run(&["rm", "broken"]).fails(1, &["no such container"]);
    mounts.run(&["rm", "whole"]).ok();
    mounts.run(&["rmi", &image]).ok();
    assert_eq!(fs::read_dir(mounts.at("store/diff")).unwrap().count(), 0);
}

#[test]
fn a_mountpoint_goes_before_the_beginning_of_an_id() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &super::root_fs::plain());
    let id = mounts.mount(&["--name", "c", &image]).id;
    // A directory whose name is the beginning of the container's id, with a union at it.
    let name = &id[..2];
    for dir in ["upper", "lower", name] {
        mounts.mkdir(dir);
    }
    mounts.run(&["union", "-o", "dirs=upper:lower", name]).ok();
    mounts.umount(name);
    assert_eq!(mounts.ps("c").0, "running");
    mounts.umount(name);
    assert_eq!(mounts.ps("c").0, "exited");
}

/// Its index says how long it is; what is missing is no hole.
#[test]
fn a_file_of_a_layer_that_was_cut_is_not_read_as_zeros() {
    let mounts = Mounts::new();
    mounts.mkdir("tree");
    fs::write(mounts.at("tree/file"), vec![b'x'; 100_000]).unwrap();
    mounts.shell("tar -C tree -cf image.tar .").ok();
    mounts.run(&["import", "--tag", "i", "image.tar"]).ok();
    let layer = fs::read_dir(mounts.at("store/diff")).unwrap().next().unwrap().unwrap().path();
    File::options().write(true).open(layer.join("file")).unwrap().set_len(50_000).unwrap();
    let container = mounts.mount(&["--name", "c", "i"]);
    let file = container.mountpoint.join("file");
    let read = fs::read(&file).unwrap_err();
    assert_eq!(read.raw_os_error(), Some(libc::EIO));
    let opened = File::options()
        .append(true)
        .open(&file)
        .and_then(|mut file| file.write_all(b"y").and_then(|()| file.sync_all()));
    assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::EIO));
    mounts.run(&["umount", "c"]);
}
