//! A store with one image whose layers have everything that can be damaged, and the damages.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, lsetxattr};
use serde_json::Value;

use super::cli::Sandbox;
use super::generator::{Image, Tar, docker_since_25, sha256};

/// A PAX header with extended attributes before the next entry.
pub(crate) fn with_xattr(mut tar: Tar, name: &str, value: &[u8]) -> Tar {
    tar.0.append_pax_extensions([(format!("SCHILY.xattr.{name}").as_str(), value)]).expect("a tar takes a header");
    tar
}

fn hard_link(mut tar: Tar, path: &str, target: &str) -> Tar {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    tar.0.append_link(&mut header, path, target).expect("a tar takes a link");
    tar
}

fn fifo(mut tar: Tar, path: &str) -> Tar {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Fifo);
    header.set_mode(0o600);
    header.set_size(0);
    tar.0.append_data(&mut header, path, &b""[..]).expect("a tar takes a fifo");
    tar
}

/// Two layers: duplicates, links, attributes, a fifo, whiteouts.
pub(crate) fn image() -> Image {
    let tar =
        Tar::new().dir("etc").file("etc/replaced", b"old").file("etc/replaced", b"new").file("etc/plain", b"text\n");
    let tar = with_xattr(tar, "user.note", b"value").file("etc/noted", &b"0123456789".repeat(1000));
    let tar = hard_link(tar, "etc/second-name", "etc/plain").link("etc/link", "plain").dir("empty");
    let lower = fifo(tar, "pipe").file("no/entry/of/its/own", b"x").finish();
    let upper = Tar::new().file("etc/.wh.plain", b"").dir("empty").file("empty/.wh..wh..opq", b"").finish();
    Image::new("amd64", vec![lower, upper], &["damaged:1"])
}

/// The sandbox, and the archive that the image came from.
pub(crate) fn store() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let archive = sandbox.write("image.tar", &docker_since_25(from_ref(&image())).tar());
    sandbox.run(&["import", &archive]).lines();
    (sandbox, archive)
}

/// The directory of the lower layer.
pub(crate) fn diff(sandbox: &Sandbox) -> PathBuf {
    sandbox.root().join("diff").join(sha256(&image().layers[0]))
}

/// A file of the lower layer under `layers/`.
pub(crate) fn part(sandbox: &Sandbox, extension: &str) -> PathBuf {
    sandbox.root().join("layers").join(format!("{}.{extension}", sha256(&image().layers[0])))
}

/// Changes one bit in the middle of a file, and none of its times.
pub(crate) fn flip(path: &Path) {
    let modified = fs::metadata(path).expect("it is there").modified().expect("it has a time");
    let mut file = File::options().read(true).write(true).open(path).expect("it can be opened");
    let middle = SeekFrom::Start(file.metadata().expect("it is there").len() / 2);
    let mut byte = [0];
    file.seek(middle).and_then(|_| file.read_exact(&mut byte)).expect("it can be read");
    byte[0] ^= 1;
    file.seek(middle).and_then(|_| file.write_all(&byte)).expect("it can be written");
    file.set_modified(modified).expect("it can be touched");
}

fn keeping_time(path: &Path, change: impl FnOnce()) {
    let modified = fs::metadata(path).expect("it is there").modified().expect("it has a time");
    change();
    File::open(path).and_then(|file| file.set_modified(modified)).expect("it can be touched");
}

/// Its name, what it does, what is found where, and whether a quick look finds it.
pub(crate) type Damage = (&'static str, fn(&Sandbox), &'static [(&'static str, &'static str)], bool);

/// Every kind of damage that a layer can have.
pub(crate) const DAMAGES: &[Damage] = &[
    ("one flipped bit", |s| flip(&diff(s).join("etc/noted")), &[("content", "etc/noted")], false),
    (
        "a truncated file",
        |s| {
            let path = diff(s).join("etc/noted");
            keeping_time(&path, || {
                File::options().write(true).open(&path).and_then(|file| file.set_len(17)).expect("it is cut");
            });
        },
        &[("size", "etc/noted")],
        true,
    ),
    (
        "a missing file",
        |s| {
            let dir = diff(s).join("etc");
            keeping_time(&dir, || fs::remove_file(diff(s).join("etc/noted")).expect("it goes"));
        },
        &[("missing", "etc/noted")],
        true,
    ),
    (
        "a missing directory",
        |s| {
            keeping_time(&diff(s).join("no/entry"), || {
                fs::remove_dir_all(diff(s).join("no/entry/of")).expect("it goes");
            });
        },
        &[("missing", "no/entry/of")],
        true,
    ),
    (
        "an extra file",
        |s| keeping_time(&diff(s).join("empty"), || fs::write(diff(s).join("empty/extra"), "x").expect("it is made")),
        &[("extra", "empty/extra")],
        true,
    ),
    (
        "an extra whiteout",
        |s| keeping_time(&diff(s).join("empty"), || fs::write(diff(s).join("empty/.wh.x"), "").expect("it is made")),
        &[("extra", "empty/.wh.x")],
        true,
    ),
    (
        "a changed mode",
        |s| fs::set_permissions(diff(s).join("etc/plain"), Permissions::from_mode(0o4755)).expect("it is set"),
        &[("mode", "etc/plain"), ("mode", "etc/second-name")],
        true,
    ),
    (
        "a changed owner",
        |s| std::os::unix::fs::lchown(diff(s).join("etc/link"), Some(7), None).expect("it is set"),
        &[("owner", "etc/link")],
        true,
    ),
    (
        "a changed time",
        |s| {
            let file = File::open(diff(s).join("etc/noted")).expect("it is there");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 1)).expect("it is set");
        },
        &[("time", "etc/noted")],
        true,
    ),
    (
        "a changed attribute",
        |s| {
            lsetxattr(diff(s).join("etc/noted"), "user.note", b"other", XattrFlags::empty()).expect("it is set");
        },
        &[("xattr", "etc/noted")],
        false,
    ),
    (
        "a removed attribute",
        |s| rustix::fs::lremovexattr(diff(s).join("etc/noted"), "user.note").expect("it goes"),
        &[("xattr", "etc/noted")],
        false,
    ),
    (
        "an added attribute",
        |s| {
            lsetxattr(diff(s).join("empty"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).expect("it is set");
        },
        &[("xattr", "empty")],
        false,
    ),
    (
        "another link",
        |s| {
            let (dir, link) = (diff(s).join("etc"), diff(s).join("etc/link"));
            keeping_time(&dir, || {
                let time = fs::symlink_metadata(&link).expect("it is there").modified().expect("it has a time");
                fs::remove_file(&link).and_then(|()| std::os::unix::fs::symlink("plaim", &link)).expect("it is made");
                touch_link(&link, time);
            });
        },
        &[("content", "etc/link")],
        false,
    ),
    (
        "another type",
        |s| {
            keeping_time(&diff(s), || {
                let path = diff(s).join("pipe");
                fs::remove_file(&path).and_then(|()| fs::write(&path, "")).expect("it is made");
            });
        },
        &[("type", "pipe")],
        true,
    ),
    (
        "two files of one",
        |s| {
            let (one, other) = (diff(s).join("etc/plain"), diff(s).join("etc/second-name"));
            keeping_time(&diff(s).join("etc"), || {
                let time = fs::metadata(&one).expect("it is there").modified().expect("it has a time");
                fs::remove_file(&other).and_then(|()| fs::copy(&one, &other)).expect("it is copied");
                File::open(&other).and_then(|file| file.set_modified(time)).expect("it can be touched");
            });
        },
        &[("link", "etc/second-name")],
        true,
    ),
    (
        "a flipped bit in what was replaced",
        |s| {
            let dups = fs::read_dir(diff(s).join(".wh..wh.dups")).expect("it is there");
            flip(&dups.map(|entry| entry.expect("it is read").path()).next().expect("there is one"));
        },
        &[("content", "split")],
        false,
    ),
    ("a damaged index", |s| flip(&part(s, "index")), &[("index", "index")], true),
    ("a missing index", |s| fs::remove_file(part(s, "index")).expect("it goes"), &[("index", "index")], true),
    ("a damaged split", |s| flip(&part(s, "split")), &[("split", "split")], false),
    ("a missing split", |s| fs::remove_file(part(s, "split")).expect("it goes"), &[("split", "split")], true),
    ("a damaged record", |s| fs::write(part(s, "json"), "{").expect("it is written"), &[("record", "json")], true),
    ("a fifo for a record", |s| fifo_for(&part(s, "json")), &[("record", "json")], true),
    ("a fifo for an index", |s| fifo_for(&part(s, "index")), &[("index", "index")], true),
    ("a fifo for a split", |s| fifo_for(&part(s, "split")), &[("split", "split")], true),
    (
        "a record that says something else",
        |s| change(&part(s, "json"), "\"size\": ", "\"size\": 1"),
        &[("record", "json")],
        false,
    ),
    ("no files", |s| fs::remove_dir_all(diff(s)).expect("they go"), &[("missing", "diff")], true),
];

/// Puts a fifo in a file's place, at which who opens it would wait for ever.
pub(crate) fn fifo_for(path: &Path) {
    fs::remove_file(path).expect("it goes");
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).expect("it is made");
}

fn touch_link(path: &Path, time: SystemTime) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    let seconds = since.as_secs().try_into().expect("a time of now");
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: since.subsec_nanos().into() };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("it is set");
}

pub(crate) fn change(path: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(path).expect("it is text");
    assert!(text.contains(old), "{old} is in {text}");
    fs::write(path, text.replacen(old, new, 1)).expect("it is written");
}

/// What was found: of whom, what, and where, in the order of the output. Files of the store are given by what comes
/// after the last dot or slash that is not of an id.
pub(crate) fn found(sandbox: &Sandbox, words: &[&str]) -> (i32, Vec<(String, String, String)>) {
    let words: Vec<&str> = ["--format", "json", "verify"].iter().chain(words).copied().collect();
    let output = sandbox.run(&words);
    let findings: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(output.stderr, "");
    let text = |finding: &Value, field: &str| finding[field].as_str().expect("it is text").to_owned();
    let root = sandbox.root().canonicalize().expect("it is there");
    let place = |path: String| match Path::new(&path).strip_prefix(&root) {
        Err(_) => path,
        Ok(below) => match below.extension() {
            Some(extension) if below.starts_with("layers") => extension.to_string_lossy().into_owned(),
            _ if below.starts_with("diff") => "diff".to_owned(),
            _ => below.display().to_string(),
        },
    };
    let findings = findings.as_array().expect("an array").iter();
    let findings = findings.map(|one| (text(one, "Kind"), text(one, "Problem"), place(text(one, "Path")))).collect();
    (output.code, findings)
}
