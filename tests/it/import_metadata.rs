//! What a layer's tar says of a file is what the file in the store has.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use super::cli::Sandbox;
use super::generator::{Tar, sha256};
use super::listing::xattrs;

/// One entry of a layer, with extended headers before it.
struct Entry<'a> {
    path: &'a str,
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    link: Option<&'a str>,
    device: (u32, u32),
    content: &'a [u8],
    pax: Vec<(&'a str, Vec<u8>)>,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        let kind = tar::EntryType::Regular;
        Self { path: "", kind, mode: 0o644, owner: (0, 0), link: None, device: (0, 0), content: b"", pax: Vec::new() }
    }
}

fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = Tar::new();
    for entry in entries {
        if !entry.pax.is_empty() {
            tar.0.append_pax_extensions(entry.pax.iter().map(|(key, value)| (*key, &value[..]))).expect("memory");
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(entry.kind);
        header.set_path(entry.path).expect("the path is short");
        if let Some(link) = entry.link {
            header.set_link_name(link).expect("the target is short");
        }
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_device_major(entry.device.0).expect("it is a ustar header");
        header.set_device_minor(entry.device.1).expect("it is a ustar header");
        header.set_mtime(1_234_567_890);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        tar.0.append(&header, entry.content).expect("memory takes all");
    }
    tar.finish()
}

/// A store with this one layer, which came through a pipe or in a file, and the directory of its files.
fn import(entries: &[Entry<'_>]) -> (Sandbox, PathBuf) {
    let (sandbox, layer) = (Sandbox::new(), layer(entries));
    sandbox.run_piped(&["import", "-"], &layer).lines();
    let dir = sandbox.root().join("diff").join(sha256(&layer));
    (sandbox, dir)
}

#[test]
fn types_modes_owners_and_times() {
    use tar::EntryType as Type;
    let entries = [
        Entry { path: "./", kind: Type::Directory, mode: 0o701, owner: (7, 8), ..Entry::default() },
        Entry { path: "tmp/", kind: Type::Directory, mode: 0o1777, ..Entry::default() },
        Entry { path: "group/", kind: Type::Directory, mode: 0o2775, owner: (0, 50), ..Entry::default() },
        Entry { path: "suid", mode: 0o4755, owner: (1000, 1001), content: b"x", ..Entry::default() },
        Entry { path: "sgid", mode: 0o2711, owner: (70_000, 2_000_000), ..Entry::default() },
        Entry { path: "nobody", mode: 0, owner: (65_534, 65_534), ..Entry::default() },
        Entry { path: "fifo", kind: Type::Fifo, mode: 0o620, ..Entry::default() },
        Entry { path: "null", kind: Type::Char, mode: 0o666, device: (1, 3), ..Entry::default() },
        Entry { path: "disk", kind: Type::Block, mode: 0o660, owner: (0, 6), device: (259, 300), ..Entry::default() },
        Entry {
            path: "link",
            kind: Type::Symlink,
            mode: 0o777,
            owner: (5, 6),
            link: Some("../no/where"),
            ..Entry::default()
        },
        Entry { path: "group/file", content: b"12345", ..Entry::default() },
    ];
    let (_sandbox, dir) = import(&entries);
    for entry in &entries {
        let metadata = dir.join(entry.path).symlink_metadata().expect(entry.path);
        let kind = metadata.file_type();
        let is_right = match entry.kind {
            Type::Directory => kind.is_dir(),
            Type::Symlink => kind.is_symlink(),
            Type::Fifo => kind.is_fifo(),
            Type::Char => kind.is_char_device(),
            Type::Block => kind.is_block_device(),
            _ => kind.is_file() && metadata.size() == entry.content.len() as u64,
        };
        assert!(is_right, "{}: {kind:?}", entry.path);
        assert_eq!(metadata.mode() & 0o7777, entry.mode, "{}", entry.path);
        assert_eq!((u64::from(metadata.uid()), u64::from(metadata.gid())), entry.owner, "{}", entry.path);
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_234_567_890, 0), "{}", entry.path);
        if kind.is_char_device() || kind.is_block_device() {
            let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            assert_eq!(device, entry.device, "{}", entry.path);
        }
    }
    assert_eq!(dir.join("link").read_link().expect("it is a link"), PathBuf::from("../no/where"));
    assert_eq!(std::fs::read(dir.join("suid")).expect("it is a file"), b"x");
}

#[test]
fn times_have_nanoseconds() {
    let time = |text: &str| vec![("mtime", text.as_bytes().to_vec())];
    let (_sandbox, dir) = import(&[
        Entry { path: "file", pax: time("1700000000.123456789"), ..Entry::default() },
        Entry { path: "old", pax: time("-1.25"), ..Entry::default() },
        Entry { path: "dir/", kind: tar::EntryType::Directory, mode: 0o755, pax: time("1.5"), ..Entry::default() },
        Entry { path: "dir/later", ..Entry::default() },
        Entry {
            path: "link",
            kind: tar::EntryType::Symlink,
            link: Some("x"),
            pax: time("2.000000001"),
            ..Entry::default()
        },
    ]);
    let mtime = |path: &str| {
        let metadata = dir.join(path).symlink_metadata().expect(path);
        (metadata.mtime(), metadata.mtime_nsec())
    };
    assert_eq!(mtime("file"), (1_700_000_000, 123_456_789));
    assert_eq!(mtime("old"), (-2, 750_000_000));
    assert_eq!(mtime("dir"), (1, 500_000_000));
    assert_eq!(mtime("link"), (2, 1));
}

#[test]
fn hard_links_are_one_file() {
    use tar::EntryType::Link;
    let (_sandbox, dir) = import(&[
        Entry { path: "dir/first", mode: 0o600, content: b"content", ..Entry::default() },
        Entry { path: "second", kind: Link, link: Some("dir/first"), ..Entry::default() },
        Entry { path: "third", kind: Link, link: Some("./second"), ..Entry::default() },
        Entry { path: "soft", kind: tar::EntryType::Symlink, link: Some("x"), ..Entry::default() },
        Entry { path: "soft2", kind: Link, link: Some("soft"), ..Entry::default() },
    ]);
    let identity = |path: &str| {
        let metadata = dir.join(path).symlink_metadata().expect(path);
        (metadata.ino(), metadata.nlink())
    };
    assert_eq!(identity("dir/first").1, 3);
    assert_eq!(identity("second"), identity("dir/first"));
    assert_eq!(identity("third"), identity("dir/first"));
    assert_eq!(identity("soft2"), identity("soft"));
    assert_eq!(std::fs::read(dir.join("third")).expect("it is a file"), b"content");
}

#[test]
fn extended_attributes_capabilities_and_acls() {
    // cap_net_raw=ep, in the form of capabilities of version 2.
    let capability = [[1, 0, 0, 2], [0, 0x20, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
    let acl = |entries: &[(u16, u16, u32)]| {
        let entry = |(tag, mode, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &mode.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [2_u32.to_le_bytes().to_vec(), entries.iter().flat_map(entry).collect()].concat()
    };
    let nobody = u32::MAX;
    // user::rw- user:1000:r-- group::r-- mask::r-- other::---
    let access = acl(&[(1, 6, nobody), (2, 4, 1000), (4, 4, nobody), (0x10, 4, nobody), (0x20, 0, nobody)]);
    let default = acl(&[(1, 7, nobody), (4, 5, nobody), (0x20, 0, nobody)]);
    let attribute = |name: &'static str, value: &[u8]| (name, value.to_vec());
    let (_sandbox, dir) = import(&[
        Entry {
            path: "file",
            mode: 0o755,
            owner: (1000, 1000),
            content: b"program",
            pax: vec![
                attribute("SCHILY.xattr.security.capability", &capability),
                attribute("SCHILY.xattr.user.bytes", b"\0\xff=\n"),
                attribute("SCHILY.xattr.user.empty", b""),
                attribute("SCHILY.xattr.trusted.own", b"t"),
            ],
            ..Entry::default()
        },
        Entry {
            path: "binary",
            mode: 0o640,
            pax: vec![attribute("SCHILY.xattr.system.posix_acl_access", &access)],
            ..Entry::default()
        },
        Entry {
            path: "text",
            mode: 0o640,
            pax: vec![attribute("SCHILY.acl.access", b"user::rw-,user:1000:r--,group::r--,mask::r--,other::---")],
            ..Entry::default()
        },
        Entry {
            path: "dir/",
            kind: tar::EntryType::Directory,
            mode: 0o750,
            pax: vec![attribute("SCHILY.xattr.system.posix_acl_default", &default)],
            ..Entry::default()
        },
        // It does not get what its directory gives to new files.
        Entry { path: "dir/plain", mode: 0o644, ..Entry::default() },
    ]);
    let pairs = |path: &str| xattrs(&dir.join(path)).into_iter().collect::<Vec<_>>();
    let pair = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    assert_eq!(
        pairs("file"),
        [
            pair("security.capability", &capability),
            pair("trusted.own", b"t"),
            pair("user.bytes", b"\0\xff=\n"),
            pair("user.empty", b""),
        ]
    );
    assert_eq!(pairs("binary"), [pair("system.posix_acl_access", &access)]);
    assert_eq!(pairs("text"), pairs("binary"));
    assert_eq!(pairs("dir"), [pair("system.posix_acl_default", &default)]);
    assert_eq!(pairs("dir/plain"), []);
    assert_eq!(dir.join("dir/plain").metadata().expect("it is there").mode() & 0o7777, 0o644);
}

#[test]
fn sparse_files_are_sparse() {
    const SIZE: u64 = 64 << 20;
    let mut content = format!("2\n1048576\n6\n{SIZE}\n0\n").into_bytes();
    content.resize(512, 0);
    content.extend(b"island");
    let (_sandbox, dir) = import(&[Entry {
        path: "GNUSparseFile.0/sparse",
        content: &content,
        pax: vec![
            ("GNU.sparse.major", b"1".to_vec()),
            ("GNU.sparse.minor", b"0".to_vec()),
            ("GNU.sparse.name", b"sparse".to_vec()),
            ("GNU.sparse.realsize", SIZE.to_string().into_bytes()),
        ],
        ..Entry::default()
    }]);
    let path = dir.join("sparse");
    let metadata = path.metadata().expect("it is there");
    assert_eq!(metadata.len(), SIZE);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let read = std::fs::read(&path).expect("it can be read");
    let island = &read[1 << 20..][..6];
    assert_eq!(island, b"island");
    assert_eq!(read.iter().filter(|byte| **byte != 0).count(), 6);
}
