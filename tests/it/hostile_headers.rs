//! Groups 9 to 11 of [`hostile`](super::hostile): extended attributes, numbers, PAX, sparse files.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use rustix::fs::{Timespec, Timestamps};

use super::generator::{Image, docker_since_25, sha256};
use super::hostile::World;
use super::hostile_tar::{Raw, field, pax};
use super::listing::xattrs;
use super::mounts::Mounts;

#[test]
fn attributes_that_no_file_can_have() {
    let world = World::new();
    let long = format!("SCHILY.xattr.user.{}", "n".repeat(251));
    for (what, records, why) in [
        ("no name", vec![("SCHILY.xattr.", vec![b'x'])], "extended attribute that no file can have"),
        ("a long name", vec![(&*long, vec![b'x'])], "extended attribute that no file can have"),
        ("a long value", vec![("SCHILY.xattr.user.a", vec![b'x'; 65_537])], "extended attribute that no file can have"),
        ("a NUL", vec![("SCHILY.xattr.user.a\0b", vec![b'x'])], "malformed extended header"),
    ] {
        let records: Vec<(&str, &[u8])> = records.iter().map(|(key, value)| (*key, &value[..])).collect();
        let entry = if what == "a NUL" { "" } else { "f: " };
        world.refuses(what, &Raw::new().pax(&records).file("f", b"").end(), entry, why);
    }
    let all = Raw::new().extended(b'g', &pax(&[("SCHILY.xattr.security.capability", b"x")])).file("f", b"");
    world.refuses("for all files", &all.end(), "", "global header that sets `SCHILY.xattr.security.capability`");
}

#[test]
fn attributes_that_are_odd_and_good() {
    let world = World::new();
    let layer = Raw::new()
        .pax(&[
            ("SCHILY.xattr.user.twice", b"first"),
            ("SCHILY.xattr.user.twice", b"\0\xff=\n"),
            ("LIBARCHIVE.xattr.user.other", b"b3RoZXI"),
            ("SCHILY.xattr.security.selinux", b"system_u:object_r:shadow_t:s0\0"),
            ("SCHILY.xattr.security.ima", b"\x03forged"),
            ("SCHILY.xattr.nonsense.name", b"x"),
            ("SCHILY.xattr.user.long", &[b'v'; 65_536]),
        ])
        .file("f", b"x")
        .end();
    world.takes("attributes", std::slice::from_ref(&layer), &["f f x"]);
    let on_disk = xattrs_of(&world, &layer);
    assert_eq!(on_disk.get("user.twice").map(Vec::as_slice), Some(&b"\0\xff=\n"[..]), "the last one counts");
    assert!(!on_disk.keys().any(|name| name.starts_with("security.") || name == "user.other"), "{on_disk:?}");
}

fn xattrs_of(world: &World, layer: &[u8]) -> std::collections::BTreeMap<String, Vec<u8>> {
    xattrs(&world.sandbox.root().join("diff").join(sha256(layer)).join("f"))
}

#[test]
fn numbers_that_lie() {
    let world = World::new();
    let raw = |at: usize, bytes: &[u8]| Raw::new().header(b'0', b"f", b"", 0, &[(at, bytes)]).end();
    for (what, layer, why) in [
        ("a negative size", raw(field::SIZE, &[0xff; 12]), "negative size"),
        ("a size that overflows", raw(field::SIZE, &[0x80, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]), "malformed size"),
        ("a size of text", raw(field::SIZE, b"9999"), "malformed size"),
        ("a negative uid", raw(field::UID, &[0xff; 8]), "negative uid"),
        ("a uid of 40 bits", raw(field::UID, &[0x80, 0, 0, 0xff, 0, 0, 0, 0]), "uid out of range"),
        ("the uid that is nobody's", raw(field::UID, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), "uid out of range"),
        ("a gid of 33 bits", raw(field::GID, &[0x80, 0, 0, 1, 0, 0, 0, 0]), "gid out of range"),
        ("a mode of text", raw(field::MODE, b"rwx"), "malformed mode"),
        ("a mode with a sign", raw(field::MODE, b"-1"), "malformed mode"),
    ] {
        world.refuses(what, &layer, "f: ", why);
    }
    for (record, why) in [
        (("size", &b"-1"[..]), "malformed size"),
        (("size", b"0x10"), "malformed size"),
        (("size", b"9223372036854775808"), "malformed size"),
        (("uid", b"4294967295"), "uid out of range"),
        (("gid", b"1e3"), "malformed gid"),
        (("mtime", b"nan"), "malformed mtime"),
        (("mtime", b"inf"), "malformed mtime"),
        (("mtime", b"1.2.3"), "malformed mtime"),
        (("mtime", b"9223372036854775808"), "malformed mtime"),
    ] {
        world.refuses(&format!("{record:?}"), &Raw::new().pax(&[record]).file("f", b"").end(), "f: ", why);
    }
    // Larger than any archive: it is cut short.
    let huge = Raw::new().pax(&[("size", b"1000000000")]).file("f", b"x");
    world.refuses("a size beyond the end", &huge.end(), "f: ", "is cut short");
}

/// The time that a copy of a file with this one would have: a mount shows it from the first on, so that a copy-up does not
/// change it.
fn as_the_disk_has_it(mounts: &Mounts, seconds: i64) -> i64 {
    let file = fs::File::create(mounts.at("probe")).expect("a file is made");
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time }).expect("it is ours");
    file.metadata().expect("it is there").mtime()
}

/// Times far away and owners up to the highest, through a real mount.
#[test]
fn numbers_that_are_large_and_good() {
    let mounts = Mounts::new();
    let far: [(&str, i64); 6] = [
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775807", -i64::MAX),
        ("-9223372036854775806.5", -i64::MAX),
        ("253402300800", 253_402_300_800),
        ("4294967296", 1 << 32),
        ("-1", -1),
    ];
    let mut tar = Raw::new();
    for (number, (text, _)) in far.iter().enumerate() {
        let records = [("mtime", text.as_bytes()), ("uid", b"4294967294"), ("gid", b"2147483648")];
        tar = tar.pax(&records).file(&format!("f{number}"), b"x");
    }
    let base_256 = [(field::MTIME, &[0x80, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff][..])];
    let layer = tar.header(b'0', b"binary", b"", 0, &base_256).end();
    mounts.import_archive(&docker_since_25(&[Image::new("amd64", vec![layer], &["far:1"])]).tar());
    mounts.run(&["verify"]).ok();
    let container = mounts.mount(&["--name", "box", "far:1"]);
    for (number, (text, seconds)) in far.iter().enumerate() {
        let stat = container.mountpoint.join(format!("f{number}")).metadata().expect(text);
        let shown = as_the_disk_has_it(&mounts, *seconds);
        assert_eq!((stat.mtime(), stat.uid(), stat.gid()), (shown, u32::MAX - 1, 1 << 31), "{text}");
    }
    let stat = container.mountpoint.join("binary").metadata().expect("it is there");
    assert_eq!(stat.mtime(), as_the_disk_has_it(&mounts, 0x7f_ffff_ffff));
    // The server is alive, and what lists files is too.
    assert!(Command::new("ls").arg("-la").arg(&container.mountpoint).output().expect("ls starts").status.success());
    std::os::unix::fs::chown(container.mountpoint.join("f0"), Some(1), None).expect("a copy can be made");
    mounts.umount("box");
    mounts.run(&["export", "far:1", "-o", "far.tar"]).ok();
}

#[test]
fn extended_headers_that_lie() {
    let world = World::new();
    let malformed = "malformed extended header";
    for body in [&b"6 a=b"[..], b"7 a=b\n", b"x", b"0 a=b\n", b"5 =b\n", b"99999999999999999999 a=b\n", b"-6 a=b\n"] {
        let layer = Raw::new().extended(b'x', body).file("f", b"").end();
        world.refuses(&body.escape_ascii().to_string(), &layer, "", malformed);
    }
    // Two headers that say two names: every tool would take another.
    let two = Raw::new().pax(&[("path", b"one")]).extended(b'L', b"two\0").file("f", b"");
    world.refuses("two names", &two.end(), "f: ", "two different long names");
    let two = Raw::new().pax(&[("linkpath", b"one")]).extended(b'K', b"two\0").link("f", "three");
    world.refuses("two targets", &two.end(), "f: ", "two different long names");
    for key in ["path", "linkpath", "size", "GNU.sparse.map", "SCHILY.acl.access"] {
        let layer = Raw::new().extended(b'g', &pax(&[(key, b"0")])).file("f", b"x").end();
        world.refuses(&format!("{key} for all"), &layer, "", &format!("global header that sets `{key}`"));
    }
    // A header that claims to be long is not read into memory.
    let long = Raw::new().header(b'x', b"h", b"", 100 << 20, &[]).file("f", b"");
    world.refuses("a record of 100 MiB", &long.end(), "", "bytes of extended headers");
    let long = Raw::new().header(b'L', b"h", b"", 100 << 20, &[]).file("f", b"");
    world.refuses("a name of 100 MiB", &long.end(), "", "bytes of extended headers");
    let last = Raw::new().file("f", b"").pax(&[("path", b"g")]);
    world.refuses("of nothing", &last.end(), "", "is cut short");
    let slash = Raw::new().pax(&[("path", b"dir/")]).file("f", b"x");
    world.refuses("a directory with data", &slash.end(), "dir/", "directory with data");
}

#[test]
fn extended_headers_that_are_odd_and_good() {
    let world = World::new();
    // CVE-2025-62518, CVE-2026-33055: the size of the PAX header counts, whatever the header's is.
    let hidden = Raw::new().file("smuggled", b"x").0;
    let size = hidden.len().to_string();
    let shown = format!("f carrier {}", hidden.escape_ascii());
    for (what, header_size) in [("zero", 0), ("less", 512), ("more", 1 << 20)] {
        let layer = Raw::new()
            .pax(&[("size", size.as_bytes())])
            .header(b'0', b"carrier", b"", header_size, &[])
            .data(&hidden)
            .file("after", b"x")
            .end();
        world.takes(&format!("a header's size of {what}"), &[layer], &[&shown, "f after x"]);
    }
    // GHSA-3pv8-6f4r-ffg2: `x` before `L` belongs to the file, and not to the name's header.
    let layer = Raw::new()
        .pax(&[("size", size.as_bytes())])
        .extended(b'L', b"carrier\0")
        .header(b'0', b"short", b"", 0, &[])
        .data(&hidden)
        .file("after", b"x")
        .end();
    world.takes("x before L", &[layer], &[&shown, "f after x"]);
    // Directories, links and devices have no data, whatever their size.
    let layer = Raw::new()
        .header(b'5', b"d", b"", 512, &[])
        .header(b'2', b"l", b"t", 1 << 20, &[])
        .header(b'3', b"c", b"", 512, &[(field::DEV_MAJOR, b"0000001\0")])
        .pax(&[("size", b"512")])
        .dir("e")
        .file("f", b"x")
        .end();
    world.takes("sizes of what has no data", &[layer], &["d d", "l l -> t", "c c 1:0", "d e", "f f x"]);
    let layer = Raw::new()
        .extended(b'g', &pax(&[("comment", b"of all"), ("mtime", b"5"), ("unknown.keyword", b"x")]))
        .pax(&[("path", b"first"), ("path", b"second")])
        .file("f", b"x")
        .pax(&[("path", b"")])
        .file("header", b"y")
        .end();
    world.takes("records twice, empty, and of all", &[layer], &["f second x", "f header y"]);
}

#[test]
fn sparse_maps_that_lie() {
    let world = World::new();
    let map = |records: &[(&str, &[u8])]| Raw::new().pax(records).file("s", b"12345").end();
    for (what, layer) in [
        ("more than the file", map(&[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"4")])),
        ("overlapping", map(&[("GNU.sparse.map", b"0,3,1,2"), ("GNU.sparse.size", b"9")])),
        ("backwards", map(&[("GNU.sparse.map", b"4,2,0,3"), ("GNU.sparse.size", b"9")])),
        ("overflowing", map(&[("GNU.sparse.map", b"9223372036854775807,5"), ("GNU.sparse.size", b"9")])),
        ("less than the data", map(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"9")])),
        ("an odd number", map(&[("GNU.sparse.map", b"0,5,6"), ("GNU.sparse.size", b"9")])),
        ("no size", map(&[("GNU.sparse.map", b"0,5")])),
        ("a size without end", map(&[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"9223372036854775808")])),
        ("in the data, and none", map(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")])),
        ("an unknown version", map(&[("GNU.sparse.major", b"7"), ("GNU.sparse.realsize", b"9")])),
    ] {
        let why = if ["no size", "an unknown version"].contains(&what) { "is sparse" } else { "sparse map" };
        world.refuses(what, &layer, "s: ", why);
    }
    // Ten more regions each time, in blocks without end.
    let mut old = Raw::new();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_path("s").expect("it is short");
    header.set_mode(0o644);
    header.set_size(0);
    header.as_gnu_mut().expect("it is one").realsize = *b"00000000000\0";
    header.as_gnu_mut().expect("it is one").isextended = [1];
    header.set_cksum();
    old.0.extend_from_slice(header.as_bytes());
    let mut extension = [0; 512];
    for slot in 0..21 {
        extension[slot * 24..][..24].copy_from_slice(b"00000000000\x0000000000000\0");
    }
    extension[504] = 1;
    old.0.extend(std::iter::repeat_n(extension, 50_001).flatten());
    world.refuses("a million regions", &old.end(), "s: ", "regions in its sparse map");
}
