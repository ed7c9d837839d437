//! What a union must be to programs, one claim a test: names, paths and directory streams.

use layerctl::index::Kind;
use layerctl::union::{Errno, FsResult, Ino, NewFile, RenameMode};

use super::layer_tree::LayerTree;
use super::union_driver::ROOT_USER;
use super::union_session::Session;

const FILE: NewFile = NewFile { kind: Kind::File, mode: 0o644, umask: 0, rdev: (0, 0) };

fn long(byte: u8, length: usize) -> String {
    String::from_utf8(vec![byte; length]).expect("ASCII")
}

#[test]
fn a_255_byte_lower_name_can_be_removed_and_stays_removed() {
    let (file, dir, kept) = (long(b'f', 255), long(b'd', 255), long(b'k', 252));
    let mut session =
        Session::over(&[LayerTree::new().file(&file, b"1").file(&format!("{dir}/in"), b"2").file(&kept, b"3")]);
    session.unlink(&file).expect("unlink");
    session.unlink(format!("{dir}/in")).expect("unlink");
    session.rmdir(&dir).expect("rmdir");
    session.reopen();
    assert_eq!(session.names(""), std::slice::from_ref(&kept));
    session.put(&file, b"again");
    session.unlink(&kept).expect("unlink");
    session.reopen();
    assert_eq!(session.read(&file), Ok(b"again".to_vec()));
    assert_eq!(session.names(""), [file]);
}

#[test]
fn a_255_byte_lower_directory_can_be_renamed() {
    let (old, new) = (long(b'o', 255), long(b'n', 255));
    let mut session = Session::over(&[LayerTree::new().file(&format!("{old}/in"), b"2")]);
    session.rename(&old, &new).expect("rename");
    session.reopen();
    assert_eq!(session.names(""), std::slice::from_ref(&new));
    assert_eq!(session.read(&format!("{new}/in")), Ok(b"2".to_vec()));
}

/// Every operation that takes a name, each on `name`.
fn each_operation(session: &Session, name: &[u8]) -> Vec<(&'static str, FsResult<()>)> {
    let (union, root) = (session.union(), Ino::ROOT);
    let file = session.lookup("file").expect("lookup");
    vec![
        ("create", union.create(root, name, FILE, ROOT_USER).map(drop)),
        ("mknod", union.create(root, name, NewFile { kind: Kind::Fifo, ..FILE }, ROOT_USER).map(drop)),
        ("mkdir", union.mkdir(root, name, 0o755, 0, ROOT_USER).map(drop)),
        ("symlink", union.symlink(root, name, b"target", ROOT_USER).map(drop)),
        ("link", union.link(file.ino(), root, name).map(drop)),
        ("rename to", union.rename((root, b"file"), (root, name), RenameMode::Replace)),
    ]
}

#[test]
fn names_that_say_whiteout_are_refused() {
    let mut session = Session::over(&[LayerTree::new().file("file", b"1").file("gone", b"2")]);
    session.unlink("gone").expect("unlink");
    for name in [&b".wh.x"[..], b".wh.", b".wh.gone", b".wh..wh..opq", b".wh..wh.plnk", b".wh..wh.aufs"] {
        for (what, result) in each_operation(&session, name) {
            assert_eq!(result, Err(Errno::EPERM), "{what} of {}", name.escape_ascii());
        }
        assert_eq!(session.stat(name), Err(Errno::ENOENT), "{}", name.escape_ascii());
    }
    session.put(".wh", b"an ordinary name");
    session.put("a.wh.b", b"another");
    session.reopen();
    assert_eq!(session.names(""), [".wh", "a.wh.b", "file"]);
}

#[test]
fn a_256_byte_name_is_too_long_for_every_operation() {
    let session = Session::over(&[LayerTree::new().file("file", b"1")]);
    let name = long(b'n', 256);
    for (what, result) in each_operation(&session, name.as_bytes()) {
        assert_eq!(result, Err(Errno::ENAMETOOLONG), "{what}");
    }
    let (union, root, name) = (session.union(), Ino::ROOT, name.as_bytes());
    assert_eq!(union.lookup(root, name).map(drop), Err(Errno::ENAMETOOLONG));
    assert_eq!(union.unlink(root, name), Err(Errno::ENAMETOOLONG));
    assert_eq!(union.rmdir(root, name), Err(Errno::ENAMETOOLONG));
    assert_eq!(union.rename((root, name), (root, b"x"), RenameMode::Replace), Err(Errno::ENAMETOOLONG));
    assert_eq!(session.names(""), ["file"]);
}

#[test]
fn a_name_may_hold_any_byte() {
    let mut session = Session::empty();
    let names: Vec<Vec<u8>> = (1..=255u8).filter(|byte| *byte != b'/').map(|byte| vec![b'x', byte, b'y']).collect();
    for name in &names {
        let made = session.union().create(Ino::ROOT, name, FILE, ROOT_USER).expect("create");
        drop(session.tree().held(made));
    }
    session.reopen();
    for name in &names {
        assert!(session.stat(name).is_ok(), "{}", name.escape_ascii());
        session.unlink(name).expect("unlink");
    }
    assert!(session.names("").is_empty());
}

#[test]
fn paths_longer_than_path_max_work() {
    let mut session = Session::over(&[LayerTree::new().file("low/f", b"1")]);
    let name = long(b'p', 200);
    let mut deep = String::from("low");
    for _ in 0..30 {
        deep = format!("{deep}/{name}");
        session.mkdir(&deep, 0o755).expect("mkdir");
    }
    assert!(deep.len() > 4096);
    session.put(&format!("{deep}/f"), b"deep");
    session.rename("low", "moved").expect("rename of a merged directory");
    let deep = deep.replacen("low", "moved", 1);
    session.reopen();
    assert_eq!(session.read(&format!("{deep}/f")), Ok(b"deep".to_vec()));
    session.rename(&format!("{deep}/f"), "f").expect("rename");
    session.link("f", &format!("{deep}/g")).expect("link");
    session.reopen();
    assert_eq!(session.stat("f").expect("stat").nlink, 2);
    let mut at = deep.as_str();
    session.unlink(format!("{deep}/g")).expect("unlink");
    while let Some((parent, _)) = at.rsplit_once('/') {
        session.rmdir(at).expect("rmdir");
        at = parent;
    }
    assert_eq!(session.names("moved"), ["f"]);
}

#[test]
fn a_deep_lower_directory_can_be_changed() {
    let name = long(b'p', 200);
    let deep = vec![name; 19].join("/");
    let mut session = Session::over(&[LayerTree::new().file(&format!("{deep}/f"), b"1")]);
    session.rename(&format!("{deep}/f"), &format!("{deep}/g")).expect("rename");
    session.write(&format!("{deep}/g"), 0, b"2").expect("write");
    session.reopen();
    assert_eq!(session.read(&format!("{deep}/g")), Ok(b"2".to_vec()));
}

/// Takes up to `count` names from `offset` on; says where to go on.
fn some_names(session: &Session, dir: Ino, offset: u64, count: usize) -> (Vec<(String, u64)>, u64) {
    let (mut names, mut next) = (Vec::new(), offset);
    let take = &mut |entry: &layerctl::union::DirEntry<'_>| {
        if names.len() == count {
            return false;
        }
        next = entry.next;
        names.push((entry.name.escape_ascii().to_string(), entry.next));
        true
    };
    session.union().readdir(dir, offset, false, take).expect("readdir");
    (names, next)
}

#[test]
fn a_directory_stream_stays_valid_while_entries_come_and_go() {
    let low = (0..40).fold(LayerTree::new(), |layer, number| layer.file(&format!("d/low{number:02}"), b""));
    let top = (0..40).fold(LayerTree::new(), |layer, number| layer.file(&format!("d/top{number:02}"), b""));
    let mut session = Session::over(&[low, top]);
    for number in 0..40 {
        session.create(&format!("d/up{number:02}"), 0o644).expect("create");
    }
    let dir = session.lookup("d").expect("lookup");
    let stay: Vec<String> = session.names("d").into_iter().filter(|name| !name.ends_with('5')).collect();
    let (first, mut offset) = some_names(&session, dir.ino(), 0, 30);
    let mut seen: Vec<String> = first.iter().map(|(name, _)| name.clone()).collect();
    for name in session.names("d").into_iter().filter(|name| name.ends_with('5')) {
        session.unlink(format!("d/{name}")).expect("unlink");
    }
    for number in 0..50 {
        session.create(&format!("d/new{number:02}"), 0o644).expect("create");
        session.rename(&format!("d/new{number:02}"), &format!("d/renamed{number:02}")).expect("rename");
    }
    loop {
        let (names, next) = some_names(&session, dir.ino(), offset, 7);
        if names.is_empty() {
            break;
        }
        seen.extend(names.into_iter().map(|(name, _)| name));
        offset = next;
    }
    for name in &stay {
        assert_eq!(seen.iter().filter(|other| *other == name).count(), 1, "{name} is seen exactly once");
    }
    for (position, (name, next)) in first.iter().enumerate().take(29) {
        let (again, _) = some_names(&session, dir.ino(), *next, 1);
        let expected = first[position + 1..].iter().find(|(name, _)| !name.ends_with('5'));
        if let (Some((expected, _)), Some((found, _))) = (expected, again.first()) {
            assert_eq!(found, expected, "after {name}");
        }
    }
}

#[test]
fn removing_all_that_a_stream_gives_empties_the_directory() {
    let low = (0..500).fold(LayerTree::new(), |layer, number| layer.file(&format!("d/low{number:03}"), b""));
    let mut session = Session::over(&[low]);
    for number in 0..500 {
        session.create(&format!("d/up{number:03}"), 0o644).expect("create");
    }
    let dir = session.lookup("d").expect("lookup");
    let mut offset = 0;
    loop {
        let (names, next) = some_names(&session, dir.ino(), offset, 13);
        for (name, _) in names.iter().filter(|(name, _)| name != "." && name != "..") {
            session.unlink(format!("d/{name}")).expect("unlink");
        }
        if names.is_empty() {
            break;
        }
        offset = next;
    }
    session.rmdir("d").expect("rmdir");
}
