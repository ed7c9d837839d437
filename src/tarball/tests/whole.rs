//! Deep trees, full disks, damage, and random tars: a tar comes back as it was, or is refused.

use proptest::prelude::*;

use super::*;

#[test]
fn a_deep_tree_needs_few_descriptors_and_can_be_replaced() {
    let mut tar = Tar::default();
    let deep = b"d/".repeat(1500);
    tar = tar.pax(&[("path", &[&deep, &b"f"[..]].concat())]).file("f", b"bottom");
    tar = tar.pax(&[("path", &[&deep, &b"g"[..]].concat())]).file("g", b"bottom too");
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let layer = Layer::of(&tar.clone().end());
    // Other tests of this process have some open too, for a moment.
    let mut looks = 0..200;
    while open() > before + 100 {
        assert!(looks.next().is_some(), "descriptors were left open");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(layer);
    let layer = Layer::of(&tar.file("d", b"flat").end());
    assert_eq!(layer.read("d"), b"flat");
    assert_eq!(layer.unpacked.index.node_count(), 2);
}

#[test]
fn a_full_disk_is_not_the_tars_fault() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(libc::ENOSPC))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let tar = Tar::default().file("f", b"x").end();
    let dir = TempDir::new().unwrap();
    let into = std::fs::File::open(dir.path()).unwrap();
    let error = unpack(&mut &tar[..], into.as_fd(), &mut Full, &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot write the tar's split: No space left on device (os error 28)");
    let layer = Layer::of(&tar);
    let dir = std::fs::File::open(layer.path("")).unwrap();
    assert!(matches!(assemble(&mut &layer.split[..], dir.as_fd(), &mut Full), Err(Failure::Write { .. })));
}

#[test]
fn a_damaged_split_or_directory_is_seen() {
    let tar = Tar::default().file("d/f", &[7; 1000]).file("g", b"x").end();
    let layer = Layer::of(&tar);
    for cut in 0..layer.split.len() {
        assert!(matches!(layer.assemble(&layer.split[..cut]), Err(Failure::Bad { .. })), "cut at {cut}");
    }
    for at in 0..layer.split.len() {
        let mut split = layer.split.clone();
        split[at] ^= 0x10;
        if let Ok((digest, out)) = layer.assemble(&split) {
            assert_eq!((digest, out == tar), (layer.unpacked.diff_id.0, true), "changed at {at}");
        }
    }
    let forged = |records: &[u8]| [split::MAGIC, &zstd::encode_all(records, 3).unwrap()[..]].concat();
    let long = [&[split::LITERAL][..], &[0xff; 9], &[1]].concat();
    for records in [
        &b""[..],
        &[split::END, 1],
        &[split::END, 0, 0],
        &[9],
        &[split::CONTENT, 4, b'.', b'.', b'/', b'x', 1, 0, 1, split::END, 1],
        &[split::CONTENT, 0, 1, 0, 1, split::END, 1],
        &[split::CONTENT, 1, b'd', 1, 0, 1, split::END, 1],
        &[split::CONTENT, 1, b'g', 1, 5, 1, split::END, 1],
        &[split::CONTENT, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[split::LITERAL, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &long,
    ] {
        assert!(matches!(layer.assemble(&forged(records)), Err(Failure::Bad { .. })), "{records:?}");
    }
    assert!(layer.assemble(&forged(&[split::CONTENT, 1, b'g', 1, 0, 1, split::END, 1])).is_ok());
    std::fs::remove_file(layer.path("g")).unwrap();
    std::os::unix::fs::symlink("d/f", layer.path("g")).unwrap();
    assert_eq!(layer.assemble(&layer.split).unwrap_err().to_string(), "g: is missing from the layer");
    std::fs::write(layer.path("d/f"), [7; 999]).unwrap();
    assert_eq!(layer.assemble(&layer.split).unwrap_err().to_string(), "d/f: is shorter than in the tar");
}

fn seed() -> Vec<u8> {
    Tar::default()
        .dir("d")
        .file("d/f", &[1; 600])
        .kind(b'1', b"h", b"d/f")
        .kind(b'2', b"l", b"../x")
        .pax(&[("path", b"d/p"), ("SCHILY.xattr.user.a", b"b")])
        .file("x", b"pax")
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"5000")])
        .file("s", &[&b"1\n100\n3\n"[..], &[0; 504], b"abc"].concat())
        .file("d/.wh.w", b"")
        .file("d/f", b"again")
        .end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Changed bytes, with right checksums, give a tree or a refusal; and a tree gives the tar back.
    #[test]
    fn any_tar_is_refused_or_comes_back(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut tar = seed();
        let mut blocks: Vec<[u8; BLOCK]> = tar.as_chunks().0.to_vec();
        for (from, to) in moves {
            let block = *from.get(&blocks);
            let to = to.index(blocks.len());
            blocks.insert(to, block);
        }
        tar = blocks.concat();
        for (at, byte) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        for block in tar.as_chunks_mut::<BLOCK>().0 {
            if &block[257..262] == b"ustar" {
                let mut header = tar::Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        if let Some(cut) = cut {
            tar.truncate(cut.index(tar.len()));
        }
        match unpack_with(&tar, &Limits::default()) {
            Ok(layer) => prop_assert!(layer.assemble(&layer.split).unwrap().1 == tar),
            Err(Failure::Bad { .. }) => {}
            // A sparse file can be larger than the file system allows.
            Err(Failure::Write { doing: "write", source, .. }) if source.raw_os_error() == Some(libc::EFBIG) => {}
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
