//! A union with short words for what the named tests do with it.

use layerctl::index::Time;
use layerctl::union::{Attr, Errno, FsResult, Ino, RenameMode, SetAttr, SetTime, Union};

use super::layer_tree::LayerTree;
use super::model_case::{Fixture, IndexFrom, equal};
use super::tree_op::{Op, Tree as _, Value, path};
use super::tree_snapshot::Snapshot;
use super::union_driver::{Held, ROOT_USER, UnionTree};

/// A union that can be closed and opened again.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) fixture: Fixture,
    /// `None` only between closing and opening again.
    tree: Option<UnionTree>,
}

impl Session {
    /// Over these layers, lowest first.
    pub(crate) fn over(layers: &[LayerTree]) -> Self {
        let fixture = Fixture::new(layers, IndexFrom::Builder);
        let tree = Some(fixture.open());
        Self { fixture, tree }
    }

    /// Over one empty layer.
    pub(crate) fn empty() -> Self {
        Self::over(&[LayerTree::new()])
    }

    /// Closes the union and opens it again: the tree and all its numbers must be the same.
    pub(crate) fn reopen(&mut self) {
        let before = self.snapshot();
        self.close();
        self.tree = Some(self.fixture.open());
        let after = self.snapshot();
        equal(&after, &before, "opened again").expect("the tree is the same after opening again");
        assert_eq!(after.inodes, before.inodes, "the numbers are the same after opening again");
    }

    /// Closes the union: only [`Session::fixture`] is of use after it.
    pub(crate) fn close(&mut self) {
        let tree = self.tree.take().expect("the union is open");
        assert_eq!(std::sync::Arc::strong_count(&tree.union), 1, "nothing is held any more");
    }

    pub(crate) fn tree(&self) -> &UnionTree {
        self.tree.as_ref().expect("the union is open")
    }

    pub(crate) fn union(&self) -> &Union {
        &self.tree().union
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::of_union(self.tree()).expect("the tree can be read")
    }

    fn run(&mut self, op: &Op<super::tree_op::Path>) -> FsResult<Value> {
        self.tree.as_mut().expect("the union is open").apply(op).map_err(Errno)
    }

    pub(crate) fn create(&mut self, name: &str, mode: u32) -> FsResult<()> {
        self.run(&Op::Create { path: path(name), mode, umask: 0 }).map(drop)
    }

    pub(crate) fn mkdir(&mut self, name: &str, mode: u32) -> FsResult<()> {
        self.run(&Op::Mkdir { path: path(name), mode, umask: 0 }).map(drop)
    }

    pub(crate) fn link(&mut self, from: &str, to: &str) -> FsResult<()> {
        self.run(&Op::Link { from: path(from), to: path(to) }).map(drop)
    }

    pub(crate) fn unlink(&mut self, name: impl AsRef<[u8]>) -> FsResult<()> {
        self.run(&Op::Unlink { path: path(name) }).map(drop)
    }

    pub(crate) fn rmdir(&mut self, name: impl AsRef<[u8]>) -> FsResult<()> {
        self.run(&Op::Rmdir { path: path(name) }).map(drop)
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> FsResult<()> {
        self.rename_as(from, to, RenameMode::Replace)
    }

    pub(crate) fn rename_as(&mut self, from: &str, to: &str, mode: RenameMode) -> FsResult<()> {
        self.run(&Op::Rename { from: path(from), to: path(to), mode }).map(drop)
    }

    pub(crate) fn write(&mut self, name: &str, offset: u64, data: &[u8]) -> FsResult<()> {
        self.run(&Op::Write { path: path(name), offset, data: data.to_vec() }).map(drop)
    }

    pub(crate) fn put(&mut self, name: &str, data: &[u8]) {
        self.create(name, 0o644).expect("create");
        self.write(name, 0, data).expect("write");
    }

    pub(crate) fn truncate(&mut self, name: &str, size: u64) -> FsResult<()> {
        self.run(&Op::Truncate { path: path(name), size }).map(drop)
    }

    pub(crate) fn chmod(&mut self, name: &str, mode: u32) -> FsResult<()> {
        self.run(&Op::Chmod { path: path(name), mode }).map(drop)
    }

    pub(crate) fn chown(&mut self, name: &str, uid: u32, gid: u32) -> FsResult<()> {
        self.run(&Op::Chown { path: path(name), uid: Some(uid), gid: Some(gid) }).map(drop)
    }

    pub(crate) fn utimens(&mut self, name: &str, mtime: Time) -> FsResult<()> {
        self.run(&Op::Utimens { path: path(name), mtime: Some(mtime) }).map(drop)
    }

    pub(crate) fn fallocate(&mut self, name: &str, mode: i32, offset: u64, length: u64) -> FsResult<()> {
        self.run(&Op::Fallocate { path: path(name), mode, offset, length }).map(drop)
    }

    pub(crate) fn setxattr(&mut self, name: &str, attribute: &str, value: &[u8]) -> FsResult<()> {
        let op =
            Op::SetXattr { path: path(name), name: attribute.as_bytes().to_vec(), value: value.to_vec(), flags: 0 };
        self.run(&op).map(drop)
    }

    pub(crate) fn getxattr(&mut self, name: &str, attribute: &str) -> FsResult<Vec<u8>> {
        match self.run(&Op::GetXattr { path: path(name), name: attribute.as_bytes().to_vec() })? {
            Value::Bytes(value) => Ok(value),
            other => panic!("getxattr gave {other:?}"),
        }
    }

    pub(crate) fn read(&mut self, name: &str) -> FsResult<Vec<u8>> {
        match self.run(&Op::Read { path: path(name), offset: 0, length: 1 << 20 })? {
            Value::Bytes(content) => Ok(content),
            other => panic!("read gave {other:?}"),
        }
    }

    /// The names of a directory but `.` and `..`, as text.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let dir = self.lookup(name).expect("the directory exists");
        let names = self.tree().entries(dir.ino()).expect("readdir").into_keys();
        names.filter(|name| name != b"." && name != b"..").map(|name| name.escape_ascii().to_string()).collect()
    }

    pub(crate) fn lookup(&self, name: impl AsRef<[u8]>) -> FsResult<Held> {
        self.tree().lookup(&path(name))
    }

    pub(crate) fn stat(&self, name: impl AsRef<[u8]>) -> FsResult<Attr> {
        let held = self.lookup(name)?;
        self.union().getattr(held.ino())
    }

    pub(crate) fn fstat(&self, held: &Held) -> Attr {
        self.union().getattr(held.ino()).expect("getattr")
    }

    pub(crate) fn ino(&self, name: &str) -> Ino {
        self.stat(name).expect("stat").ino
    }

    pub(crate) fn setattr(&self, ino: Ino, set: &SetAttr) -> FsResult<Attr> {
        self.union().setattr(ino, set, ROOT_USER).untold()
    }

    /// Sets mtime to the beginning of 2001, so that a later change shows.
    pub(crate) fn age(&self, name: &str) {
        let held = self.lookup(name).expect("lookup");
        let then = SetTime::At(Time { sec: 978_307_200, nsec: 0 });
        let set = SetAttr { atime: Some(then), mtime: Some(then), ..SetAttr::default() };
        self.setattr(held.ino(), &set).expect("utimens");
    }

    /// Whether mtime is not what [`Session::age`] and a layer's files have.
    pub(crate) fn is_new(&self, name: &str) -> bool {
        self.stat(name).expect("stat").mtime.sec > 1_500_000_000
    }
}
