//! Whole tars: as GNU tar writes them, as no known program writes them, and as an attacker would.

mod forms;
mod links;
mod refused;
mod replaced;
mod whole;

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::*;
use crate::id::{DiffId, Digest};
use crate::index::{Child, Kind, Meta, NodeId, Time};

/// A tar that is put together by hand.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(mut self, kind: u8, path: &[u8], link: &[u8], size: u64, change: impl FnOnce(&mut tar::Header)) -> Self {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link);
        old.linkflag = [kind];
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(size);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    fn kind(self, kind: u8, path: &[u8], link: &[u8]) -> Self {
        self.header(kind, path, link, 0, |_| {})
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.header(b'0', path.as_bytes(), b"", data.len() as u64, |_| {}).data(data)
    }

    fn dir(self, path: &str) -> Self {
        self.kind(b'5', path.as_bytes(), b"")
    }

    fn body(self, kind: u8, body: &[u8]) -> Self {
        self.header(kind, b"././@Extended", b"", body.len() as u64, |_| {}).data(body)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.body(b'x', &pax_body(records))
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

fn pax_body(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
        body.extend([format!("{} {key}=", rest + digits).as_bytes(), value, b"\n"].concat());
    }
    body
}

struct Layer {
    dir: TempDir,
    unpacked: Unpacked,
    split: Vec<u8>,
}

fn unpack_with(mut tar: &[u8], limits: &Limits) -> Result<Layer, Failure> {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("layer")).unwrap();
    let into = std::fs::File::open(dir.path().join("layer")).unwrap();
    let mut split = Vec::new();
    let unpacked = unpack(&mut tar, into.as_fd(), &mut split, limits);
    let beside: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["layer"], "something was made outside the layer's directory");
    Ok(Layer { dir, unpacked: unpacked?, split })
}

fn refused(tar: &[u8]) -> String {
    match unpack_with(tar, &Limits::default()) {
        Err(bad @ Failure::Bad { .. }) => bad.to_string(),
        Err(other) => panic!("not the tar's fault: {other}"),
        Ok(_) => panic!("was unpacked"),
    }
}

impl Layer {
    /// Unpacks, and checks that the tar can be given back.
    fn of(tar: &[u8]) -> Self {
        Self::within(tar, &Limits::default())
    }

    fn within(tar: &[u8], limits: &Limits) -> Self {
        let layer = unpack_with(tar, limits).unwrap();
        let (digest, again) = layer.assemble(&layer.split).unwrap();
        assert!(again == tar, "the tar came back different");
        assert_eq!(digest, Digest::of(tar));
        assert_eq!(layer.unpacked.diff_id, DiffId(digest));
        assert_eq!(layer.unpacked.size, tar.len() as u64);
        audit(&mut &*layer.split).unwrap();
        layer
    }

    fn assemble(&self, mut split: &[u8]) -> Result<(Digest, Vec<u8>), Failure> {
        let dir = std::fs::File::open(self.path("")).unwrap();
        let mut out = Vec::new();
        let digest = assemble(&mut split, dir.as_fd(), &mut out)?;
        Ok((digest, out))
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("layer").join(path)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.path(path)).unwrap()
    }

    fn child(&self, path: &str) -> Option<Child> {
        path.split('/').try_fold(Child::Node(NodeId::ROOT), |at, name| match at {
            Child::Node(id) => self.unpacked.index.lookup(id, name.as_bytes()),
            Child::Whiteout => None,
        })
    }

    fn id(&self, path: &str) -> NodeId {
        match self.child(path) {
            Some(Child::Node(id)) => id,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn meta(&self, path: &str) -> Meta {
        self.unpacked.index.node(self.id(path)).unwrap().meta().unwrap()
    }

    fn digest(&self, path: &str) -> Option<Digest> {
        self.unpacked.index.node(self.id(path)).unwrap().digest()
    }

    fn xattrs(&self, path: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let node = self.unpacked.index.node(self.id(path)).unwrap();
        node.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }
}

fn gnu_tar(dir: &Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(dir).args(options).args(["-cf", "-", "."]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A tree with one of everything that all formats can hold.
fn sample() -> TempDir {
    let dir = TempDir::new().unwrap();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("usr/bin")).unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::write(at("usr/bin/tool"), b"#!/bin/sh\n".repeat(100_001)).unwrap();
    std::fs::write(at("usr/nothing"), b"").unwrap();
    std::fs::write(at("zeros"), [vec![0; 10_000], b"x".to_vec(), vec![0; 5000]].concat()).unwrap();
    std::fs::hard_link(at("usr/bin/tool"), at("usr/bin/also")).unwrap();
    std::os::unix::fs::symlink("../bin/tool", at("usr/link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
    rustix::fs::chmod(at("usr/bin/tool"), 0o4755.into()).unwrap();
    rustix::fs::chmod(at("empty"), 0o1770.into()).unwrap();
    dir
}

/// Compares metadata and content of all files; times to the second unless `exact`.
fn assert_same(source: &Path, layer: &Layer, exact: bool) {
    let mut todo = vec![String::new()];
    while let Some(path) = todo.pop() {
        let (from, to) = (source.join(&path), layer.path(&path));
        let (a, b) = (from.symlink_metadata().unwrap(), to.symlink_metadata().unwrap());
        assert_eq!((a.mode(), a.uid(), a.gid(), a.mtime()), (b.mode(), b.uid(), b.gid(), b.mtime()), "{path}");
        assert!(a.is_dir() || a.nlink() == b.nlink(), "{path}");
        if exact {
            assert_eq!(a.mtime_nsec(), b.mtime_nsec(), "{path}");
        }
        if !path.is_empty() {
            let meta = layer.meta(&path);
            assert_eq!(meta.kind.mode_bits() | meta.mode, a.mode(), "{path}");
            assert_eq!((meta.uid, meta.gid, meta.mtime.sec), (a.uid(), a.gid(), a.mtime()), "{path}");
            assert!(a.is_dir() || meta.size == a.size(), "{path}");
        }
        if a.is_file() {
            let content = std::fs::read(&from).unwrap();
            assert!(content == std::fs::read(&to).unwrap(), "{path}");
            assert_eq!(layer.digest(&path), Some(Digest::of(&content)), "{path}");
        } else if a.is_symlink() {
            assert_eq!(from.read_link().unwrap(), to.read_link().unwrap());
        } else if a.is_dir() {
            let names = |dir: &Path| {
                let names =
                    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
                names.collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(names(&from), names(&to), "{path}");
            todo.extend(
                names(&from).iter().map(|name| if path.is_empty() { name.clone() } else { format!("{path}/{name}") }),
            );
        }
    }
}
