//! What `verify --repair` does to the tree of a layer: links, names, marks and holes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use super::cli::Sandbox;
use super::damage::{diff, flip, found, store, with_xattr};
use super::generator::{Image, Tar, docker_since_25, sha256};
use super::listing::{Listing, xattrs};
use super::repair::{assert_mended, layers, repair};

#[test]
fn no_link_is_followed() {
    type Swap = (&'static str, fn(&Sandbox, &Path));
    let swaps: [Swap; 5] = [
        ("a directory that is a link", |sandbox, outside| {
            fs::rename(diff(sandbox).join("etc"), sandbox.path("moved")).expect("it is moved");
            symlink(outside, diff(sandbox).join("etc")).expect("it is made");
        }),
        ("a directory that is a file", |sandbox, _| {
            fs::remove_dir_all(diff(sandbox).join("etc")).expect("it goes");
            fs::write(diff(sandbox).join("etc"), "file").expect("it is made");
        }),
        ("a file that is a link", |sandbox, outside| {
            fs::remove_file(diff(sandbox).join("etc/noted")).expect("it goes");
            symlink(outside.join("noted"), diff(sandbox).join("etc/noted")).expect("it is made");
        }),
        ("a file that is a directory", |sandbox, outside| {
            fs::remove_file(diff(sandbox).join("etc/noted")).expect("it goes");
            fs::create_dir(diff(sandbox).join("etc/noted")).expect("it is made");
            symlink(outside, diff(sandbox).join("etc/noted/x")).expect("it is made");
        }),
        ("a layer that is a link", |sandbox, outside| {
            fs::rename(diff(sandbox), sandbox.path("moved")).expect("it is moved");
            symlink(outside, diff(sandbox)).expect("it is made");
        }),
    ];
    for (name, swap) in swaps {
        let (sandbox, archive) = store();
        let before = layers(&sandbox);
        let outside = sandbox.path("outside");
        fs::create_dir(&outside).expect("it is made");
        for file in ["noted", "plain", "replaced", "extra"] {
            fs::write(outside.join(file), "theirs").expect("it is made");
        }
        let theirs = Listing::with_identities(&outside);
        swap(&sandbox, &outside);
        assert_eq!(repair(&sandbox, &[]).code, 3, "{name}");
        Listing::with_identities(&outside).assert_same(&theirs, name);
        assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, name);
        Listing::with_identities(&outside).assert_same(&theirs, name);
    }
}

/// Two layers with the same names, and other modes and files.
fn twins() -> Image {
    let lower = Tar::new().dir("etc").file("etc/a", b"one").file("etc/b", b"two").finish();
    let upper = Tar::new().file("etc/a", b"eins").finish();
    Image::new("amd64", vec![lower, upper], &["twins:1"])
}

#[test]
fn the_index_of_another_layer_makes_nothing_go() {
    let sandbox = Sandbox::new();
    let archive = sandbox.write("twins.tar", &docker_since_25(from_ref(&twins())).tar());
    sandbox.run(&["import", &archive]).lines();
    let before = layers(&sandbox);
    let at = |number: usize, extension: &str| {
        sandbox.root().join("layers").join(format!("{}.{extension}", sha256(&twins().layers[number])))
    };
    let swap = |extension| fs::copy(at(1, extension), at(0, extension)).expect("it is copied");
    swap("index");
    assert_mended(&sandbox, &repair(&sandbox, &[]), &before, "by what the split and the files say");
    swap("split");
    assert_eq!(repair(&sandbox, &[]).code, 3);
    assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, "a split");
    // Neither of the two can be believed.
    swap("index");
    flip(&sandbox.root().join("diff").join(sha256(&twins().layers[0])).join("etc/b"));
    let was = sandbox.store().without("lock");
    assert_eq!(repair(&sandbox, &[]).code, 3);
    sandbox.store().without("lock").assert_same(&was, "nothing goes");
    swap("split");
    let was = sandbox.store().without("lock");
    assert_eq!(repair(&sandbox, &[]).code, 3);
    sandbox.store().without("lock").assert_same(&was, "nothing goes");
    assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, "index and split");
}

#[test]
fn the_names_of_one_file_become_those_of_the_sound_one() {
    // The tar has the content at the first name.
    for (damaged, code) in [("etc/plain", 3), ("etc/second-name", 0)] {
        let (sandbox, archive) = store();
        let before = layers(&sandbox);
        let path = diff(&sandbox).join(damaged);
        let content = fs::read(&path).expect("it is read");
        fs::remove_file(&path).and_then(|()| fs::write(&path, content.to_ascii_uppercase())).expect("it is made");
        assert_eq!(repair(&sandbox, &[]).code, code, "{damaged}");
        assert_eq!(repair(&sandbox, &[&archive]).code, 0, "{damaged}");
        assert_eq!(found(&sandbox, &[]), (0, Vec::new()), "{damaged}");
        layers(&sandbox).assert_same(&before, damaged);
    }
}

#[test]
fn attributes_that_unions_would_take_for_their_marks_stay_what_they_are() {
    let tar = with_xattr(Tar::new().dir("p"), "trusted.overlay.opaque", b"y").file("p/f", b"f").finish();
    let image = Image::new("amd64", vec![tar], &["marks:1"]);
    let sandbox = Sandbox::new();
    let archive = sandbox.write("marks.tar", &docker_since_25(from_ref(&image)).tar());
    sandbox.run(&["import", &archive]).lines();
    let before = layers(&sandbox);
    let path = sandbox.root().join("diff").join(sha256(&image.layers[0])).join("p/f");
    let [(name, _)] = &xattrs(&path).into_iter().collect::<Vec<_>>()[..] else { panic!("it has one, by another name") };
    assert_ne!(name, "trusted.overlay.opaque");
    rustix::fs::lsetxattr(&path, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).expect("it is set");
    assert_mended(&sandbox, &repair(&sandbox, &[]), &before, "one more");
    rustix::fs::lremovexattr(&path, name.as_str()).expect("it goes");
    assert_mended(&sandbox, &repair(&sandbox, &[]), &before, "one less");
}

#[test]
fn a_directory_comes_back_with_all_its_marks() {
    let tar = Tar::new().dir("p").file("p/.wh.d", b"").dir("p/d").file("p/d/f", b"f").file("p/.wh.gone", b"");
    let tar = tar.dir("p/e").file("p/e/.wh..wh..opq", b"").file("p/e/f", b"f").file("p/x", b"file").dir("p/x");
    let image = Image::new("amd64", vec![tar.finish()], &["marks:1"]);
    let sandbox = Sandbox::new();
    let archive = sandbox.write("marks.tar", &docker_since_25(from_ref(&image)).tar());
    sandbox.run(&["import", &archive]).lines();
    let before: Vec<PathBuf> = layers(&sandbox).0.into_keys().collect();
    assert!(before.iter().any(|path| path.ends_with("p/.wh.d")), "{before:?}");
    fs::remove_dir_all(sandbox.root().join("diff").join(sha256(&image.layers[0])).join("p")).expect("it goes");
    let output = repair(&sandbox, &[&archive]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    assert_eq!(layers(&sandbox).0.into_keys().collect::<Vec<_>>(), before);
}

#[test]
fn a_hole_with_something_in_it_is_found_and_mended() {
    let sandbox = Sandbox::new();
    // Zeros are holes on disk, whether the tar has them or not; this one says that they are none of its data.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_size(512);
    header.set_path("sparse").unwrap();
    {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(b"00000200000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.realsize.copy_from_slice(b"00000201000\0");
    }
    header.set_cksum();
    let mut tar = Tar::new();
    tar.0.append(&header, &[7_u8; 512][..]).unwrap();
    let tar = tar.finish();
    let archive = sandbox.write("sparse.tar", &tar);
    sandbox.run(&["import", &archive, "-t", "sparse"]).lines();
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    let before = layers(&sandbox);
    flip(&sandbox.root().join("diff").join(sha256(&tar)).join("sparse"));
    let (code, findings) = found(&sandbox, &[]);
    assert_eq!((code, findings.len()), (3, 1), "{findings:?}");
    assert_eq!((findings[0].1.as_str(), findings[0].2.as_str()), ("content", "sparse"));
    assert_mended(&sandbox, &repair(&sandbox, &[]), &before, "the tar has none of it");
}
