//! What a rw layer is told as.

use layerctl::union::{Change, Ino};

use super::layer_tree::LayerTree;
use super::union_session::Session;

/// The entries of the layer, one line each.
fn told(session: &Session) -> Vec<String> {
    let mut lines = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let union = session.union();
    union
        .changes(&mut Vec::new(), &mut |change| {
            lines.push(match change {
                Change::Entry { path, .. } => format!("{}/", text(path)).replace("//", "/"),
                Change::Link { path, target, .. } => format!("{} = {}", text(path), text(target)),
                Change::Whiteout { dir, name } => format!("{} - {}", text(dir), text(name)),
                Change::Opaque { dir } => format!("{} opaque", text(dir)),
            });
            Ok(())
        })
        .expect("changes");
    lines
}

fn session() -> Session {
    let layer = LayerTree::new().file("d/a", b"1").file("d/b", b"2").file("e/c", b"3").file("f", b"4");
    Session::over(&[layer])
}

#[test]
fn nothing_is_told_of_what_has_not_changed() {
    let session = session();
    assert_eq!(told(&session), Vec::<String>::new());
}

#[test]
fn a_change_is_told_with_the_directories_above_it() {
    let mut session = session();
    session.chmod("d/b", 0o600).expect("chmod");
    session.unlink("d/a").expect("unlink");
    assert_eq!(told(&session), ["d/", "d - a", "d/b/"]);
    session.put("new", b"5");
    session.unlink("new").expect("unlink");
    assert_eq!(told(&session), ["/", "d/", "d - a", "d/b/"], "the root's times have changed, and no whiteout is there");
}

#[test]
fn a_directory_in_the_place_of_another_is_opaque() {
    let mut session = session();
    session.unlink("e/c").expect("unlink");
    session.rmdir("e").expect("rmdir");
    session.mkdir("e", 0o755).expect("mkdir");
    session.put("e/x", b"");
    assert_eq!(told(&session), ["/", "e/", "e opaque", "e/x/"]);
}

#[test]
fn a_renamed_directory_is_told_whole() {
    let mut session = session();
    session.rename("d", "e/d").expect("rename");
    let whole = ["/", " - d", "e/", "e/d/", "e/d/a/", "e/d/b/"];
    assert_eq!(told(&session), whole);
    session.reopen();
    assert_eq!(told(&session), whole);
}

#[test]
fn a_file_of_several_names_is_told_under_all_of_them() {
    let layer = LayerTree::new().dir("far", 0o755).dir("far/away", 0o755).file("d/a", b"1");
    let layer = layer.link("far/away/b", "d/a").link("far/c", "d/a").file("far/d", b"");
    let mut session = Session::over(&[layer]);
    session.rename("d", "moved").expect("rename");
    // Nothing in `far` has changed, but it holds names of a file that is told.
    assert_eq!(
        told(&session),
        ["/", " - d", "far/", "far/away/", "far/away/b/", "far/c = far/away/b", "moved/", "moved/a = far/away/b"]
    );
}

#[test]
fn what_goes_while_it_is_told_shows_nothing_of_the_lowers() {
    let layer = LayerTree::new().file("d/a", b"1").file("d/b", b"2").dir("d/c", 0o755).file("d/c/x", b"3");
    let mut session = Session::over(&[layer.file("d/e", b"4")]);
    session.chmod("d/a", 0o600).expect("chmod");
    session.chmod("d/c", 0o700).expect("chmod");
    let union = session.union();
    let mut lines = Vec::new();
    union
        .changes_live(&mut Vec::new(), &mut |change| {
            match change {
                Change::Entry { path, attr, .. } => {
                    let find = |dir, name: &[u8]| union.lookup(dir, name).expect("it is there").ino;
                    let dir = find(Ino::ROOT, b"d");
                    if path == b"d/a" {
                        union.unlink(dir, b"b").expect("unlink");
                        union.unlink(dir, b"e").expect("unlink");
                    }
                    if path == b"d/c" {
                        union.unlink(attr.ino, b"x").expect("unlink");
                        union.rmdir(dir, b"c").expect("rmdir");
                    }
                    lines.push(format!("{}/", String::from_utf8_lossy(path)));
                }
                Change::Whiteout { dir, name } => {
                    lines.push(format!("{} - {}", String::from_utf8_lossy(dir), String::from_utf8_lossy(name)));
                }
                Change::Opaque { dir } => lines.push(format!("{} opaque", String::from_utf8_lossy(dir))),
                Change::Link { .. } => lines.push("link".to_owned()),
            }
            Ok(())
        })
        .expect("changes");
    lines.dedup();
    assert!(lines.contains(&"d - b".to_owned()) && lines.contains(&"d - e".to_owned()), "{lines:?}");
    let is_covered = lines.contains(&"d/c opaque".to_owned()) || lines.contains(&"d/c - x".to_owned());
    assert!(is_covered, "{lines:?}");
}
