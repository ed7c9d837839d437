//! Containers whose server was killed.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use super::mount_container::{pid, with_plain};
use super::mounts::{Mounts, names, read};
use super::processes::kill;

/// Kills the server, and sees that `ps` and `inspect` tell the truth.
#[track_caller]
pub(crate) fn kill_server(mounts: &Mounts, name: &str) {
    let server = pid(mounts, name);
    kill(server);
    let (state, mountpoint) = mounts.ps(name);
    assert_eq!(state, "dead");
    assert!(mountpoint.is_some());
    let state = mounts.inspect(name)["State"].clone();
    assert_eq!((&state["Status"], &state["Running"], &state["Dead"]), (&"dead".into(), &false.into(), &true.into()));
    assert_eq!(state["Pid"], 0);
}

#[test]
fn a_container_whose_server_was_killed_is_dead_and_comes_back() {
    let mounts = with_plain();
    let container = mounts.mount(&["--name", "box", "plain"]);
    let at = |path: &str| container.mountpoint.join(path);
    let synced = |path: &str, content: &str| {
        let mut file = fs::File::create(at(path)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.sync_all().unwrap();
    };
    synced("new", "new\n");
    synced("file", "changed\n");
    fs::rename(at("dir"), at("moved")).unwrap();
    fs::remove_file(at("moved/two")).unwrap();
    kill_server(&mounts, "box");
    assert!(fs::read_dir(&container.mountpoint).is_err());

    // Unmounted first, and by its mountpoint, which cannot be looked at any more.
    mounts.umount("box");
    assert_eq!(mounts.ps("box"), ("exited".to_owned(), None));
    assert!(!container.mountpoint.exists());
    mounts.assert_nothing_is_live();
    let as_left = || {
        assert_eq!(names(&container.mountpoint), ["file", "link", "moved", "new"]);
        assert_eq!(names(&at("moved")), ["one"]);
        assert_eq!((read(&at("new")), read(&at("file"))), ("new\n".into(), "changed\n".into()));
    };
    mounts.mount(&["--name", "box"]);
    as_left();
    kill_server(&mounts, "box");
    mounts.umount(container.mountpoint.to_str().unwrap());
    assert_eq!(mounts.ps("box"), ("exited".to_owned(), None));

    // Mounted again as if nothing had happened.
    mounts.mount(&["--name", "box"]);
    kill_server(&mounts, "box");
    mounts.mount(&["--name", "box"]);
    as_left();
    assert_eq!(mounts.mounted(), [at("")]);
    pid(&mounts, "box");
    mounts.umount("box");
    mounts.assert_nothing_is_live();
}

#[test]
fn a_killed_server_leaves_a_mountpoint_of_the_users_in_order() {
    let mounts = with_plain();
    let mnt = mounts.mkdir("mnt");
    mounts.mount(&["--name", "box", "plain", "mnt"]);
    kill_server(&mounts, "box");
    // Another one at the same place.
    mounts.mount(&["--name", "other", "plain", "mnt"]);
    assert_eq!(mounts.mounted(), std::slice::from_ref(&mnt));
    assert_eq!(mounts.read("mnt/file"), "file of the image\n");
    // The dead one's end is not the other's.
    mounts.run(&["rm", "box"]).ok();
    assert_eq!(mounts.mounted(), std::slice::from_ref(&mnt));
    assert_eq!(mounts.read("mnt/file"), "file of the image\n");
    kill_server(&mounts, "other");
    mounts.mkdir("elsewhere");
    let container = mounts.mount(&["--name", "other", "./elsewhere"]);
    assert_eq!(read(&container.mountpoint.join("file")), "file of the image\n");
    // Nothing stale is left at the old place.
    assert_eq!(mounts.mounted(), [mounts.at("elsewhere")]);
    mounts.umount("other");
    assert!(mnt.is_dir());
    mounts.run(&["rm", "other"]).ok();
    assert_eq!(mounts.mounted(), Vec::<PathBuf>::new());
}
