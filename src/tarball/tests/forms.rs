//! Forms of tars: as GNU tar writes them, and what extended headers say.

use super::*;

#[test]
fn tars_of_all_formats_are_unpacked_and_come_back() {
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        let format = format!("--format={format}");
        let source = sample();
        if format.ends_with("v7") {
            std::fs::remove_file(source.path().join("fifo")).unwrap();
        }
        let layer = Layer::of(&gnu_tar(source.path(), &[&format]));
        assert_same(source.path(), &layer, format.ends_with("posix"));
        assert_eq!(layer.id("usr/bin/tool"), layer.id("usr/bin/also"));
        assert!(layer.meta("zeros").blocks <= 8, "zeros take no room");
        assert!(layer.path("zeros").metadata().unwrap().blocks() <= 8, "zeros take no room on disk");
    }
}

#[test]
fn long_names_come_in_both_spellings() {
    let source = TempDir::new().unwrap();
    let deep = format!("{}/{}", "d".repeat(200), "e".repeat(250));
    std::fs::create_dir_all(source.path().join(&deep)).unwrap();
    let name = format!("{deep}/{}", "f".repeat(255));
    std::fs::write(source.path().join(&name), b"content").unwrap();
    std::os::unix::fs::symlink("t".repeat(3000), source.path().join(format!("{deep}/link"))).unwrap();
    std::fs::hard_link(source.path().join(&name), source.path().join(format!("{deep}/zhard"))).unwrap();
    for format in ["--format=gnu", "--format=posix"] {
        let layer = Layer::of(&gnu_tar(source.path(), &[format]));
        assert_same(source.path(), &layer, false);
    }
}

#[test]
fn sparse_members_become_holes() {
    let source = TempDir::new().unwrap();
    let file = std::fs::File::create(source.path().join("sparse")).unwrap();
    // More regions than a header and one extension block hold.
    for region in 0..60 {
        file.write_at(&[region as u8 + 1; 5000], region * 100_000).unwrap();
    }
    file.set_len(1 << 26).unwrap();
    std::fs::File::create(source.path().join("hole")).unwrap().set_len(1 << 20).unwrap();
    for options in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let tar = gnu_tar(source.path(), &[&["--sparse"], options].concat());
        assert!(tar.len() < 1 << 20, "the tar is not sparse");
        let layer = Layer::of(&tar);
        assert_same(source.path(), &layer, false);
        assert!(layer.path("sparse").metadata().unwrap().blocks() < 3000, "{options:?}: is not sparse");
        assert!(layer.meta("sparse").blocks < 3000);
        assert_eq!(layer.meta("hole").blocks, 0);
    }
}

#[test]
fn holes_without_end_are_not_hashed() {
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.size", b"1000000000000"),
        ("GNU.sparse.map", b"0,1"),
    ];
    let tar = Tar::default().pax(records).file("huge", b"x").file("small", b"y").end();
    assert!(refused(&tar).starts_with("huge: unpacks to more than"));
    let layer = Layer::within(&tar, &Limits::of_own());
    assert_eq!(layer.meta("huge").size, 1_000_000_000_000);
    assert_eq!(layer.digest("huge"), None);
    assert_eq!(layer.digest("small"), Some(Digest::of(b"y")));
}

#[test]
fn pax_records_count_for_more_than_the_header() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Layer::of(
        &Tar::default()
            .body(b'g', &pax_body(&[("mtime", b"5"), ("comment", b"all")]))
            .pax(&[
                ("path", "d/naïve".as_bytes()),
                ("mtime", b"-1.25"),
                ("uid", b"70000"),
                ("gid", b"3000000000"),
                ("size", b"3"),
                ("SCHILY.xattr.user.key", b"first"),
                ("SCHILY.xattr.user.key", b"a\0=\nb"),
                ("SCHILY.xattr.security.capability", &capability),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.acl.access", b"user::rwx,user:x:r--:7,group::r--,mask::r--,other::---"),
            ])
            .header(b'0', b"short", b"", 0, |header| header.set_mode(0o4750))
            .data(b"abc")
            .file("next", b"")
            .end(),
    );
    let meta = layer.meta("d/naïve");
    assert_eq!((meta.uid, meta.gid, meta.size, meta.mode), (70_000, 3_000_000_000, 3, 0o4750));
    assert_eq!(meta.mtime, Time { sec: -2, nsec: 750_000_000 });
    assert_eq!(layer.meta("next").mtime, Time { sec: 5, nsec: 0 });
    let xattrs = layer.xattrs("d/naïve");
    assert_eq!(xattrs.len(), 4);
    assert_eq!(xattrs[&b"user.key"[..]], b"a\0=\nb");
    assert_eq!(xattrs[&b"security.capability"[..]], capability);
    assert_eq!(xattrs[&b"system.posix_acl_access"[..]].len(), 4 + 5 * 8);
    let on_disk = crate::sys::list_xattrs(layer.path("d/naïve").as_os_str().as_encoded_bytes()).unwrap();
    assert!(on_disk.contains(&b"user.key".to_vec()));
    assert!(!on_disk.iter().any(|name| name.starts_with(b"trusted.overlay")), "the tar forged a mark on disk");
    let stat = layer.path("d/naïve").metadata().unwrap();
    assert_eq!((stat.uid(), stat.mtime(), stat.mtime_nsec()), (70_000, -2, 750_000_000));
    assert_eq!(layer.meta("d"), Meta { ..Meta::implied_directory() });
}
