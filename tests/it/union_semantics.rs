//! What a union must be to programs, one claim a test: files and their names.

use layerctl::index::Kind;
use layerctl::union::{Errno, Ino, NewFile, RenameMode};

use super::layer_tree::LayerTree;
use super::tree_op::path;
use super::tree_snapshot::Snapshot;
use super::union_driver::ROOT_USER;
use super::union_session::Session;

#[test]
fn hard_links_of_a_lower_file_stay_one_file_through_all_names() {
    let layer =
        LayerTree::new().dir("d", 0o755).dir("e", 0o755).file("d/a", b"lower").link("d/b", "d/a").link("e/c", "d/a");
    let mut session = Session::over(&[layer]);
    session.write("d/b", 0, b"L").expect("write");
    for name in ["d/a", "d/b", "e/c"] {
        assert_eq!(session.read(name), Ok(b"Lower".to_vec()), "{name}");
    }
    session.chmod("e/c", 0o600).expect("chmod");
    session.setxattr("d/a", "user.x", b"1").expect("setxattr");
    session.reopen();
    session.truncate("d/a", 2).expect("truncate");
    for name in ["d/a", "d/b", "e/c"] {
        assert_eq!(session.read(name), Ok(b"Lo".to_vec()), "{name}");
        assert_eq!(session.getxattr(name, "user.x"), Ok(b"1".to_vec()), "{name}");
        let attr = session.stat(name).expect("stat");
        assert_eq!((attr.mode, attr.nlink, attr.ino), (0o600, 3, session.ino("d/a")), "{name}");
    }
}

#[test]
fn a_changed_hard_link_group_is_one_upper_file_with_all_visible_names() {
    let layer =
        LayerTree::new().dir("d", 0o755).dir("e", 0o755).file("d/a", b"lower").link("d/b", "d/a").link("e/c", "d/a");
    let mut session = Session::over(&[layer]);
    session.unlink("d/b").expect("unlink");
    session.write("e/c", 0, b"U").expect("write");
    let upper = session.fixture.upper();
    session.close();
    let snapshot = Snapshot::of_plain(&upper);
    let number = |name: &str| snapshot.inodes.get(&path(name)).copied();
    assert!(number("d/a").is_some(), "every visible name is in the rw layer");
    assert_eq!(number("d/a"), number("e/c"));
    assert_eq!(snapshot.entries[&path("d/a")].content, b"Uower");
    assert_eq!(number("d/b"), None);
}

#[test]
fn nlink_is_exact_on_the_first_lookup() {
    let hidden = LayerTree::new().dir("d", 0o755).whiteout("d/b").file("d/f", b"other");
    let session = Session::over(&[linked_low(), hidden]);
    assert_eq!(session.stat("d/a").expect("stat").nlink, 2, "d/b is hidden");
    assert_eq!(session.stat("d").expect("stat").nlink, 2 + 1, "one subdirectory, d/s");
    assert_eq!(session.stat("").expect("stat").nlink, 2 + 2);
    drop(session);
    let mut session = Session::over(&[linked_low()]);
    session.unlink("e/c").expect("unlink");
    session.reopen();
    assert_eq!(session.stat("d/b").expect("stat").nlink, 2);
}

fn linked_low() -> LayerTree {
    LayerTree::new()
        .dir("d", 0o755)
        .dir("d/s", 0o755)
        .dir("e", 0o755)
        .file("d/a", b"1")
        .link("d/b", "d/a")
        .link("e/c", "d/a")
}

#[test]
fn a_number_stays_through_copy_up_rename_link_and_opening_again() {
    let mut session = Session::over(&[LayerTree::new().file("d/a", b"1").file("d/b", b"2")]);
    let (a, b, d) = (session.ino("d/a"), session.ino("d/b"), session.ino("d"));
    session.write("d/a", 0, b"x").expect("write");
    session.chmod("d/b", 0o600).expect("chmod");
    assert_eq!((session.ino("d/a"), session.ino("d/b")), (a, b));
    session.rename("d/a", "z").expect("rename");
    session.link("z", "d/y").expect("link");
    session.rename("d", "moved").expect("rename");
    session.put("d", b"new");
    for _ in 0..2 {
        assert_eq!(
            (session.ino("z"), session.ino("moved/y"), session.ino("moved/b"), session.ino("moved")),
            (a, a, b, d)
        );
        assert!(![a, b, d].contains(&session.ino("d")));
        session.reopen();
    }
}

#[test]
fn what_was_looked_up_before_a_copy_up_reads_what_is_written_later() {
    let mut session = Session::over(&[LayerTree::new().file("f", b"lower content")]);
    let open = session.lookup("f").expect("lookup");
    assert_eq!(session.tree().read(open.ino(), 0, 100), Ok(b"lower content".to_vec()));
    session.write("f", 0, b"UPPER").expect("write");
    assert_eq!(session.tree().read(open.ino(), 0, 100), Ok(b"UPPER content".to_vec()));
    session.union().write(open.ino(), 13, b"!", None, layerctl::union::Times::Move).untold().expect("write");
    assert_eq!(session.read("f"), Ok(b"UPPER content!".to_vec()));
}

fn two_layers() -> [LayerTree; 2] {
    [
        LayerTree::new()
            .file("m/low", b"1")
            .file("m/both", b"low")
            .file("m/sub/x", b"x")
            .file("m/gone", b"g")
            .file("only/o", b"o"),
        LayerTree::new().file("m/top", b"2").file("m/both", b"top").whiteout("m/gone"),
    ]
}

#[test]
fn a_merged_directory_can_be_renamed_and_stays_renamed() {
    let mut session = Session::over(&two_layers());
    session.rename("m", "only/moved").expect("rename");
    session.put("m", b"a file now");
    for _ in 0..2 {
        assert_eq!(session.names(""), ["m", "only"]);
        assert_eq!(session.names("only/moved"), ["both", "low", "sub", "top"]);
        assert_eq!(session.read("only/moved/both"), Ok(b"top".to_vec()));
        assert_eq!(session.read("only/moved/sub/x"), Ok(b"x".to_vec()));
        session.reopen();
    }
    session.write("only/moved/sub/x", 0, b"y").expect("write");
    session.rename("only", "m2").expect("rename of the parent");
    session.reopen();
    assert_eq!(session.read("m2/moved/sub/x"), Ok(b"y".to_vec()));
    assert_eq!(session.names("m2"), ["moved", "o"]);
}

#[test]
fn directories_change_places() {
    let mut session = Session::over(&two_layers());
    session.rename_as("m", "only", RenameMode::Exchange).expect("exchange");
    for _ in 0..2 {
        assert_eq!(session.names("m"), ["o"]);
        assert_eq!(session.names("only"), ["both", "low", "sub", "top"]);
        session.reopen();
    }
    session.rename_as("only/sub", "m/o", RenameMode::Exchange).expect("a directory and a file");
    session.reopen();
    assert_eq!(session.read("only/sub"), Ok(b"o".to_vec()));
    assert_eq!(session.read("m/o/x"), Ok(b"x".to_vec()));
}

#[test]
fn a_rename_that_may_not_replace_does_not() {
    let session = Session::over(&two_layers());
    let root = Ino::ROOT;
    let rename = |from: &[u8], to: &[u8]| session.union().rename((root, from), (root, to), RenameMode::NoReplace);
    assert_eq!(rename(b"m", b"only"), Err(Errno::EEXIST));
    assert_eq!(rename(b"m", b"free"), Ok(()));
    assert_eq!(rename(b"only", b"m"), Ok(()));
    assert_eq!(session.names("free"), ["both", "low", "sub", "top"]);
}

#[test]
fn a_directory_replaces_an_empty_one_only() {
    let mut session = Session::over(&two_layers());
    assert_eq!(session.rename("only", "m"), Err(Errno::ENOTEMPTY));
    for name in ["m/low", "m/both", "m/top", "m/sub/x"] {
        session.unlink(name).expect("unlink");
    }
    session.rmdir("m/sub").expect("rmdir");
    session.rename("only", "m").expect("onto a directory that shows empty");
    for _ in 0..2 {
        assert_eq!(session.names(""), ["m"]);
        assert_eq!(session.names("m"), ["o"]);
        session.reopen();
    }
}

#[test]
fn an_unlinked_file_lives_until_it_is_forgotten() {
    let mut session = Session::over(&[LayerTree::new().file("lower", b"lower").file("other", b"o")]);
    session.put("upper", b"upper");
    for name in ["lower", "upper"] {
        let open = session.lookup(name).expect("lookup");
        session.unlink(name).expect("unlink");
        assert_eq!(session.stat(name), Err(Errno::ENOENT));
        assert_eq!(session.fstat(&open).nlink, 0, "{name}");
        assert_eq!(session.tree().read(open.ino(), 0, 9), Ok(name.as_bytes().to_vec()));
        session.union().write(open.ino(), 5, b"!", None, layerctl::union::Times::Move).untold().expect("write");
        session.put(name, b"another");
        assert_ne!(session.ino(name), open.ino());
        assert_eq!(session.tree().read(open.ino(), 0, 9), Ok([name.as_bytes(), b"!"].concat()));
        assert_eq!(session.read(name), Ok(b"another".to_vec()));
    }
    let open = session.lookup("other").expect("lookup");
    session.rename("lower", "other").expect("rename over an open file");
    assert_eq!((session.fstat(&open).nlink, session.tree().read(open.ino(), 0, 9)), (0, Ok(b"o".to_vec())));
    drop(open);
    session.reopen();
    assert_eq!(session.names(""), ["other", "upper"]);
}

#[test]
fn a_removed_directory_that_is_still_open_is_empty_and_takes_nothing() {
    let mut session = Session::over(&[LayerTree::new().dir("d", 0o755)]);
    let open = session.lookup("d").expect("lookup");
    session.rmdir("d").expect("rmdir");
    assert_eq!(session.fstat(&open).nlink, 0);
    let new = NewFile { kind: Kind::File, mode: 0o644, umask: 0, rdev: (0, 0) };
    assert_eq!(session.union().create(open.ino(), b"x", new, ROOT_USER).map(|_| ()), Err(Errno::ENOENT));
    assert_eq!(session.union().lookup(open.ino(), b"x").map(|_| ()), Err(Errno::ENOENT));
}

#[test]
fn a_directory_that_shows_empty_but_holds_whiteouts_is_removed() {
    let mut session = Session::over(&[LayerTree::new().file("d/a", b"1").file("d/s/b", b"2")]);
    assert_eq!(session.rmdir("d"), Err(Errno::ENOTEMPTY));
    session.unlink("d/a").expect("unlink");
    session.unlink("d/s/b").expect("unlink");
    session.rmdir("d/s").expect("rmdir");
    session.rmdir("d").expect("rmdir");
    session.reopen();
    assert!(session.names("").is_empty());
    session.mkdir("d", 0o700).expect("mkdir");
    session.reopen();
    assert!(session.names("d").is_empty());
}

#[test]
fn a_name_can_come_back_with_another_type() {
    let mut session = Session::over(&[LayerTree::new().file("x/inside", b"1").file("y", b"2")]);
    session.unlink("x/inside").expect("unlink");
    session.rmdir("x").expect("rmdir");
    session.put("x", b"a file");
    session.unlink("y").expect("unlink");
    session.mkdir("y", 0o755).expect("mkdir");
    session.reopen();
    assert_eq!(session.read("x"), Ok(b"a file".to_vec()));
    assert!(session.names("y").is_empty());
    session.unlink("x").expect("unlink");
    session.mkdir("x", 0o755).expect("mkdir");
    session.reopen();
    assert!(session.names("x").is_empty());
}

#[test]
fn deleted_names_never_come_back_under_renamed_or_opaque_ancestors() {
    let mut session = Session::over(&[
        LayerTree::new().file("a/b/gone", b"1").file("a/b/stays", b"2").file("o/p/old", b"3"),
        LayerTree::new().opaque("o").file("o/p/new", b"4"),
    ]);
    assert_eq!(session.names("o/p"), ["new"]);
    session.unlink("a/b/gone").expect("unlink");
    session.rename("a/b", "o/b").expect("rename");
    session.rename("o", "a/o").expect("rename");
    session.mkdir("o", 0o755).expect("mkdir");
    session.mkdir("o/p", 0o755).expect("mkdir");
    session.mkdir("a/b", 0o755).expect("mkdir");
    for _ in 0..2 {
        assert_eq!(session.names("a/o/b"), ["stays"]);
        assert_eq!(session.names("a/o/p"), ["new"]);
        assert!(session.names("o/p").is_empty());
        assert!(session.names("a/b").is_empty());
        session.reopen();
    }
    session.rename("a/o/p", "p").expect("rename");
    session.unlink("p/new").expect("unlink");
    session.reopen();
    assert!(session.names("p").is_empty());
}

#[test]
fn a_rename_can_leave_a_device_0_0_behind() {
    let mut session = Session::over(&[LayerTree::new().file("f", b"1")]);
    session.rename_as("f", "g", RenameMode::Whiteout).expect("rename");
    for _ in 0..2 {
        let left = session.stat("f").expect("stat");
        assert_eq!((left.kind, left.rdev), (Kind::CharDevice, (0, 0)));
        assert_eq!(session.read("g"), Ok(b"1".to_vec()));
        session.reopen();
    }
}

#[test]
fn a_device_0_0_is_a_file_as_any_other() {
    let mut session = Session::over(&[LayerTree::new().file("hidden", b"1")]);
    session.unlink("hidden").expect("unlink");
    let new = NewFile { kind: Kind::CharDevice, mode: 0o666, umask: 0, rdev: (0, 0) };
    for name in [&b"hidden"[..], b"zero"] {
        let made = session.union().create(Ino::ROOT, name, new, ROOT_USER).expect("create");
        drop(session.tree().held(made));
    }
    session.reopen();
    assert_eq!(session.names(""), ["hidden", "zero"]);
    let attr = session.stat("hidden").expect("stat");
    assert_eq!((attr.kind, attr.rdev, attr.mode), (Kind::CharDevice, (0, 0), 0o666));
    session.unlink("hidden").expect("unlink");
    session.reopen();
    assert_eq!(session.names(""), ["zero"]);
}

#[test]
fn a_file_that_lost_the_name_it_was_found_by_can_be_linked_while_it_has_another() {
    let mut session = Session::empty();
    session.put("x", b"1");
    session.link("x", "y").expect("link");
    session.reopen();
    let held = session.lookup("x").expect("lookup");
    session.unlink("x").expect("unlink");
    assert_eq!(session.fstat(&held).nlink, 1);
    let linked = session.union().link(held.ino(), Ino::ROOT, b"z").expect("link");
    drop(session.tree().held(linked));
    assert_eq!(session.fstat(&held).nlink, 2);
    drop(held);
    session.reopen();
    assert_eq!(session.ino("y"), session.ino("z"));
}
