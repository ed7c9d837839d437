//! Tars that are cut, lie, lead out of the layer or ask for too much.

use super::*;

#[test]
fn the_end_of_a_tar_may_be_odd() {
    let tar = Tar::default().file("a", b"x");
    let whole = tar.clone().end();
    for tail in [&b""[..], b"x", &[0; 10_000], &[7; 300_000], &tar.clone().file("b", b"after the end").end()] {
        let layer = Layer::of(&[&whole[..], tail].concat());
        assert_eq!(layer.unpacked.entries, 1);
        assert_eq!(layer.child("b"), None);
    }
    Layer::of(&tar.0);
    Layer::of(&[&tar.0[..], &[0; 512]].concat());
    for blocks in [1, 2, 20] {
        assert_eq!(Layer::of(&vec![0; blocks * BLOCK]).unpacked.entries, 0);
    }
    // As old builders write a layer without entries.
    let nothing = Layer::of(b"");
    assert_eq!((nothing.unpacked.entries, nothing.unpacked.size), (0, 0));
    assert!(refused(&[&tar.0[..], &[0; 512], &tar.0].concat()).contains("lone block"));
}

#[test]
fn a_tar_that_is_cut_is_refused() {
    let tar = Tar::default()
        .dir("d")
        .pax(&[("path", b"d/long name")])
        .file("x", &[b'x'; 700])
        .body(b'L', b"d/other\0")
        .file("x", b"y");
    let whole = tar.end();
    for cut in (0..=whole.len()).filter(|cut| cut % 7 == 0 || cut % BLOCK <= 1) {
        // Without the blocks of zeros, only the end of an entry can be the end of a tar: all its data are there.
        let allowed = cut == 512 || (2748..=3072).contains(&cut) || (4609..=5120).contains(&cut);
        match unpack_with(&whole[..cut], &Limits::default()) {
            Ok(_) => assert!(allowed || cut == 0 || cut >= whole.len() - BLOCK, "cut at {cut} was taken"),
            Err(Failure::Bad { why, .. }) => {
                assert!(!allowed && cut > 0 && why == "is cut short", "cut at {cut}: {why}");
            }
            Err(other) => panic!("cut at {cut}: {other}"),
        }
        if allowed {
            // It comes back as it was, without what is missing.
            Layer::of(&whole[..cut]);
        }
    }
}

#[test]
fn no_path_leaves_the_layer() {
    let outside = TempDir::new().unwrap();
    let target = outside.path().as_os_str().as_encoded_bytes();
    let link = Tar::default().kind(b'2', b"link", target);
    for hostile in [
        link.clone().file("link/x", b"x"),
        link.clone().dir("link/x"),
        link.clone().file("link/.wh.x", b""),
        link.clone().file("link/.wh..wh..opq", b""),
        link.clone().kind(b'1', b"hard", b"link").file("hard/x", b""),
        Tar::default().dir("d").file("d/y", b"").kind(b'2', b"d", target).file("d/x", b"x"),
    ] {
        let why = refused(&hostile.end());
        assert!(why.contains("passes through the link") && why.contains("does not have"), "{why}");
    }
    for (target, why) in [
        (&b"/etc/passwd"[..], "does not have"),
        (b"../../etc/passwd", "does not have"),
        (b"..", "is the layer's root"),
        (b"", "no name"),
        (b"later", "does not have"),
        (b"d", "is a directory"),
        (b"whiteout", "does not have"),
        (b"f/x", "no directory"),
        (b".wh..wh.plnk/9", "does not have"),
        (b"out/etc/passwd", "does not have"),
        (b"out/d", "is a directory"),
        (b"loop/x", "passes through the link `loop` and more than 40"),
        (b"to-f/x", "lies below `f`, which is no directory"),
    ] {
        let tar = Tar::default().dir("d").file(".wh.whiteout", b"").file("f", b"").kind(b'2', b"out", b"/../..");
        let tar = tar.kind(b'2', b"loop", b"./loop").kind(b'2', b"to-f", b"f").kind(b'1', b"hard", target);
        let refusal = refused(&tar.end());
        assert!(refusal.starts_with("hard: ") && refusal.contains(why), "{refusal}");
    }
    assert!(refused(&Tar::default().file("d/f", b"x").kind(b'1', b"d", b"d/f").end()).contains("would replace"));
    let through = Tar::default().file("d/f", b"x").kind(b'2', b"l", b"d").kind(b'1', b"d", b"l/f");
    assert!(refused(&through.end()).contains("would replace"));
    assert!(refused(&Tar::default().file("f", b"x").file("f/g", b"x").end()).contains("no directory"));
    for root in [
        Tar::default().kind(b'2', b"/.", target),
        Tar::default().kind(b'2', b"a/..", target),
        Tar::default().file("./", b"x"),
        Tar::default().kind(b'1', b".", b"x"),
    ] {
        refused(&root.end());
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn links_are_replaced_and_never_written_through() {
    let outside = TempDir::new().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, b"intact").unwrap();
    rustix::fs::chmod(&victim, 0o600.into()).unwrap();
    let target = victim.as_os_str().as_encoded_bytes();
    let layer = Layer::of(
        &Tar::default()
            .kind(b'2', b"l", target)
            .file("l", b"replaced")
            .kind(b'2', b"m", target)
            .kind(b'1', b"n", b"m")
            .kind(b'1', b"n", b"n")
            .kind(b'2', b"dir", outside.path().as_os_str().as_encoded_bytes())
            .dir("dir")
            .file("dir/victim", b"mine")
            .end(),
    );
    assert_eq!((layer.read("l"), layer.read("dir/victim")), (b"replaced".to_vec(), b"mine".to_vec()));
    assert_eq!(layer.id("m"), layer.id("n"));
    assert_eq!(
        (std::fs::read(&victim).unwrap(), victim.metadata().unwrap().mode() & 0o777),
        (b"intact".to_vec(), 0o600)
    );
}

#[test]
fn headers_that_lie_are_refused() {
    let raw = |field: std::ops::Range<usize>, value: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_path("f").unwrap();
        header.set_mode(0o644);
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.as_mut_bytes()[field][..value.len()].copy_from_slice(value);
        header.set_cksum();
        Tar(header.as_bytes().to_vec()).end()
    };
    Layer::of(&raw(0..1, b"f"));
    for (field, value, why) in [
        (124..136, &[0xff; 12][..], "negative size"),
        (124..136, &[0x80, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0], "malformed size"),
        (124..136, b"9", "malformed size"),
        (124..136, b"77777777777", "cut short"),
        (108..116, &[0xff; 8], "negative uid"),
        (108..116, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "uid out of range"),
        (116..124, &[0x80, 0, 0, 1, 0, 0, 0, 0], "gid out of range"),
        (100..108, b"-1", "malformed mode"),
        (156..157, b"Q", "unknown type"),
        (0..1, b"\0", "no name"),
    ] {
        let refusal = refused(&raw(field, value));
        assert!(refusal.contains(why), "{refusal}, not {why}");
    }
    let mut broken = Tar::default().file("f", b"x").end();
    broken[5] ^= 1;
    assert!(refused(&broken).contains("checksum"));
    // A header of no bytes counts: whatever comes next belongs to it.
    assert_eq!(refused(&Tar::default().file("f", b"").body(b'x', b"").end()), "is cut short");
    assert!(
        refused(&Tar::default().header(b'x', b"h", b"", 1 << 30, |_| {}).data(b"x").end()).contains("extended headers")
    );
    let many = (0..2000).fold(Tar::default(), |tar, _| tar.body(b'x', &pax_body(&[("comment", &[b'c'; 1000])])));
    assert!(refused(&many.file("f", b"").end()).contains("extended headers"));
    for records in [
        &[("path", &b"a\0b"[..])][..],
        &[("size", b"99999999999999999999")],
        &[("size", b"-1")],
        &[("mtime", b"x")],
        &[("uid", b"4294967295")],
        &[("SCHILY.xattr.", b"x")],
        &[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"4")],
        &[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"9223372036854775808")],
    ] {
        refused(&Tar::default().pax(records).file("f", b"12345").end());
    }
    assert!(refused(&Tar::default().body(b'g', &pax_body(&[("size", b"0")])).file("f", b"1").end()).contains("global"));
    assert!(refused(&Tar::default().body(b'g', &pax_body(&[("SCHILY.xattr.a", b"0")])).end()).contains("global"));
    let two = Tar::default().pax(&[("path", b"one")]).body(b'L', b"two\0").file("f", b"");
    assert!(refused(&two.end()).contains("two different"));
}

#[test]
fn a_size_in_an_extended_header_moves_all_that_follows() {
    // A reader that believes the header's size takes the data for entries.
    let hidden = Tar::default().file("smuggled", b"x");
    let size = hidden.0.len().to_string();
    let tar = Tar::default().pax(&[("size", size.as_bytes())]).body(b'L', b"f\0").kind(b'0', b"x", b"").data(&hidden.0);
    let layer = Layer::of(&tar.file("after", b"").end());
    assert_eq!(layer.read("f"), hidden.0);
    assert_eq!((layer.child("smuggled"), layer.unpacked.entries), (None, 2));
    // Only regular files have data: a directory's or link's size is of no account.
    let tar = Tar::default().header(b'5', b"d", b"", 512, |_| {}).header(b'2', b"l", b"t", 99, |_| {}).file("f", b"");
    assert_eq!(Layer::of(&tar.end()).unpacked.entries, 3);
}

#[test]
fn limits_hold() {
    let tar = Tar::default().dir("a").dir("a/b").pax(&[("SCHILY.xattr.user.x", &[1; 100])]).file("a/b/c", b"").end();
    unpack_with(&tar, &Limits::default()).unwrap();
    for (limits, why) in [
        (Limits { entries: 2, ..Limits::default() }, "entries"),
        (Limits { path: 4, ..Limits::default() }, "path of more than 4 bytes"),
        (Limits { depth: 2, ..Limits::default() }, "deep"),
        (Limits { xattrs: 100, ..Limits::default() }, "extended attributes"),
        (Limits { headers: 100, ..Limits::default() }, "extended headers"),
    ] {
        let refusal = unpack_with(&tar, &limits).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refusal.contains(why), "{refusal}, not {why}");
    }
}
