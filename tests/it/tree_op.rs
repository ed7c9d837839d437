//! The words of the union's oracle: operations on a tree by path, and what they give back.

use layerctl::index::{Kind, Time};
use layerctl::union::RenameMode;

/// One component of a path: any bytes but `/` and NUL.
pub(crate) type Name = Vec<u8>;
/// A path from the tree's root; empty for the root itself.
pub(crate) type Path = Vec<Name>;

/// Reads `a/b/c` as a path.
pub(crate) fn path(text: impl AsRef<[u8]>) -> Path {
    text.as_ref().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

/// A path for messages: long names are cut.
pub(crate) fn show(path: &[Name]) -> String {
    path.iter().fold(String::new(), |text, name| {
        if name.len() > 20 {
            format!("{text}/{}..[{}]", name[..4].escape_ascii(), name.len())
        } else {
            format!("{text}/{}", name.escape_ascii())
        }
    })
}

/// One operation; `P` says how it names files.
///
/// `Utimens` without a time means now. `Seek` (`SEEK_DATA`, `SEEK_HOLE`) says only whether the answer is right,
/// since file systems may differ in it. `Open` keeps a regular file open in a numbered slot. `Reopen` closes a
/// union and opens it again.
#[derive(Debug, Clone)]
pub(crate) enum Op<P> {
    Create { path: P, mode: u32, umask: u32 },
    Mkdir { path: P, mode: u32, umask: u32 },
    Mknod { path: P, kind: Kind, mode: u32, rdev: (u32, u32) },
    Symlink { path: P, target: Vec<u8> },
    Link { from: P, to: P },
    Unlink { path: P },
    Rmdir { path: P },
    Rename { from: P, to: P, mode: RenameMode },
    Write { path: P, offset: u64, data: Vec<u8> },
    Append { path: P, data: Vec<u8> },
    Truncate { path: P, size: u64 },
    Chmod { path: P, mode: u32 },
    Chown { path: P, uid: Option<u32>, gid: Option<u32> },
    Utimens { path: P, mtime: Option<Time> },
    SetXattr { path: P, name: Vec<u8>, value: Vec<u8>, flags: i32 },
    RemoveXattr { path: P, name: Vec<u8> },
    GetXattr { path: P, name: Vec<u8> },
    Fallocate { path: P, mode: i32, offset: u64, length: u64 },
    Readlink { path: P },
    Readdir { path: P },
    Read { path: P, offset: u64, length: usize },
    Seek { path: P, offset: u64, whence: i32 },
    CopyRange { from: P, to: P, offset: u64, length: u64 },
    Stat { path: P },
    Open { path: P, slot: usize },
    Close { slot: usize },
    SlotRead { slot: usize, offset: u64, length: usize },
    SlotWrite { slot: usize, offset: u64, data: Vec<u8> },
    SlotTruncate { slot: usize, size: u64 },
    SlotStat { slot: usize },
    Reopen,
}

impl<P> Op<P> {
    /// The same operation on other names.
    pub(crate) fn map<Q>(&self, mut name: impl FnMut(&P) -> Q) -> Op<Q> {
        match self {
            Self::Create { path, mode, umask } => Op::Create { path: name(path), mode: *mode, umask: *umask },
            Self::Mkdir { path, mode, umask } => Op::Mkdir { path: name(path), mode: *mode, umask: *umask },
            Self::Mknod { path, kind, mode, rdev } => {
                Op::Mknod { path: name(path), kind: *kind, mode: *mode, rdev: *rdev }
            }
            Self::Symlink { path, target } => Op::Symlink { path: name(path), target: target.clone() },
            Self::Link { from, to } => Op::Link { from: name(from), to: name(to) },
            Self::Unlink { path } => Op::Unlink { path: name(path) },
            Self::Rmdir { path } => Op::Rmdir { path: name(path) },
            Self::Rename { from, to, mode } => Op::Rename { from: name(from), to: name(to), mode: *mode },
            Self::Write { path, offset, data } => Op::Write { path: name(path), offset: *offset, data: data.clone() },
            Self::Append { path, data } => Op::Append { path: name(path), data: data.clone() },
            Self::Truncate { path, size } => Op::Truncate { path: name(path), size: *size },
            Self::Chmod { path, mode } => Op::Chmod { path: name(path), mode: *mode },
            Self::Chown { path, uid, gid } => Op::Chown { path: name(path), uid: *uid, gid: *gid },
            Self::Utimens { path, mtime } => Op::Utimens { path: name(path), mtime: *mtime },
            Self::SetXattr { path, name: attribute, value, flags } => {
                Op::SetXattr { path: name(path), name: attribute.clone(), value: value.clone(), flags: *flags }
            }
            Self::RemoveXattr { path, name: attribute } => {
                Op::RemoveXattr { path: name(path), name: attribute.clone() }
            }
            Self::GetXattr { path, name: attribute } => Op::GetXattr { path: name(path), name: attribute.clone() },
            Self::Fallocate { path, mode, offset, length } => {
                Op::Fallocate { path: name(path), mode: *mode, offset: *offset, length: *length }
            }
            Self::Readlink { path } => Op::Readlink { path: name(path) },
            Self::Readdir { path } => Op::Readdir { path: name(path) },
            Self::Read { path, offset, length } => Op::Read { path: name(path), offset: *offset, length: *length },
            Self::Seek { path, offset, whence } => Op::Seek { path: name(path), offset: *offset, whence: *whence },
            Self::CopyRange { from, to, offset, length } => {
                Op::CopyRange { from: name(from), to: name(to), offset: *offset, length: *length }
            }
            Self::Stat { path } => Op::Stat { path: name(path) },
            Self::Open { path, slot } => Op::Open { path: name(path), slot: *slot },
            Self::Close { slot } => Op::Close { slot: *slot },
            Self::SlotRead { slot, offset, length } => Op::SlotRead { slot: *slot, offset: *offset, length: *length },
            Self::SlotWrite { slot, offset, data } => {
                Op::SlotWrite { slot: *slot, offset: *offset, data: data.clone() }
            }
            Self::SlotTruncate { slot, size } => Op::SlotTruncate { slot: *slot, size: *size },
            Self::SlotStat { slot } => Op::SlotStat { slot: *slot },
            Self::Reopen => Op::Reopen,
        }
    }
}

/// When a file was changed: times after the start of the test are all one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(Time),
    InThisTest,
}

impl When {
    pub(crate) fn new(time: Time) -> Self {
        static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
        let start = *START.get_or_init(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            i64::try_from(now.as_secs()).expect("a time") - 600
        });
        if time.sec >= start { Self::InThisTest } else { Self::At(time) }
    }
}

/// What `stat` shows, without what two file systems cannot share: the number, and a directory's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) rdev: (u32, u32),
    pub(crate) size: u64,
    pub(crate) mtime: When,
}

/// What an operation gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Nothing,
    Number(u64),
    Bytes(Vec<u8>),
    Names(std::collections::BTreeMap<Name, Kind>),
    Stat(Stat),
}

/// A value, or an error number.
pub(crate) type Outcome = Result<Value, i32>;

/// A tree that operations can be applied to.
pub(crate) trait Tree {
    fn apply(&mut self, op: &Op<Path>) -> Outcome;
}
