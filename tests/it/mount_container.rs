//! Containers in the background: `run-mount`, `ps`, `inspect`, `umount`, `rm`, with real mounts.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde_json::Value;

use super::mount_dead::kill_server;
use super::mounts::{Mounts, listing, mount_line, names, read, said};
use super::processes::{eventually, is_alive};
use super::root_fs::plain;

/// With the image `plain` in the store, which has no programs.
pub(crate) fn with_plain() -> Mounts {
    let mounts = Mounts::new();
    mounts.import("plain", &plain());
    mounts
}

/// The server of a container, which must be running.
#[track_caller]
pub(crate) fn pid(mounts: &Mounts, name: &str) -> u32 {
    let state = mounts.inspect(name)["State"].clone();
    assert_eq!((&state["Status"], &state["Running"], &state["Dead"]), (&"running".into(), &true.into(), &false.into()));
    let pid = u32::try_from(state["Pid"].as_u64().unwrap()).unwrap();
    assert!(is_alive(pid));
    pid
}

/// How many containers there are.
pub(crate) fn containers(mounts: &Mounts) -> usize {
    let rows: Value = serde_json::from_str(&mounts.run(&["--format", "json", "ps"]).ok()).unwrap();
    rows.as_array().unwrap().len()
}

#[test]
fn a_container_is_live_when_run_mount_returns() {
    let mounts = with_plain();
    let container = mounts.mount(&["plain"]);
    assert_eq!(container.id.len(), 64);
    assert_eq!(container.mountpoint, mounts.at("store/mnt").join(&container.id));
    assert_eq!(names(&container.mountpoint), ["dir", "file", "link"]);
    assert_eq!(read(&container.mountpoint.join("link")), "dir/one of the image\n");
    let line = mount_line(&container.mountpoint).unwrap();
    assert_eq!(line.fs_type, "fuse.layerctl");
    assert!(container.id.starts_with(&line.source) && !line.source.is_empty(), "{line:?}");

    let (state, mountpoint) = mounts.ps(&container.id);
    assert_eq!((state.as_str(), mountpoint.map(PathBuf::from)), ("running", Some(container.mountpoint.clone())));
    let table = mounts.run(&["ps"]).ok();
    let row = table.lines().nth(1).unwrap();
    for word in [&container.id[..12], "plain", "running", container.mountpoint.to_str().unwrap()] {
        assert!(row.contains(word), "{word}: {table}");
    }
    assert_eq!(table.lines().count(), 2);
    assert_eq!(mounts.servers(), [pid(&mounts, &container.id)]);
}

#[test]
fn json_output_has_the_same_two_things() {
    let mounts = with_plain();
    let value: Value = serde_json::from_str(&mounts.run(&["--format", "json", "run-mount", "plain"]).ok()).unwrap();
    assert_eq!(value["Mountpoint"], mounts.text(&format!("store/mnt/{}", value["Id"].as_str().unwrap())));
    assert_eq!(value.as_object().unwrap().len(), 2);
}

#[test]
fn inspect_shows_the_branches_as_aufs_did_and_the_messages() {
    let mounts = Mounts::new();
    let image = mounts.import("plain", &plain());
    let container = mounts.mount(&["--name", "box", "plain"]);
    let value = mounts.inspect("box");
    // A prefix that is unique is as good.
    assert_eq!(mounts.inspect(&container.id[..7])["Id"], container.id.as_str());
    assert_eq!(value["Id"], container.id.as_str());
    assert_eq!(value["Name"], "box");
    assert_eq!(value["Image"], image.as_str());
    assert_eq!(value["Mountpoint"], container.mountpoint.to_str().unwrap());
    assert_eq!(value["ReadonlyRootfs"], false);
    assert_eq!(value["GraphDriver"]["Name"], "layerctl");
    let upper = mounts.text(&format!("store/diff/{}", container.id));
    assert_eq!(value["GraphDriver"]["Data"]["UpperDir"], upper.as_str());
    assert_eq!(value["GraphDriver"]["Data"]["MergedDir"], value["Mountpoint"]);

    let layer = mounts.inspect("plain")["RootFS"]["Layers"][0].as_str().unwrap().to_owned();
    let lower = mounts.text(&format!("store/diff/{}", layer.strip_prefix("sha256:").unwrap()));
    let branches = serde_json::json!([
        { "Index": 0, "Path": upper, "Mode": "rw", "Id": container.id },
        { "Index": 1, "Path": lower, "Mode": "ro", "Id": layer },
    ]);
    assert_eq!(value["Branches"], branches);
    assert_eq!(value["GraphDriver"]["Data"]["LowerDir"], lower.as_str());

    let before = value["Messages"].as_object().unwrap().clone();
    fs::write(container.mountpoint.join("new"), "new").unwrap();
    let after = mounts.inspect("box")["Messages"].clone();
    let count = |messages: &Value| messages["CREATE"].as_u64().unwrap_or_default();
    assert_eq!(count(&after), count(&before.into()) + 1);

    mounts.umount("box");
    let value = mounts.inspect("box");
    for field in ["Branches", "Messages", "Mountpoint"] {
        assert_eq!(value[field], Value::Null, "{field}");
    }
}

#[test]
fn umount_keeps_the_container_and_nothing_else() {
    let mounts = with_plain();
    for name in ["by-name", "by-mountpoint", "by-umount8"] {
        let container = mounts.mount(&["--name", name, "plain"]);
        let server = pid(&mounts, name);
        fs::write(container.mountpoint.join("new"), name).unwrap();
        match name {
            "by-name" => mounts.umount(name),
            "by-mountpoint" => mounts.umount(container.mountpoint.to_str().unwrap()),
            _ => mounts.umount8(&container.mountpoint),
        }
        // Our own umount has waited for this, umount(8) cannot.
        assert!(eventually(|| !is_alive(server)), "{name}");
        assert_eq!(mounts.ps(name), ("exited".to_owned(), None));
        assert_eq!(mounts.inspect(name)["State"]["Pid"], 0);
        assert!(!container.mountpoint.exists(), "{name}");
        mounts.assert_nothing_is_live();
        assert_eq!(mounts.read(&format!("store/diff/{}/new", container.id)), name);
        mounts.run(&["umount", name]).fails(1, &[name]);
    }
    mounts.run(&["umount", "nobody"]).fails(1, &["nobody"]);
}

#[test]
fn a_container_mounted_again_has_its_changes() {
    let mounts = with_plain();
    let first = mounts.mount(&["--name", "box", "plain"]);
    let at = |path: &str| first.mountpoint.join(path);
    fs::write(at("new"), "new\n").unwrap();
    fs::write(at("file"), "changed\n").unwrap();
    fs::rename(at("dir"), at("renamed")).unwrap();
    fs::remove_file(at("renamed/two")).unwrap();
    fs::set_permissions(at("renamed/one"), fs::Permissions::from_mode(0o600)).unwrap();
    for arguments in [["--name", "box"].as_slice(), &["--name", "box", "plain"]] {
        mounts.umount("box");
        let again = mounts.mount(arguments);
        assert_eq!(again, first);
        assert_eq!(names(&first.mountpoint), ["file", "link", "new", "renamed"]);
        assert_eq!(names(&at("renamed")), ["one"]);
        assert_eq!((read(&at("new")), read(&at("file"))), ("new\n".into(), "changed\n".into()));
        assert_eq!(fs::metadata(at("renamed/one")).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    assert_eq!(containers(&mounts), 1);
}

#[test]
fn two_containers_of_an_image_do_not_see_each_other() {
    let mounts = with_plain();
    let before = listing(&mounts.at("store/diff"));
    let [one, two] = ["one", "two"].map(|name| mounts.mount(&["--name", name, "plain"]));
    let (at_one, at_two) = (|path: &str| one.mountpoint.join(path), |path: &str| two.mountpoint.join(path));
    fs::write(at_one("new"), "one").unwrap();
    fs::File::options().append(true).open(at_one("file")).unwrap().write_all(b"and one\n").unwrap();
    fs::remove_file(at_two("dir/one")).unwrap();
    fs::rename(at_two("dir"), at_two("moved")).unwrap();
    assert_eq!(names(&one.mountpoint), ["dir", "file", "link", "new"]);
    assert_eq!(names(&at_one("dir")), ["one", "two"]);
    assert_eq!(names(&two.mountpoint), ["file", "link", "moved"]);
    assert_eq!(read(&at_one("file")), "file of the image\nand one\n");
    assert_eq!(read(&at_two("file")), "file of the image\n");
    for name in ["one", "two"] {
        mounts.umount(name);
        let _ = mounts.mount(&["--name", name]);
    }
    assert_eq!(read(&at_one("new")), "one");
    assert!(!at_two("new").exists());
    mounts.run(&["rm", "--force", "one", "two"]).ok();
    // Not even a time of the image has changed.
    assert_eq!(listing(&mounts.at("store/diff")), before);
    mounts.assert_nothing_is_live();
}

#[test]
fn a_read_only_mount_takes_no_changes() {
    let mounts = with_plain();
    let container = mounts.mount(&["--name", "box", "--read-only", "plain"]);
    let at = |path: &str| container.mountpoint.join(path);
    let read_only = Some(Errno::ROFS.raw_os_error());
    let refused = |result: std::io::Result<()>| assert_eq!(result.unwrap_err().raw_os_error(), read_only);
    refused(fs::write(at("new"), ""));
    refused(fs::File::options().append(true).open(at("file")).map(drop));
    refused(fs::remove_file(at("file")));
    refused(fs::create_dir(at("new")));
    refused(fs::rename(at("dir"), at("moved")));
    refused(fs::set_permissions(at("file"), fs::Permissions::from_mode(0o600)));
    assert_eq!(read(&at("file")), "file of the image\n");
    assert_eq!(mounts.inspect("box")["ReadonlyRootfs"], true);
    assert!(mount_line(&container.mountpoint).unwrap().options.iter().any(|option| option == "ro"));
    mounts.umount("box");
    // It is the mount that takes none.
    let container = mounts.mount(&["--name", "box"]);
    fs::write(container.mountpoint.join("new"), "").unwrap();
}

#[test]
fn a_container_that_is_to_go_goes_with_its_mount() {
    let mounts = with_plain();
    let before = listing(&mounts.at("store/diff"));
    let gone = |id: &str| {
        containers(&mounts) == 0
            && !["diff", "layers", "containers", "mnt"].iter().any(|dir| mounts.at("store").join(dir).join(id).exists())
    };
    let container = mounts.mount(&["--rm", "plain"]);
    fs::write(container.mountpoint.join("new"), "").unwrap();
    mounts.umount(&container.id);
    assert!(gone(&container.id));

    let container = mounts.mount(&["--rm", "--name", "box", "plain"]);
    fs::write(container.mountpoint.join("new"), "").unwrap();
    mounts.umount8(&container.mountpoint);
    assert!(eventually(|| gone(&container.id)));
    assert!(eventually(|| mounts.processes().is_empty()));
    mounts.assert_nothing_is_live();
    assert_eq!(listing(&mounts.at("store/diff")), before);
    // The name is free again.
    let _ = mounts.mount(&["--name", "box", "plain"]);
}

#[test]
fn a_mountpoint_may_be_anywhere() {
    let mounts = with_plain();
    mounts.mkdir("some/where else");
    let container = mounts.mount(&["--name", "box", "plain", "some/where else"]);
    assert_eq!(container.mountpoint, mounts.at("some/where else"));
    assert_eq!(mounts.read("some/where else/file"), "file of the image\n");
    assert_eq!(mounts.inspect("./some/where else")["Pid"], pid(&mounts, "box"));
    mounts.umount("some/where else");
    assert_eq!(names(&container.mountpoint), Vec::<String>::new());
    // Somewhere else the next time, also behind a link.
    mounts.mkdir("other");
    std::os::unix::fs::symlink("other", mounts.at("link")).unwrap();
    let container = mounts.mount(&["--name", "box", "./link"]);
    assert_eq!(container.mountpoint, mounts.at("other"));
    mounts.umount("./link");
    let container = mounts.mount(&["--name", "box"]);
    assert_eq!(container.mountpoint, mounts.at("store/mnt").join(&container.id));
}

#[test]
fn a_name_in_use_is_refused() {
    let mounts = with_plain();
    mounts.import(
        "other",
        &super::root_fs::finish({
            let mut tar = tar::Builder::new(Vec::new());
            super::root_fs::add(&mut tar, "other", 0o644, Some(b"other"));
            tar
        }),
    );
    let container = mounts.mount(&["--name", "box", "plain"]);
    let mountpoint = container.mountpoint.to_str().unwrap();
    for arguments in [["--name", "box", "plain"].as_slice(), &["--name", "box"]] {
        let arguments: Vec<&str> = ["run-mount"].iter().chain(arguments).copied().collect();
        mounts.run(&arguments).fails(125, &["box", "in use", mountpoint]);
    }
    mounts.mkdir("mnt");
    mounts.run(&["run-mount", "--name", "box", "plain", "mnt"]).fails(125, &["box", "in use", mountpoint]);
    mounts.run(&["run-mount", "--name", "box", "other"]).fails(125, &["box", "exists"]);
    mounts.umount("box");
    mounts.run(&["run-mount", "--name", "box", "other"]).fails(125, &["box", "exists"]);
    assert_eq!(containers(&mounts), 1);
    mounts.run(&["run-mount", "--name", "no/name", "plain"]).fails(2, &["no/name"]);
    mounts.run(&["run-mount", "--name", "nobody"]).fails(1, &["nobody"]);
    mounts.run(&["run-mount"]).fails(2, &["image"]);
    assert_eq!(containers(&mounts), 1);
    mounts.assert_nothing_is_live();
}

#[test]
fn a_bad_mountpoint_is_refused_and_nothing_is_left() {
    let mounts = with_plain();
    let before = listing(&mounts.at("store/diff"));
    mounts.write("file", "");
    mounts.write("full/file", "");
    let run_mount = |mountpoint: &str| mounts.run(&["run-mount", "plain", mountpoint]);
    run_mount("missing").fails(1, &["missing"]);
    run_mount("file").fails(2, &["file", "not a directory"]);
    run_mount("file/below").fails(125, &["file/below"]);
    run_mount("full").fails(2, &["full", "not empty"]);
    assert_eq!(containers(&mounts), 0);
    let first = mounts.mkdir("mnt");
    mounts.mount(&["--name", "box", "plain", "mnt"]);
    run_mount("mnt").fails(125, &["mnt", "in use"]);
    assert_eq!((containers(&mounts), mounts.mounted()), (1, vec![first]));
    mounts.umount("mnt");
    mounts.mkdir("tmpfs");
    said(mounts.command("mount").args(["-t", "tmpfs", "none", "tmpfs"])).ok();
    run_mount("tmpfs").fails(125, &["tmpfs", "in use"]);
    mounts.umount8("tmpfs");
    mounts.run(&["rm", "box"]).ok();
    mounts.assert_nothing_is_live();
    assert_eq!(listing(&mounts.at("store/diff")), before);
}

#[test]
fn an_unknown_image_is_refused_and_nothing_is_left() {
    let mounts = with_plain();
    mounts.run(&["run-mount", "nothing:1"]).fails(1, &["nothing:1"]);
    mounts.run(&["run-mount", "--name", "box", "nothing"]).fails(1, &["nothing"]);
    mounts.run(&["run-mount", "--name", "box", "nothing", "--", "true"]).fails(1, &["nothing"]);
    assert_eq!(containers(&mounts), 0);
    mounts.assert_nothing_is_live();
}

/// In a mount namespace where the device is not, or is something else.
#[test]
fn without_the_fuse_device_nothing_is_left() {
    let mounts = with_plain();
    let before = listing(&mounts.at("store/diff"));
    mounts.write("dev/null", "");
    mounts.write("low/file", "");
    for dir in ["up", "mnt"] {
        mounts.mkdir(dir);
    }
    let not_there = "mount --bind /dev/null dev/null && mount --rbind dev /dev";
    let another = "mount --bind /dev/null /dev/fuse";
    for (hide, words) in [(not_there, ["/dev/fuse", "not there"].as_slice()), (another, &["mount"])] {
        for command in ["run-mount plain", "run-mount plain mnt", "run-mount plain -- true", "union -o dirs=up:low mnt"]
        {
            let script = format!("{hide} || exit 99; exec $L {command}");
            let mut unshare = mounts.command("unshare");
            let said = said(unshare.env("L", super::mounts::PROGRAM).args(["-m", "sh", "-c", &script]));
            said.fails(125, words);
            assert_eq!(containers(&mounts), 0, "{command}");
            assert_eq!(names(&mounts.at("store/mnt")), Vec::<String>::new(), "{command}");
            mounts.assert_nothing_is_live();
        }
    }
    assert_eq!(listing(&mounts.at("store/diff")), before);
}

#[test]
fn a_mounted_container_is_removed_only_by_force() {
    let mounts = with_plain();
    let before = listing(&mounts.at("store/diff"));
    let container = mounts.mount(&["--name", "box", "plain"]);
    fs::write(container.mountpoint.join("new"), "new").unwrap();
    mounts.run(&["rm", "box"]).fails(125, &["box", "in use"]);
    assert_eq!(read(&container.mountpoint.join("new")), "new");
    pid(&mounts, "box");
    mounts.run(&["rmi", "plain"]).fails(125, &["in use"]);
    assert_eq!(mounts.run(&["rm", "-f", "box"]).ok(), "box\n");
    assert_eq!(containers(&mounts), 0);
    mounts.assert_nothing_is_live();
    assert_eq!(listing(&mounts.at("store/diff")), before);

    // Also one that is in use.
    let container = mounts.mount(&["--name", "box", "plain"]);
    let open = fs::File::create(container.mountpoint.join("new")).unwrap();
    mounts.run(&["umount", "box"]).fails(125, &["in use"]);
    assert_eq!(mounts.run(&["rm", "-f", "box"]).ok(), "box\n");
    mounts.assert_nothing_is_live();
    assert!((&open).write_all(b"too late").and_then(|()| open.sync_all()).is_err());

    // Right after umount(8), when its server may still be there.
    for _ in 0..10 {
        let container = mounts.mount(&["--name", "box", "plain"]);
        fs::write(container.mountpoint.join("new"), "new").unwrap();
        mounts.umount8(&container.mountpoint);
        mounts.run(&["rm", "box"]).ok();
    }

    // And a dead one.
    mounts.mount(&["--name", "box", "plain"]);
    kill_server(&mounts, "box");
    mounts.run(&["rm", "box"]).ok();
    assert_eq!(containers(&mounts), 0);
    assert!(eventually(|| mounts.processes().is_empty()));
    mounts.assert_nothing_is_live();
    assert_eq!(listing(&mounts.at("store/diff")), before);
    mounts.run(&["rm", "box"]).fails(1, &["box"]);
}

#[test]
fn a_server_keeps_nothing_of_its_caller() {
    let mounts = with_plain();
    mounts.write("lock", "");
    mounts.mkdir("somewhere");
    // The lock is free when the shell lets it go, though the server lives on; and no pipe is held open, or the
    // substitution would not end. Neither the directory nor the umask is the server's.
    let script = r#"
        cd somewhere
        umask 077
        exec 9>../lock
        flock 9
        line=$($L run-mount --name box plain 2>&1) || exit 1
        flock --nonblock ../lock true && echo "not locked"
        exec 9>&-
        flock --nonblock ../lock echo free
        set -- $line
        : > $2/new
        umask 0
        : > $2/all
        mkdir $2/dir2
    "#;
    assert_eq!(mounts.shell(script).ok(), "free\n");
    let server = pid(&mounts, "box");
    let mode = |name: &str| {
        let mountpoint = mounts.inspect("box")["Mountpoint"].as_str().unwrap().to_owned();
        fs::metadata(Path::new(&mountpoint).join(name)).unwrap().permissions().mode() & 0o7777
    };
    assert_eq!((mode("new"), mode("all"), mode("dir2")), (0o600, 0o666, 0o777));
    assert_eq!(fs::read_link(format!("/proc/{server}/cwd")).unwrap(), Path::new("/"));
    fs::remove_dir(mounts.at("somewhere")).unwrap();
    let session = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(session(server), server);
    for fd in fs::read_dir(format!("/proc/{server}/fd")).unwrap() {
        let target = fs::read_link(fd.unwrap().path()).unwrap_or_default();
        assert_ne!(target, mounts.at("lock"));
    }
}
