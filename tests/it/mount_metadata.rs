//! Attributes through real mounts, each as in a plain directory beside it.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, SeekFrom, XattrFlags, ftruncate, getxattr, linkat, listxattr,
    makedev, mkdirat, mknodat, openat, removexattr, renameat, renameat_with, seek, setxattr, symlinkat, unlinkat,
};
use rustix::io::{Errno, Result, pwrite};
use rustix::process::Uid;

use super::beside::{Beside, as_user, blocks, forget, tree};
use super::mounts::Mounts;
use super::root_fs::{add, finish};

/// `cap_net_raw=ep`, `VFS_CAP_REVISION_2`.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn directory(dir: &Path) -> OwnedFd {
    File::open(dir).unwrap().into()
}

fn value(path: &Path, name: &str) -> Result<Vec<u8>> {
    let mut value = vec![0; 512];
    let length = getxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn xattr_names(path: &Path) -> Vec<String> {
    let mut buffer = vec![0; 4096];
    let length = listxattr(path, &mut buffer[..]).unwrap();
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
    names.sort();
    names
}

#[test]
fn chown_of_a_whole_tree_copies_no_data() {
    const COUNT: u64 = 200;
    let (mounts, content) = (Mounts::new(), vec![b'x'; 1 << 20]);
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..COUNT {
        add(&mut tar, &format!("d{}/f{number}", number % 10), 0o644, Some(&content));
    }
    mounts.import("big", &finish(tar));
    let container = mounts.mount(&["--name", "box", "big"]);
    let layers = || blocks(&mounts.at("store")) * 512;
    let before = layers();
    mounts.shell(&format!("chown -R 7:8 {}", container.mountpoint.display())).ok();
    let written = layers() - before;
    assert!(written > 0 && written < COUNT * (content.len() as u64) / 100, "{written} bytes");
    for number in [0, COUNT - 1] {
        let path = container.mountpoint.join(format!("d{}/f{number}", number % 10));
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.len()), (7, 8, 1 << 20));
        assert!(fs::read(path).unwrap() == content);
    }
    mounts.umount("box");
}

#[test]
fn what_is_sparse_stays_sparse() {
    let beside = Beside::over(&[&|dir| {
        let file = File::create(dir.join("f")).unwrap();
        file.write_all_at(&[b'a'; 4096], 0).unwrap();
        file.write_all_at(&[b'b'; 4096], 20 << 20).unwrap();
        file.set_len(64 << 20).unwrap();
    }]);
    let map = |dir: &Path| {
        let file = File::options().read(true).write(true).open(dir.join("f")).unwrap();
        let mut at = 0;
        let mut found = Vec::new();
        while let Ok(data) = seek(&file, SeekFrom::Data(at)) {
            at = seek(&file, SeekFrom::Hole(data)).unwrap();
            found.push((data, at));
        }
        (found, seek(&file, SeekFrom::Data(64 << 20)), seek(&file, SeekFrom::Hole(1 << 20)))
    };
    beside.same(map);
    beside.same(|dir| {
        let file = File::options().write(true).open(dir.join("f")).unwrap();
        file.write_all_at(&[b'c'; 4096], 40 << 20).unwrap();
        file.sync_all().unwrap();
    });
    beside.same(map);
    let taken = beside.both(|dir| fs::metadata(dir.join("f")).unwrap().blocks());
    assert!(taken * 512 < 1 << 20);
    assert!(blocks(&beside.mounts.at("upper")) * 512 < 1 << 20);
}

#[test]
fn extended_attributes_of_every_namespace_are_those_of_a_plain_file() {
    let acl: Vec<u8> = [
        [2, 0, 0, 0].to_vec(),
        [1, 0, 6, 0, 255, 255, 255, 255].to_vec(),
        [2, 0, 7, 0, 9, 0, 0, 0].to_vec(),
        [4, 0, 4, 0, 255, 255, 255, 255].to_vec(),
        [0x10, 0, 7, 0, 255, 255, 255, 255].to_vec(),
        [0x20, 0, 0, 0, 255, 255, 255, 255].to_vec(),
    ]
    .concat();
    let names = ["user.a", "trusted.b", "security.c", "system.posix_acl_access"];
    let content = |name: &str| {
        if name.starts_with("system") { acl.clone() } else { b"one".to_vec() }
    };
    let beside = Beside::over(&[&|dir| {
        for file in ["had", "bare"] {
            fs::write(dir.join(file), "content").unwrap();
        }
        names.iter().for_each(|name| {
            setxattr(dir.join("had"), *name, &content(name), XattrFlags::empty()).unwrap();
        });
    }]);
    let look = |dir: &Path| {
        ["had", "bare"].map(|file| {
            let path = dir.join(file);
            let values = names.map(|name| value(&path, name));
            (xattr_names(&path), values, fs::metadata(&path).unwrap().mode())
        })
    };
    beside.same(look);
    for name in names {
        beside.same(|dir| {
            let set = |file: &str, flags| setxattr(dir.join(file), name, &content(name), flags);
            let mut short = [0; 2];
            [
                getxattr(dir.join("had"), name, &mut short[..]).map(|_| ()),
                set("had", XattrFlags::CREATE),
                set("had", XattrFlags::REPLACE),
                set("bare", XattrFlags::REPLACE),
                set("bare", XattrFlags::CREATE),
                removexattr(dir.join("had"), name),
                removexattr(dir.join("had"), name),
                set("had", XattrFlags::empty()),
            ]
        });
        beside.same(look);
    }
    // The mode and the list are two views of one thing.
    beside.same(|dir| fs::set_permissions(dir.join("had"), fs::Permissions::from_mode(0o640)).unwrap());
    beside.same(look);
    beside.same(|dir| fs::write(dir.join("had"), "copied up").unwrap());
    beside.same(look);
    forget();
    beside.same(look);
    beside.mount_again();
    beside.same(look);
    let other = beside.both(|dir| setxattr(dir.join("had"), "other.x", b"1", XattrFlags::empty()));
    assert_eq!(other, Err(Errno::OPNOTSUPP));
}

#[test]
fn capabilities_go_with_what_takes_them_away_and_nothing_else() {
    type Step = fn(&Path) -> Result<()>;
    let steps: &[(&str, bool, Step)] = &[
        ("chmod", true, |path| rustix::fs::chmod(path, Mode::from_raw_mode(0o700))),
        ("utimes", true, |path| File::open(path).unwrap().set_modified(std::time::UNIX_EPOCH).map_err(|_| Errno::IO)),
        ("xattr", true, |path| setxattr(path, "user.a", b"1", XattrFlags::empty())),
        ("link", true, |path| rustix::fs::link(path, path.with_extension("linked"))),
        ("rename", true, |path| {
            rustix::fs::rename(path, path.with_extension("moved"))?;
            rustix::fs::rename(path.with_extension("moved"), path)
        }),
        ("chown", false, |path| rustix::fs::chown(path, Some(Uid::from_raw(3)), None)),
        ("write", false, |path| pwrite(File::options().write(true).open(path).unwrap(), b"x", 0).map(|_| ())),
        ("truncate", false, |path| ftruncate(File::options().write(true).open(path).unwrap(), 3)),
        ("open-truncate", false, |path| File::create(path).map(|_| ()).map_err(|_| Errno::IO)),
    ];
    let beside = Beside::over(&[&|dir| {
        for (name, ..) in steps {
            fs::write(dir.join(name), "content").unwrap();
            setxattr(dir.join(name), "security.capability", CAPABILITY, XattrFlags::empty()).unwrap();
        }
    }]);
    for (name, kept, step) in steps {
        beside.same(|dir| step(&dir.join(name)).unwrap());
        let now = beside.both(|dir| value(&dir.join(name), "security.capability").is_ok());
        assert_eq!(now, *kept, "{name}");
    }
    beside.mount_again();
    for (name, kept, _) in steps {
        assert_eq!(beside.both(|dir| value(&dir.join(name), "security.capability").is_ok()), *kept, "{name}");
    }
}

#[test]
fn set_group_id_and_sticky_directories_are_those_of_a_plain_directory() {
    let beside = Beside::over(&[&|dir| {
        for (name, gid, mode) in [("sgid", 50, 0o2777), ("sticky", 0, 0o1777), ("plain", 50, 0o777)] {
            fs::create_dir(dir.join(name)).unwrap();
            for (file, owner) in [("theirs", 70), ("mine", 60)] {
                fs::write(dir.join(name).join(file), "").unwrap();
                chown(dir.join(name).join(file), Some(owner), Some(owner)).unwrap();
            }
            chown(dir.join(name), Some(0), Some(gid)).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }]);
    for name in ["sgid", "sticky", "plain"] {
        let results = beside.both(|dir| {
            let dir = directory(&dir.join(name));
            as_user(60, 60, || {
                let dir = dir.as_fd();
                let file = |name: &str, mode| {
                    openat(dir, name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, Mode::from_raw_mode(mode))
                        .map(|_| ())
                };
                vec![
                    file("f", 0o666),
                    file("f2", 0o6777),
                    mkdirat(dir, "d", Mode::from_raw_mode(0o755)),
                    mkdirat(dir, "d2", Mode::from_raw_mode(0o2755)),
                    symlinkat("x", dir, "s"),
                    mknodat(dir, "fifo", FileType::Fifo, Mode::from_raw_mode(0o666), 0),
                    rustix::fs::chmodat(dir, "f", Mode::from_raw_mode(0o2755), AtFlags::empty()),
                    renameat(dir, "theirs", dir, "taken"),
                    renameat(dir, "f2", dir, "theirs"),
                    renameat_with(dir, "mine", dir, "theirs", RenameFlags::EXCHANGE),
                    unlinkat(dir, "theirs", AtFlags::empty()),
                    unlinkat(dir, "mine", AtFlags::empty()),
                    linkat(dir, "f", dir, "l", AtFlags::empty()),
                ]
            })
        });
        assert_eq!(results.contains(&Err(Errno::PERM)), name == "sticky", "{results:?}");
    }
    beside.assert_same_trees();
}

#[test]
fn the_unions_own_marks_are_nobody_elses() {
    let forged =
        ["trusted.layerctl.redirect", "trusted.layerctl.metacopy", "trusted.layerctl.origin", "user.layerctl.x"];
    let mounts = Mounts::new();
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["f", "d/f", "secret/f"] {
        let keys = forged.map(|mark| format!("SCHILY.xattr.{mark}"));
        tar.append_pax_extensions(keys.iter().map(|key| (&**key, &b"/secret"[..]))).unwrap();
        add(&mut tar, name, 0o644, Some(name.as_bytes()));
    }
    mounts.import("forged", &finish(tar));
    let container = mounts.mount(&["--name", "box", "forged"]);
    let at = |path: &str| container.mountpoint.join(path);
    let check = |dir: &str| {
        for path in ["", "f", dir, &format!("{dir}/f"), "secret", "secret/f"] {
            // What the tar has of them is shown, and is of no effect; what the union has is not.
            let is_forged = path.ends_with('f');
            let mut names = if is_forged { forged.to_vec() } else { Vec::new() };
            names.sort_unstable();
            assert_eq!(xattr_names(&at(path)), names, "{path}");
            for mark in forged {
                let path = at(path);
                let found = value(&path, mark);
                assert_eq!(found, if is_forged { Ok(b"/secret".to_vec()) } else { Err(Errno::NODATA) }, "{mark}");
                if !is_forged {
                    setxattr(&path, mark, b"/secret", XattrFlags::empty()).unwrap();
                    assert_eq!(removexattr(&path, mark), Ok(()), "{mark}");
                }
            }
        }
        assert_eq!([fs::read(at("f")).unwrap(), fs::read(at(dir).join("f")).unwrap()], [&b"f"[..], b"d/f"]);
    };
    check("d");
    // Marks of every kind come to be.
    fs::rename(at("d"), at("e")).unwrap();
    fs::set_permissions(at("f"), fs::Permissions::from_mode(0o600)).unwrap();
    check("e");
    mounts.umount("box");
    mounts.mount(&["--name", "box"]);
    check("e");
    mounts.umount("box");
}

#[test]
fn a_container_may_have_a_device_0_0_and_leave_one_behind() {
    let beside = Beside::over(&[&|dir| {
        fs::write(dir.join("f"), "f").unwrap();
        fs::write(dir.join("g"), "g").unwrap();
    }]);
    beside.same(|dir| {
        let null = |name: &str| {
            mknodat(CWD, dir.join(name), FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(0, 0)).unwrap();
        };
        null("made");
        fs::remove_file(dir.join("g")).unwrap();
        null("g");
        renameat_with(CWD, dir.join("f"), CWD, dir.join("moved"), RenameFlags::WHITEOUT).unwrap();
    });
    beside.assert_same_trees();
    let left = fs::symlink_metadata(beside.mnt("f")).unwrap();
    assert!(left.file_type().is_char_device());
    assert_eq!((left.rdev(), beside.mounts.read("mnt/moved")), (0, "f".to_owned()));
}

#[test]
fn the_servers_umask_is_nowhere_seen() {
    let beside = Beside::over(&[&|dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/f"), "low").unwrap();
        fs::set_permissions(dir.join("d"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(dir.join("d/f"), fs::Permissions::from_mode(0o666)).unwrap();
    }]);
    beside.mounts.umount("mnt");
    beside.mounts.shell("umask 077; $L union -o dirs=upper:lower0 mnt").ok();
    let make = "umask 022; cd \"$1\"; : >new; mkdir made; mkfifo fifo; mkdir -m 777 all; : >d/new; echo >>d/f";
    beside.same(|dir| {
        let status = std::process::Command::new("sh").args(["-c", make, "sh"]).arg(dir).status();
        assert!(status.unwrap().success());
    });
    beside.same(tree);
    assert_eq!(fs::metadata(beside.mnt("new")).unwrap().mode() & 0o777, 0o644);
    beside.assert_same_trees();
}
