//! What comes again, what hides, and what is no file: in the index and on disk.

use super::*;

#[test]
fn replaced_content_is_kept_for_the_tar() {
    let layer = Layer::of(
        &Tar::default()
            .file("a", b"first")
            .file("a", b"second")
            .file("./a", b"third, and last")
            .dir("d")
            .dir("d/e")
            .file("d/e/f", b"below")
            .file("d/g", b"beside")
            .file("d/.wh.h", b"")
            .kind(b'2', b"d/link", b"/etc")
            .header(b'5', b"d", b"", 0, |header| header.set_mode(0o700))
            .file("outside", b"linked")
            .kind(b'1', b"d/hard", b"outside")
            .file("d", b"no directory now")
            .file("one", b"with two names")
            .kind(b'1', b"two", b"/one")
            .file("one", b"replaced")
            .kind(b'2', b"two", b"gone too")
            .file("kept", b"third name")
            .kind(b'1', b"kept2", b"./kept")
            .file("kept", b"")
            .end(),
    );
    assert_eq!(layer.read("a"), b"third, and last");
    assert_eq!(layer.read("d"), b"no directory now");
    assert_eq!(layer.read("one"), b"replaced");
    assert_eq!(layer.meta("two").kind, Kind::Symlink);
    assert_eq!(layer.read("kept2"), b"third name");
    assert_eq!(
        (layer.read("outside"), layer.unpacked.index.node(layer.id("outside")).unwrap().nlink()),
        (b"linked".to_vec(), 1)
    );
    let mut kept: Vec<_> =
        std::fs::read_dir(layer.path(".wh..wh.dups")).unwrap().map(|e| e.unwrap().file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["0", "1", "3", "4", "5", "7", "9"], "a, a, d/e/f, d/g, outside, one, kept");
}

#[test]
fn a_directory_that_is_made_anew_is_not_mistaken_for_the_old_one() {
    let layer = Layer::of(
        &Tar::default()
            .file("d/e/f", b"old")
            .kind(b'1', b"link", b"d/e/f")
            .file("d/e/g", b"old")
            .file("d", b"no directory")
            .dir("d")
            .file("d/e/f", b"new")
            .kind(b'1', b"link2", b"d/e/f")
            .end(),
    );
    assert_eq!((layer.read("link"), layer.read("link2")), (b"old".to_vec(), b"new".to_vec()));
    assert_eq!(std::fs::read_dir(layer.path("d/e")).unwrap().count(), 1);
}

#[test]
fn a_directory_that_comes_again_keeps_its_content() {
    let layer = Layer::of(
        &Tar::default()
            .dir("d")
            .file("d/f", b"x")
            .header(b'5', b"d", b"", 0, |h| h.set_mode(0o711))
            .file("d/g", b"")
            .end(),
    );
    assert_eq!((layer.meta("d").mode, layer.read("d/f")), (0o711, b"x".to_vec()));
    assert_eq!(layer.path("d").metadata().unwrap().mtime(), 1_000_000);
}

#[test]
fn whiteouts_are_in_the_index_and_on_disk() {
    let long = format!(".wh.{}", "n".repeat(251));
    let layer = Layer::of(
        &Tar::default()
            .file("d/.wh.gone", b"with content")
            .file("d/.wh..wh..opq", b"")
            .dir("e")
            .file(".wh.e", b"")
            .file(".wh.f", b"")
            .file("f", b"there")
            .pax(&[("path", long.as_bytes())])
            .file("long", b"")
            .file(".wh..wh.aufs", b"private")
            .file(".wh..wh.plnk/1.2", b"pseudo link")
            .kind(b'1', b"linked", b".wh..wh.plnk/1.2")
            .kind(b'1', b"linked2", b".wh..wh.plnk/1.2")
            .file("linked2", b"replaced")
            .end(),
    );
    assert_eq!(layer.child("d/gone"), Some(Child::Whiteout));
    assert!(layer.unpacked.index.node(layer.id("d")).unwrap().is_opaque());
    assert!(layer.unpacked.index.node(layer.id("e")).unwrap().is_opaque());
    assert_eq!(layer.meta("f").kind, Kind::File);
    assert_eq!(layer.child(&"n".repeat(251)), Some(Child::Whiteout));
    assert_eq!(layer.child(".wh..wh.aufs"), None);
    assert_eq!(layer.child(".wh..wh.plnk"), None);
    assert_eq!(layer.digest("linked"), Some(Digest::of(b"pseudo link")));
    assert_eq!((layer.read("linked"), layer.read("linked2")), (b"pseudo link".to_vec(), b"replaced".to_vec()));
    for marker in ["d/.wh.gone", "d/.wh..wh..opq", ".wh.e", ".wh.f", &long] {
        assert_eq!(layer.path(marker).metadata().map(|stat| stat.len()).ok(), Some(0), "{marker}");
    }
    assert!(!layer.path(".wh..wh.aufs").exists());
    let scanned = crate::index::scan(&layer.path("")).unwrap();
    assert!(scanned.lookup(NodeId::ROOT, b"f").is_some());
    assert_eq!(scanned.node_count(), layer.unpacked.index.node_count(), "the directory says the same as the index");
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh.x/y", ".wh..wh..opq/y"] {
        assert!(refused(&Tar::default().file(bad, b"").end()).contains("whiteout"), "{bad}");
    }
}

#[test]
fn special_files_are_made_and_none_is_taken_for_a_whiteout() {
    let device = |path: &[u8], major, minor| {
        Tar::default().header(b'3', path, b"", 0, |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    };
    let layer = Layer::of(&device(b"null", 1, 3).end());
    assert_eq!(layer.meta("null").rdev, (1, 3));
    let layer = Layer::of(&device(b"forged", 0, 0).end());
    assert_eq!(layer.meta("forged").kind, Kind::CharDevice);
    assert!(!layer.path("forged").symlink_metadata().unwrap().file_type().is_char_device());
    assert!(refused(&device(b"x", 4096, 0).end()).contains("device number"));
}
