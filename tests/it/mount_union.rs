//! `layerctl union`, and the same as a helper of mount(8): plain directories through real mounts.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, listxattr, makedev, mknodat, setxattr};
use rustix::process::Signal;
use serde_json::Value;

use super::mounts::{Mounts, listing, names, read};
use super::processes::{eventually, is_alive, kill, signal};

/// What people do who get to know AUFS: four layers of an image, and a container's.
pub(crate) const PRACTICE: &str =
    "dirs=./container-layer=rw:./image-layer4=ro:./image-layer3:./image-layer2:./image-layer1";

pub(crate) fn practice() -> Mounts {
    let mounts = Mounts::new();
    for name in ["container-layer", "image-layer1", "image-layer2", "image-layer3", "image-layer4"] {
        mounts.write(&format!("{name}/{name}.txt"), &format!("I am {name}\n"));
    }
    mounts.mkdir("mnt");
    mounts
}

/// The union's server, which must be there.
#[track_caller]
pub(crate) fn server(mounts: &Mounts) -> u32 {
    let servers = mounts.servers();
    assert_eq!(servers.len(), 1, "{servers:?}");
    servers[0]
}

#[test]
fn the_aufs_practice_works_command_by_command() {
    let mounts = practice();
    assert_eq!(mounts.run(&["union", "-o", PRACTICE, "./mnt"]).ok(), "");
    assert_eq!(
        mounts.shell("ls ./mnt").ok(),
        "container-layer.txt\nimage-layer1.txt\nimage-layer2.txt\nimage-layer3.txt\nimage-layer4.txt\n"
    );
    assert_eq!(mounts.read("mnt/image-layer1.txt"), "I am image-layer1\n");

    let layer4 = listing(&mounts.at("image-layer4"));
    mounts.shell(r#"echo "write to mnt's image-layer4.txt" >> ./mnt/image-layer4.txt"#).ok();
    let appended = "I am image-layer4\nwrite to mnt's image-layer4.txt\n";
    assert_eq!(mounts.read("mnt/image-layer4.txt"), appended);
    assert_eq!(listing(&mounts.at("image-layer4")), layer4);
    assert_eq!(mounts.read("image-layer4/image-layer4.txt"), "I am image-layer4\n");
    // The kernel may gather writes, but not beyond the end of the mount.
    let server = server(&mounts);
    mounts.umount8("./mnt");
    assert!(eventually(|| !is_alive(server)));
    assert_eq!(mounts.read("container-layer/image-layer4.txt"), appended);
    assert_eq!(names(&mounts.at("mnt")), Vec::<String>::new());
    mounts.assert_nothing_is_live();
}

#[test]
fn the_branch_list_is_the_one_of_aufs() {
    let mounts = practice();
    mounts.run(&["union", "-o", PRACTICE, "./mnt"]).ok();
    let wanted = [
        ("container-layer", "rw"),
        ("image-layer4", "ro"),
        ("image-layer3", "ro"),
        ("image-layer2", "ro"),
        ("image-layer1", "ro"),
    ];
    let value = mounts.inspect("./mnt");
    assert_eq!(value["Mountpoint"], mounts.text("mnt"));
    assert_eq!(value["Pid"], server(&mounts));
    let branches = value["Branches"].as_array().unwrap();
    assert_eq!(branches.len(), wanted.len());
    let dirs = names(&mounts.at("store/run"));
    let [dir] = dirs.as_slice() else { panic!("{dirs:?}") };
    assert!(dir.starts_with("si_"), "{dir}");
    for (number, (name, mode)) in wanted.into_iter().enumerate() {
        let id = number.to_string();
        let branch = serde_json::json!({ "Index": number, "Path": mounts.text(name), "Mode": mode, "Id": id });
        assert_eq!(branches[number], branch);
        assert_eq!(mounts.read(&format!("store/run/{dir}/br{number}")), format!("{}={mode}\n", mounts.text(name)));
        assert_eq!(mounts.read(&format!("store/run/{dir}/brid{number}")), format!("{number}\n"));
    }
    assert!(!mounts.at(&format!("store/run/{dir}/br5")).exists());
    // By its mountpoint it is found from everywhere, and it ends in the same way.
    mounts.umount(&mounts.text("mnt"));
    mounts.assert_nothing_is_live();
    mounts.run(&["inspect", "./mnt"]).fails_and_prints(1, &["./mnt"], "[]\n");
    mounts.run(&["umount", "./mnt"]).fails(1, &["./mnt"]);
}

#[test]
fn br_is_another_word_for_dirs() {
    for option in ["br:up:low", "br=up=rw:low=ro", "dirs=up:low=rr"] {
        let mounts = Mounts::new();
        mounts.mkdir("up");
        mounts.mkdir("mnt");
        mounts.write("low/file", "low\n");
        mounts.run(&["union", "-o", option, "mnt"]).ok();
        mounts.write("mnt/new", "new\n");
        assert_eq!(names(&mounts.at("mnt")), ["file", "new"], "{option}");
        mounts.umount("mnt");
        assert_eq!(mounts.read("up/new"), "new\n", "{option}");
    }
}

#[test]
fn overlayfs_spelling_means_the_same() {
    let mounts = Mounts::new();
    for dir in ["upper", "work", "mnt"] {
        mounts.mkdir(dir);
    }
    mounts.write("near/both", "near\n");
    mounts.write("far/both", "far\n");
    mounts.write("far/far", "far\n");
    mounts.run(&["union", "-o", "lowerdir=near:far,upperdir=upper,workdir=work", "mnt"]).ok();
    assert_eq!(names(&mounts.at("mnt")), ["both", "far"]);
    assert_eq!(mounts.read("mnt/both"), "near\n");
    let modes = mounts.inspect("mnt")["Branches"].as_array().unwrap().clone();
    let modes: Vec<_> = modes.iter().map(|branch| branch["Mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["rw", "ro", "ro"]);
    mounts.write("mnt/far", "changed\n");
    mounts.umount("mnt");
    assert_eq!(mounts.read("upper/far"), "changed\n");
    assert_eq!(mounts.read("far/far"), "far\n");
    assert_eq!(names(&mounts.at("work")), Vec::<String>::new());
}

#[test]
fn a_union_without_a_rw_branch_takes_no_changes() {
    let mounts = Mounts::new();
    mounts.write("a/file", "a\n");
    mounts.write("b/other", "b\n");
    mounts.mkdir("mnt");
    for option in ["lowerdir=a:b", "dirs=a=ro:b"] {
        mounts.run(&["union", "-o", option, "mnt"]).ok();
        assert_eq!(names(&mounts.at("mnt")), ["file", "other"]);
        let error = fs::write(mounts.at("mnt/new"), "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{option}");
        let error = fs::remove_file(mounts.at("mnt/file")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{option}");
        mounts.umount("mnt");
    }
}

#[test]
fn whiteouts_are_read_in_both_spellings() {
    let mounts = Mounts::new();
    for name in ["gone", "stays", "opaque/below", "opaque/too", "dir/deep/gone", "device"] {
        mounts.write(&format!("low/{name}"), "low\n");
    }
    // As AUFS and image layers write them.
    mounts.write("aufs/.wh.gone", "");
    mounts.write("aufs/opaque/.wh..wh..opq", "");
    mounts.write("aufs/opaque/own", "aufs\n");
    mounts.write("aufs/dir/.wh.deep", "");
    // As overlayfs writes them.
    mounts.mkdir("overlay/opaque");
    mounts.mkdir("overlay/dir");
    let whiteout = |path: &str| {
        mknodat(CWD, mounts.at(path), FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
    };
    whiteout("overlay/gone");
    whiteout("overlay/dir/deep");
    setxattr(mounts.at("overlay/opaque"), "trusted.overlay.opaque", b"y", XattrFlags::CREATE).unwrap();
    mounts.write("overlay/opaque/own", "overlay\n");
    // A device that is none.
    mknodat(CWD, mounts.at("overlay/null"), FileType::CharacterDevice, Mode::empty(), makedev(1, 3)).unwrap();
    mounts.mkdir("mnt");
    for (layer, rest) in [
        ("aufs", ["device", "dir", "opaque", "stays"].as_slice()),
        ("overlay", &["device", "dir", "null", "opaque", "stays"]),
    ] {
        let upper = format!("upper-of-{layer}");
        mounts.mkdir(&upper);
        mounts.run(&["union", "-o", &format!("dirs={upper}:{layer}:low"), "mnt"]).ok();
        assert_eq!(names(&mounts.at("mnt")), rest);
        assert_eq!(names(&mounts.at("mnt/opaque")), ["own"]);
        assert_eq!(mounts.read("mnt/opaque/own"), format!("{layer}\n"));
        assert_eq!(names(&mounts.at("mnt/dir")), Vec::<String>::new());
        for hidden in ["gone", "opaque/below", "dir/deep", "dir/deep/gone", ".wh.gone", "opaque/.wh..wh..opq"] {
            assert!(!mounts.at("mnt").join(hidden).exists(), "{layer}: {hidden}");
        }
        assert_eq!(listxattr(mounts.at("mnt/opaque"), &mut [0; 256]), Ok(0));
        // A name that was hidden is free, and what the upper hides is hidden in AUFS' way.
        mounts.write("mnt/gone", "new\n");
        fs::remove_file(mounts.at("mnt/stays")).unwrap();
        mounts.umount("mnt");
        assert_eq!(mounts.read(&format!("{upper}/gone")), "new\n");
        assert_eq!(mounts.read(&format!("{upper}/.wh.stays")), "");
        mounts.run(&["union", "-o", &format!("dirs={upper}:{layer}:low"), "mnt"]).ok();
        assert_eq!(mounts.read("mnt/gone"), "new\n");
        assert!(!mounts.at("mnt/stays").exists());
        mounts.umount("mnt");
    }
    assert!(fs::symlink_metadata(mounts.at("overlay/null")).unwrap().file_type().is_char_device());
}

#[test]
fn more_layers_than_overlayfs_has() {
    let mounts = Mounts::new();
    let count = 600;
    for number in 0..count {
        mounts.write(&format!("l{number}/own{number}"), "");
        mounts.write(&format!("l{number}/dir/all"), &number.to_string());
        mounts.write(&format!("l{number}/dir/own{number}"), "");
    }
    mounts.mkdir("up");
    mounts.mkdir("mnt");
    let lowers: Vec<String> = (0..count).map(|number| format!("l{number}")).collect();
    mounts.run(&["union", "-o", &format!("dirs=up:{}", lowers.join(":")), "mnt"]).ok();
    assert_eq!(names(&mounts.at("mnt")).len(), count + 1);
    assert_eq!(names(&mounts.at("mnt/dir")).len(), count + 1);
    assert_eq!(mounts.read("mnt/dir/all"), "0");
    assert_eq!(mounts.inspect("mnt")["Branches"].as_array().unwrap().len(), count + 1);
    fs::rename(mounts.at("mnt/dir"), mounts.at("mnt/renamed")).unwrap();
    fs::remove_file(mounts.at("mnt/renamed/all")).unwrap();
    assert_eq!(names(&mounts.at("mnt/renamed")).len(), count);
    mounts.umount("mnt");
    assert_eq!(mounts.read("l599/dir/all"), "599");
}

#[test]
fn what_is_wrong_with_a_union_is_said_in_one_sentence() {
    let mounts = practice();
    mounts.write("file", "");
    mounts.write("full/file", "");
    let union = |options: &str, mountpoint: &str| mounts.run(&["union", "-o", options, mountpoint]);
    union(&format!("{PRACTICE},shwh=1"), "mnt").fails(2, &["shwh"]);
    union("dirs=image-layer1:image-layer2=rw", "mnt").fails(2, &["image-layer2"]);
    union("dirs=:image-layer2", "mnt").fails(2, &["no directory"]);
    union("nosuid", "mnt").fails(2, &["no directories"]);
    union("dirs=image-layer1:missing", "mnt").fails(1, &["missing"]);
    union("dirs=missing:image-layer1", "mnt").fails(1, &["missing"]);
    union("lowerdir=image-layer1:file,upperdir=container-layer", "mnt").fails(2, &["file", "not a directory"]);
    union(PRACTICE, "missing").fails(1, &["missing"]);
    union(PRACTICE, "file").fails(2, &["file", "not a directory"]);
    union(PRACTICE, "full").fails(2, &["full", "not empty"]);
    // What clap says has the usage too.
    assert_eq!(mounts.run(&["union", "mnt"]).code, 2);
    assert_eq!(mounts.run(&["union", "-o", PRACTICE]).code, 2);
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());

    union(PRACTICE, "mnt").ok();
    union("dirs=image-layer1", "mnt").fails(125, &["mnt", "in use"]);
    mounts.mkdir("other");
    union(PRACTICE, "other").fails(125, &["container-layer", "in use"]);
    assert_eq!(mounts.mounted(), [mounts.at("mnt")]);
    assert_eq!(mounts.servers().len(), 1);
    assert_eq!(names(&mounts.at("mnt")).len(), 5);
}

#[test]
fn odd_names_of_directories_are_written_with_backslashes() {
    let mounts = Mounts::new();
    mounts.mkdir("up:1,a=rw");
    mounts.write("lo w\\x/file", "low\n");
    mounts.mkdir("m nt");
    mounts.run(&["union", "-o", r"dirs=up\:1\,a\=rw=rw:lo w\\x", "m nt"]).ok();
    mounts.write("m nt/new", "new\n");
    assert_eq!(mounts.read("m nt/file"), "low\n");
    let branches = mounts.inspect("m nt")["Branches"].clone();
    assert_eq!(branches[0]["Path"], mounts.text("up:1,a=rw"));
    assert_eq!(branches[1]["Path"], mounts.text("lo w\\x"));
    mounts.umount("m nt");
    assert_eq!(mounts.read("up:1,a=rw/new"), "new\n");
    mounts.assert_nothing_is_live();
}

#[test]
fn a_busy_union_is_unmounted_only_lazily() {
    let mounts = practice();
    mounts.run(&["union", "-o", PRACTICE, "mnt"]).ok();
    let server = server(&mounts);
    let mut open = fs::File::open(mounts.at("mnt/image-layer1.txt")).unwrap();
    mounts.run(&["umount", "mnt"]).fails(125, &["mnt", "in use"]);
    assert_eq!(mounts.mounted(), [mounts.at("mnt")]);
    mounts.run(&["umount", "--lazy", "mnt"]).ok();
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
    assert!(is_alive(server));
    assert_eq!(std::io::read_to_string(&mut open).unwrap(), "I am image-layer1\n");
    drop(open);
    assert!(eventually(|| !is_alive(server)));
    mounts.assert_nothing_is_live();
}

#[test]
fn signals_end_a_union_in_order() {
    let mounts = practice();
    for number in [Signal::TERM, Signal::INT, Signal::HUP] {
        mounts.run(&["union", "-o", PRACTICE, "mnt"]).ok();
        let server = server(&mounts);
        mounts.write("mnt/last", &format!("{number:?}"));
        signal(server, number);
        assert!(eventually(|| !is_alive(server)));
        assert_eq!(mounts.read("container-layer/last"), format!("{number:?}"));
        mounts.assert_nothing_is_live();
    }
}

#[test]
fn a_union_whose_server_was_killed_is_cleared_away() {
    let mounts = practice();
    let mnt = mounts.at("mnt");
    let killed = || {
        mounts.run(&["union", "-o", PRACTICE, "mnt"]).ok();
        let server = server(&mounts);
        kill(server);
        assert!(fs::read_dir(&mnt).is_err());
    };
    killed();
    mounts.run(&["inspect", "mnt"]).fails_and_prints(1, &["mnt"], "[]\n");
    mounts.umount("mnt");
    assert_eq!(mounts.mounted(), Vec::<std::path::PathBuf>::new());
    killed();
    // What cannot be looked at any more is no obstacle either.
    mounts.run(&["union", "-o", PRACTICE, "mnt"]).ok();
    assert_eq!(read(&mnt.join("image-layer1.txt")), "I am image-layer1\n");
    assert_eq!(mounts.mounted(), [mnt]);
    mounts.umount("mnt");
    mounts.assert_nothing_is_live();
}

#[test]
fn several_unions_live_side_by_side() {
    let mounts = Mounts::new();
    for number in 0..4 {
        mounts.write(&format!("low{number}/file"), &number.to_string());
        mounts.mkdir(&format!("up{number}"));
        mounts.mkdir(&format!("mnt{number}"));
    }
    let mut children: Vec<_> = (0..4)
        .map(|number| {
            let options = format!("dirs=up{number}:low{number}");
            let mut command: Command = mounts.program(&["union", "-o", &options, &format!("mnt{number}")]);
            command.spawn().unwrap()
        })
        .collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(mounts.servers().len(), 4);
    for number in 0..4 {
        assert_eq!(mounts.read(&format!("mnt{number}/file")), number.to_string());
        let value: Value = mounts.inspect(format!("mnt{number}"));
        assert_eq!(value["Mountpoint"], mounts.text(&format!("mnt{number}")));
    }
    (0..4).for_each(|number| mounts.umount(&format!("mnt{number}")));
    mounts.assert_nothing_is_live();
}
