//! What a union must be to programs, one claim a test: attributes, content and what a copy-up costs.

use std::os::unix::fs::MetadataExt as _;

use layerctl::index::{Kind, Time};
use layerctl::union::{Caller, Errno, Ino, NewFile, SetAttr};

use super::layer_tree::LayerTree;
use super::tree_op::path;
use super::union_driver::ROOT_USER;
use super::union_session::Session;

/// 512-byte blocks that all files of the upper directory take.
fn upper_blocks(session: &Session) -> u64 {
    fn sum(dir: &std::path::Path) -> u64 {
        let entries = std::fs::read_dir(dir).expect("readdir").map(|entry| entry.expect("an entry"));
        entries.fold(0, |total, entry| {
            let meta = entry.metadata().expect("lstat");
            let below = if meta.is_dir() { sum(&entry.path()) } else { meta.blocks() };
            total + below
        })
    }
    sum(&session.fixture.upper())
}

#[test]
fn a_change_of_metadata_copies_no_data() {
    let content = vec![b'x'; 4 << 20];
    let layer = (0..4).fold(LayerTree::new(), |layer, number| layer.file(&format!("d/f{number}"), &content));
    let mut session = Session::over(&[layer]);
    session.chmod("d/f0", 0o600).expect("chmod");
    session.chown("d/f1", 7, 8).expect("chown");
    session.utimens("d/f2", Time { sec: 5, nsec: 6 }).expect("utimens");
    session.setxattr("d/f3", "user.a", b"b").expect("setxattr");
    let blocks = upper_blocks(&session);
    assert!(blocks * 512 < (content.len() / 25) as u64, "{blocks} blocks written");
    session.reopen();
    for name in ["d/f0", "d/f1", "d/f2", "d/f3"] {
        assert_eq!(session.stat(name).expect("stat").size, content.len() as u64);
        assert!(session.stat(name).expect("stat").blocks >= 8192, "st_blocks is that of the data");
    }
    let held = session.lookup("d/f1").expect("lookup");
    assert_eq!(session.tree().read(held.ino(), 4096, 10), Ok(vec![b'x'; 10]));
    drop(held);
    session.write("d/f1", 1, b"y").expect("write");
    session.reopen();
    let held = session.lookup("d/f1").expect("lookup");
    assert_eq!(session.tree().read(held.ino(), 0, 3), Ok(b"xyx".to_vec()));
    assert_eq!((session.fstat(&held).uid, session.fstat(&held).gid), (7, 8));
}

/// LAYERCTL_MODEL_SEED=276015542984815
#[test]
fn a_fallocate_that_fails_leaves_the_capabilities() {
    const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut session = Session::over(&[LayerTree::new().file("f", &[b'x'; 5000])]);
    session.setxattr("f", "security.capability", CAPABILITY).expect("setxattr");
    // FALLOC_FL_INSERT_RANGE at what is no whole block.
    assert!(session.fallocate("f", 0x20, 1, 1).is_err());
    assert_eq!(session.getxattr("f", "security.capability"), Ok(CAPABILITY.to_vec()));
    session.write("f", 0, b"y").expect("write");
    assert_eq!(session.getxattr("f", "security.capability"), Err(Errno::ENODATA));
}

#[test]
fn what_the_kernel_writes_late_leaves_the_capabilities() {
    let mut session = Session::over(&[LayerTree::new().file("f", b"content")]);
    let held = session.tree().lookup(&path("f")).expect("lookup");
    let ino = held.ino();
    session.setxattr("f", "security.capability", CAPABILITY).expect("setxattr");
    assert_eq!(session.union().write_gathered(ino, 3, b"late").untold(), Ok(4));
    assert_eq!(session.getxattr("f", "security.capability"), Ok(CAPABILITY.to_vec()));
    assert_eq!(session.union().write(ino, 3, b"now", None, layerctl::union::Times::Move).untold(), Ok(3));
    assert_eq!(session.getxattr("f", "security.capability"), Err(Errno::ENODATA));
    assert_eq!(session.union().write_gathered(ino, 0, b"late").untold(), Ok(4));
    assert_eq!(session.getxattr("f", "security.capability"), Err(Errno::ENODATA));
}

#[test]
fn a_rename_and_a_link_copy_no_data() {
    let content = vec![b'x'; 4 << 20];
    let mut session = Session::over(&[LayerTree::new().file("d/f", &content).file("g", &content)]);
    session.rename("d/f", "moved").expect("rename");
    session.link("g", "d/linked").expect("link");
    session.reopen();
    assert!(upper_blocks(&session) * 512 < (content.len() / 25) as u64);
    assert_eq!(session.stat("d/linked").expect("stat").nlink, 2);
    let held = session.lookup("moved").expect("lookup");
    assert_eq!(session.tree().read(held.ino(), (4 << 20) - 2, 9), Ok(b"xx".to_vec()));
}

#[test]
fn a_sparse_file_stays_sparse() {
    let layer = LayerTree::new().file_with("f", b"start", |item| item.size = 64 << 20);
    let mut session = Session::over(&[layer]);
    session.write("f", 32 << 20, b"middle").expect("write");
    assert!(upper_blocks(&session) * 512 < 1 << 20, "{} blocks", upper_blocks(&session));
    let held = session.lookup("f").expect("lookup");
    assert_eq!(session.fstat(&held).size, 64 << 20);
    assert!(session.fstat(&held).blocks * 512 < 1 << 20);
    assert_eq!(session.tree().read(held.ino(), (32 << 20) - 2, 5), Ok(b"\0\0mid".to_vec()));
    let data = session.union().lseek(held.ino(), 1 << 20, libc::SEEK_DATA).expect("SEEK_DATA");
    assert!(data > 1 << 20 && data <= 32 << 20, "{data}");
}

const ACL: &[u8] = &[
    2, 0, 0, 0, // version
    1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, // user::rw-
    2, 0, 7, 0, 9, 0, 0, 0, // user:9:rwx
    4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, // group::r--
    0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, // mask::rwx
    0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // other::---
];

#[test]
fn extended_attributes_and_acls_are_kept_by_a_copy_up() {
    let layer = LayerTree::new().file_with("f", b"1", |item| {
        item.mode = 0o670;
        item.xattrs.insert(b"user.a".to_vec(), b"1".to_vec());
        item.xattrs.insert(b"trusted.b".to_vec(), vec![0, 255]);
        item.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
        item.xattrs.insert(b"system.posix_acl_access".to_vec(), ACL.to_vec());
    });
    let mut session = Session::over(&[layer]);
    let before = session.snapshot().entries[&vec![b"f".to_vec()]].xattrs.clone();
    assert_eq!(before.len(), 4);
    session.chown("f", 1, 1).expect("chown");
    session.write("f", 0, b"2").expect("write");
    session.reopen();
    assert_eq!(session.snapshot().entries[&vec![b"f".to_vec()]].xattrs, before);
    session.chmod("f", 0o640).expect("chmod");
    let acl = session.getxattr("f", "system.posix_acl_access").expect("the ACL");
    assert_eq!(acl[4 + 3 * 8 + 2], 4, "chmod sets the mask");
}

#[test]
fn our_own_marks_are_not_visible_and_what_a_program_sets_is_none() {
    let mut session = Session::over(&[LayerTree::new().file("d/f", b"1").file("m/x", b"2")]);
    session.chmod("d/f", 0o600).expect("chmod");
    session.rename("m", "n").expect("rename");
    let marks = ["trusted.layerctl.origin", "trusted.layerctl.x", "user.layerctl.metacopy"];
    for mark in marks {
        assert_eq!(session.getxattr("n", mark), Err(Errno::ENODATA), "{mark}");
        let held = session.lookup("n").expect("lookup");
        let removed = session.union().removexattr(held.ino(), mark.as_bytes()).untold();
        assert_eq!(removed, Err(Errno::ENODATA), "{mark}");
    }
    session.reopen();
    let snapshot = session.snapshot();
    assert!(snapshot.entries.values().all(|entry| entry.xattrs.is_empty()), "no mark is listed");
    for mark in marks {
        assert_eq!(session.setxattr("d/f", mark, b"x"), Ok(()), "{mark}");
        assert_eq!(session.setxattr("n", mark, b"0.0.1"), Ok(()), "{mark}");
    }
    session.reopen();
    assert_eq!(session.read("d/f"), Ok(b"1".to_vec()));
    assert_eq!(session.read("n/x"), Ok(b"2".to_vec()));
    for mark in marks {
        assert_eq!(session.getxattr("d/f", mark), Ok(b"x".to_vec()), "{mark}");
        let held = session.lookup("n").expect("lookup");
        assert_eq!(session.union().removexattr(held.ino(), mark.as_bytes()).untold(), Ok(()), "{mark}");
    }
    assert_eq!(session.snapshot().entries[&vec![b"n".to_vec()]].xattrs.len(), 0);
}

#[test]
fn a_mark_cannot_be_forged_from_a_layer() {
    let layer = LayerTree::new().dir("secret", 0o755).file("secret/f", b"secret").file_with("f", b"1", |item| {
        item.xattrs.insert(b"trusted.layerctl.redirect".to_vec(), b"/secret".to_vec());
        item.xattrs.insert(b"trusted.layerctl.metacopy".to_vec(), b"/secret/f".to_vec());
        item.xattrs.insert(b"user.layerctl.origin".to_vec(), vec![0; 16]);
    });
    let mut session = Session::over(&[layer]);
    assert_eq!(session.read("f"), Ok(b"1".to_vec()));
    let before = session.snapshot().entries[&vec![b"f".to_vec()]].xattrs.clone();
    assert_eq!(before.len(), 3);
    session.chmod("f", 0o600).expect("chmod");
    session.reopen();
    assert_eq!(session.read("f"), Ok(b"1".to_vec()));
    assert_eq!(session.snapshot().entries[&vec![b"f".to_vec()]].xattrs, before);
}

#[test]
fn a_set_group_id_directory_hands_on_group_and_bit() {
    let layer = LayerTree::new().dir("d", 0o755);
    let mut session = Session::over(&[layer]);
    session.chown("d", 0, 50).expect("chown");
    session.chmod("d", 0o2775).expect("chmod");
    session.mkdir("d/sub", 0o755).expect("mkdir");
    session.create("d/f", 0o644).expect("create");
    let (sub, file) = (session.stat("d/sub").expect("stat"), session.stat("d/f").expect("stat"));
    assert_eq!((sub.gid, sub.mode, file.gid, file.mode), (50, 0o2755, 50, 0o644));
    let dir = session.ino("d");
    let caller = Caller { uid: 5, gid: 6, process: None };
    let made = session.union().symlink(dir, b"s", b"t", caller).expect("symlink");
    assert_eq!((made.uid, made.gid), (5, 50));
    drop(session.tree().held(made));
    let new = NewFile { kind: Kind::File, mode: 0o644, umask: 0o022, rdev: (0, 0) };
    let made = session.union().create(Ino::ROOT, b"mine", new, caller).expect("create");
    assert_eq!((made.uid, made.gid), (5, 6), "a new file is its maker's");
    drop(session.tree().held(made));
}

#[test]
fn the_umask_counts_and_a_default_acl_takes_its_place() {
    let layer = LayerTree::new().dir("acl", 0o755).dir("plain", 0o755);
    let mut session = Session::over(&[layer]);
    session.setxattr("acl", "system.posix_acl_default", ACL).expect("setxattr");
    let new = NewFile { kind: Kind::File, mode: 0o666, umask: 0o027, rdev: (0, 0) };
    for (dir, mode, has_acl) in [("plain", 0o640, false), ("acl", 0o660, true)] {
        let held = session.lookup(dir).expect("lookup");
        let made = session.union().create(held.ino(), b"f", new, ROOT_USER).expect("create");
        assert_eq!(made.mode, mode, "{dir}");
        drop(session.tree().held(made));
        assert_eq!(session.getxattr(&format!("{dir}/f"), "system.posix_acl_access").is_ok(), has_acl, "{dir}");
        let made = session.union().mkdir(held.ino(), b"sub", 0o777, 0o027, ROOT_USER).expect("mkdir");
        drop(session.tree().held(made));
        let handed_on = session.getxattr(&format!("{dir}/sub"), "system.posix_acl_default");
        assert_eq!(handed_on.is_ok(), has_acl, "{dir}");
    }
}

/// `cap_net_raw=ep`, `VFS_CAP_REVISION_2`.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn suid_sgid_and_capabilities_are_cleared_as_the_kernel_does() {
    let user = Caller { uid: 1000, gid: 1000, process: Some(0) };
    let names = ["write", "truncate", "chown", "fallocate", "root"];
    let layer = names.iter().fold(LayerTree::new(), |layer, name| {
        layer.file_with(name, b"content", |item| {
            item.mode = 0o6755;
            item.xattrs.insert(b"security.capability".to_vec(), CAPABILITY.to_vec());
        })
    });
    let mut session = Session::over(&[layer]);
    session.chmod("write", 0o6755).expect("chmod");
    // As the kernel does: an inode that nothing refers to is not written to.
    let held = session.lookup("write").expect("lookup");
    assert_eq!(session.getxattr("write", "security.capability"), Ok(CAPABILITY.to_vec()), "kept by a copy-up");
    session.union().write(held.ino(), 0, b"x", Some(user), layerctl::union::Times::Move).untold().expect("write");
    let set = SetAttr { size: Some(3), ..SetAttr::default() };
    session.union().setattr(session.ino("truncate"), &set, user).untold().expect("truncate");
    session.chown("chown", 3, 4).expect("chown");
    session
        .union()
        .fallocate(session.ino("fallocate"), 0, 100, 0, user, layerctl::union::Times::Move)
        .untold()
        .expect("fallocate");
    session.write("root", 0, b"x").expect("write");
    for name in names {
        let mode = if name == "root" { 0o6755 } else { 0o755 };
        assert_eq!(session.stat(name).expect("stat").mode, mode, "{name}");
        assert_eq!(session.getxattr(name, "security.capability"), Err(Errno::ENODATA), "{name}");
    }
}

#[test]
fn mtime_moves_exactly_when_it_must() {
    let layer = LayerTree::new().file("d/f", b"1").file("d/g", b"2").dir("e", 0o755).dir("d/s", 0o755);
    let mut session = Session::over(&[layer]);
    let old = ["", "d", "d/f", "d/g", "e", "d/s"];
    for name in old {
        session.age(name);
    }
    session.chmod("d/f", 0o600).expect("chmod");
    assert!(old.iter().all(|name| !session.is_new(name)), "chmod moves no mtime");
    session.write("d/f", 0, b"x").expect("write");
    assert!(session.is_new("d/f") && !session.is_new("d"), "a write moves that of the file only");
    session.rename("d/s", "e/s").expect("rename");
    assert!(session.is_new("d") && session.is_new("e") && !session.is_new("e/s"), "a rename moves both parents'");
    session.age("d");
    session.link("d/g", "d/h").expect("link");
    assert!(session.is_new("d") && !session.is_new("d/g"), "a link moves its directory's");
    session.age("d");
    session.unlink("d/g").expect("unlink");
    assert!(session.is_new("d") && !session.is_new("d/h") && !session.is_new(""));
    session.reopen();
}

#[test]
fn ctime_moves_with_every_change() {
    type Step = (&'static str, fn(&mut Session));
    let mut session = Session::over(&[LayerTree::new().file("f", b"1")]);
    let ctime = |session: &Session| session.stat("f").expect("stat").ctime;
    let steps: [Step; 5] = [
        ("chmod", |session| session.chmod("f", 0o600).expect("chmod")),
        ("chown", |session| session.chown("f", 1, 1).expect("chown")),
        ("utimens", |session| session.utimens("f", Time { sec: 1, nsec: 0 }).expect("utimens")),
        ("link", |session| session.link("f", "g").expect("link")),
        ("write", |session| session.write("f", 0, b"2").expect("write")),
    ];
    for (what, step) in steps {
        let before = ctime(&session);
        super::file_clock::moves_on();
        step(&mut session);
        assert!(ctime(&session) > before, "{what}");
    }
}

#[test]
fn reading_moves_no_access_time() {
    let mut session = Session::over(&[LayerTree::new().file("d/low", b"1").file("d/up", b"2")]);
    session.write("d/up", 0, b"3").expect("write");
    for name in ["d/low", "d/up", "d"] {
        session.age(name);
        let before = session.stat(name).expect("stat").atime;
        session.read("d/low").expect("read");
        session.read("d/up").expect("read");
        session.names("d");
        assert_eq!(session.stat(name).expect("stat").atime, before, "{name}");
    }
}
