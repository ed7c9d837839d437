//! `verify --repair` from sources that mean harm, and of what is many.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;
use std::slice::from_ref;
use std::time::{Duration, SystemTime};

use super::cli::{Output, Sandbox};
use super::damage::{diff, flip, found, image, store};
use super::generator::{Image, Tar, docker_since_25, gzip, sha256};
use super::hostile_tar::{Raw, field};
use super::import_kinds::{SPARSE, with_holes};

fn repair(sandbox: &Sandbox, sources: &[&str]) -> Output {
    let from = sources.iter().flat_map(|source| ["--from", source]);
    sandbox.run(&["verify", "--repair"].into_iter().chain(from).collect::<Vec<_>>())
}

fn blob(layer: &[u8]) -> String {
    format!("blobs/sha256/{}", sha256(layer))
}

/// Takes the image and its layers away, but for the names.
fn lose(sandbox: &Sandbox, image: &Image) {
    fs::remove_dir_all(sandbox.root().join("images").join(image.id())).expect("it goes");
    for hex in image.layers.iter().map(|layer| sha256(layer)) {
        for extension in ["json", "index", "split"] {
            fs::remove_file(sandbox.root().join("layers").join(format!("{hex}.{extension}"))).expect("it goes");
        }
        fs::remove_dir_all(sandbox.root().join("diff").join(hex)).expect("it goes");
    }
}

#[test]
fn a_bad_source_does_not_stand_in_the_way_of_the_next_layers() {
    let (sandbox, archive) = store();
    let image = image();
    let images = from_ref(&image);
    let forged = |layer: &Vec<u8>, by: &[u8]| {
        let by = by.to_vec();
        docker_since_25(images).with(&blob(layer), move |content| *content = by.clone()).tar()
    };
    let all = image.layers.iter().fold(docker_since_25(images), |members, layer| {
        members.with(&blob(layer), |content| {
            let at = content.len() / 2;
            content[at] ^= 1;
        })
    });
    let size = (1_u64 << 62).to_string();
    let sparse =
        [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", size.as_bytes())];
    let map = [&b"1\n4611686018427387900\n3\n"[..], &[0; 488], b"abc"].concat();
    let sparse = Raw::new().pax(&sparse).file("s", &map).end();
    let long = Raw::new().header(b'0', b"f", b"", 1 << 62, &[(field::MODE, b"0000644\0")]).end();
    for (name, bad) in [
        ("flipped", all.tar()),
        ("sparse", forged(&image.layers[0], &sparse)),
        ("long", forged(&image.layers[0], &long)),
    ] {
        let bad = sandbox.write("bad.tar", &bad);
        lose(&sandbox, &image);
        let output = repair(&sandbox, &[&bad]);
        assert_eq!(output.code, 3, "{name}: {output:?}");
        let output = repair(&sandbox, &[&bad, &archive]);
        assert_eq!(output.code, 0, "{name}: {output:?}");
        assert_eq!(found(&sandbox, &[]), (0, Vec::new()), "{name}");
    }
}

#[test]
fn an_archive_with_holes_is_a_source() {
    let (sandbox, _) = store();
    let image = image();
    for format in SPARSE {
        let archive = with_holes(&docker_since_25(from_ref(&image)), format);
        assert!(archive != docker_since_25(from_ref(&image)).tar(), "{format:?}");
        for bytes in [gzip(&archive), archive] {
            lose(&sandbox, &image);
            let output = repair(&sandbox, &[&sandbox.write("holes.tar", &bytes)]);
            assert_eq!(output.code, 0, "{format:?}: {output:?}");
            assert_eq!(found(&sandbox, &[]), (0, Vec::new()), "{format:?}");
        }
    }
}

#[test]
fn an_image_comes_back_whole_or_not_at_all() {
    let (sandbox, _) = store();
    let image = image();
    let partial = docker_since_25(from_ref(&image)).without(&blob(&image.layers[1])).tar();
    let partial = sandbox.write("partial.tar", &partial);
    lose(&sandbox, &image);
    let was = sandbox.store().without("lock");
    assert_eq!(repair(&sandbox, &[&partial]).code, 3);
    sandbox.store().without("lock").assert_same(&was, "no layers without their image");
}

#[test]
fn another_store_is_not_trusted() {
    let (sandbox, archive) = store();
    let image = image();
    let other = sandbox.path("other");
    let other_name = other.to_str().expect("UTF-8");
    let at = |extension: &str| other.join("layers").join(format!("{}.{extension}", sha256(&image.layers[0])));
    let config = other.join("images").join(image.id()).join("config");
    let pipe = |path: &PathBuf| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("it is made");
    };
    let zeros = |path: &PathBuf| symlink("/dev/zero", path).expect("it is made");
    for path in [at("json"), at("split"), config] {
        for (kind, put) in [("a pipe", &pipe as &dyn Fn(&PathBuf)), ("a device", &zeros)] {
            sandbox.run(&["--root", other_name, "import", &archive]).lines();
            fs::remove_file(&path).expect("it goes");
            put(&path);
            lose(&sandbox, &image);
            let output = repair(&sandbox, &[other_name]);
            assert_eq!(output.code, 3, "{kind} {}: {output:?}", path.display());
            assert_eq!(repair(&sandbox, &[&archive]).code, 0);
            fs::remove_dir_all(&other).expect("it goes");
        }
    }
}

#[test]
fn a_file_with_many_names_is_mended() {
    let first = Raw::new().dir("d").file("d/0", b"content");
    let tar = (1..300).fold(first, |tar, number| tar.hard(&format!("d/{number}"), "d/0")).end();
    let image = Image::new("amd64", vec![tar], &["names:1"]);
    let sandbox = Sandbox::new();
    let archive = sandbox.write("names.tar", &docker_since_25(from_ref(&image)).tar());
    sandbox.run(&["import", &archive]).lines();
    let dir = sandbox.root().join("diff").join(sha256(&image.layers[0])).join("d");
    let assert_whole = |output: &Output| {
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
        let inode = fs::metadata(dir.join("0")).expect("it is there").ino();
        for number in 0..300 {
            let metadata = fs::metadata(dir.join(number.to_string())).expect("it is there");
            assert_eq!((metadata.ino(), metadata.nlink()), (inode, 300), "{number}");
        }
    };
    for number in 1..300 {
        let path = dir.join(number.to_string());
        fs::remove_file(&path).and_then(|()| fs::write(&path, "content")).expect("it is made");
    }
    assert_whole(&repair(&sandbox, &[]));
    flip(&dir.join("7"));
    assert_eq!(repair(&sandbox, &[]).code, 3);
    assert_whole(&repair(&sandbox, &[&archive]));
    fs::remove_dir_all(&dir).expect("it goes");
    assert_whole(&repair(&sandbox, &[&archive]));
}

#[test]
fn wrong_content_does_not_get_the_time_of_the_right_one() {
    let (sandbox, _) = store();
    let path = diff(&sandbox).join("etc/noted");
    flip(&path);
    let wrong = SystemTime::UNIX_EPOCH + Duration::from_secs(77);
    File::open(&path).and_then(|file| file.set_modified(wrong)).expect("it is set");
    let quick = found(&sandbox, &["--quick"]);
    assert_eq!(quick.0, 3);
    assert_eq!(repair(&sandbox, &[]).code, 3);
    assert_eq!(found(&sandbox, &["--quick"]), quick);
}

#[test]
fn a_whiteout_that_hides_another_name_is_found_and_mended() {
    let long = "x".repeat(254);
    let tar = Raw::new().pax(&[("path", format!(".wh.{long}").as_bytes())]).file("w", b"").end();
    let image = Image::new("amd64", vec![tar], &["long:1"]);
    let sandbox = Sandbox::new();
    let archive = sandbox.write("long.tar", &docker_since_25(from_ref(&image)).tar());
    sandbox.run(&["import", &archive]).lines();
    let dir = sandbox.root().join("diff").join(sha256(&image.layers[0]));
    let entry = fs::read_dir(&dir).expect("it is read").next().expect("there is one").expect("it is read");
    assert_eq!(fs::read(entry.path()).expect("it is read"), long.as_bytes());
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    flip(&entry.path());
    let (code, findings) = found(&sandbox, &[]);
    assert_eq!((code, findings.len(), findings[0].1.as_str()), (3, 1, "content"), "{findings:?}");
    assert_eq!(repair(&sandbox, &[]).code, 0);
    assert_eq!(fs::read(entry.path()).expect("it is read"), long.as_bytes());
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
}

#[test]
fn a_layer_with_one_file_only_comes_back_from_a_store() {
    let tar = Tar::new().file("f", b"content").finish();
    let image = Image::new("amd64", vec![tar], &["one:1"]);
    let sandbox = Sandbox::new();
    let archive = sandbox.write("one.tar", &docker_since_25(from_ref(&image)).tar());
    let other = sandbox.path("other").into_os_string().into_string().expect("UTF-8");
    sandbox.run(&["import", &archive]).lines();
    sandbox.run(&["--root", &other, "import", &archive]).lines();
    lose(&sandbox, &image);
    assert_eq!(repair(&sandbox, &[&other]).code, 0);
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
}
