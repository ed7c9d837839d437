//! The directories and files that a command's file systems are mounted on, in the mount that is made for the command: where the
//! image has nothing there, they are of the mount only, and never in the rw layer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Stat;

use crate::container::MOUNTED_DIRECTORIES;
use crate::error::{Context as _, Error, Result};
use crate::index::{Builder, Child, Index, Kind, Meta, NewNode, NodeId};
use crate::stack::{Lower, Stack};
use crate::sys::fs;
use crate::union::{Errno, FsResult, Ino, Union};

/// Where the files are.
const ETC: &[u8] = b"etc";
/// Their times, of which nothing else tells: an unchanged inode of a union has the change time of its last change.
const TIME: (i64, i64) = (0, 0);

/// More links than this lead nowhere (Linux, `MAXSYMLINKS`).
const LINKS: usize = 40;

/// All of them for the command of a container, whose `stack` this is.
///
/// # Errors
/// When it cannot be seen where the container's `etc` leads.
pub(crate) fn of(stack: &Stack, files: impl Iterator<Item = &'static str>) -> Result<Arc<Index>> {
    let opened = || Union::open_to_read(stack.clone()).doing("follow the container's", "/etc");
    let etc = if may_be_link(stack)? { directory(&opened()?, ETC)? } else { None };
    tree(&etc.unwrap_or_else(|| vec![ETC.to_vec()]), files)
}

/// Where the files are in the tree that `open` gives, with the layers and the upper of `stack`.
///
/// # Errors
/// When it cannot be seen where the container's `etc` leads.
pub(super) fn etc(stack: &Stack, open: impl FnOnce() -> Result<Union>) -> Result<PathBuf> {
    let found = if may_be_link(stack)? { directory(&open()?, ETC)? } else { None };
    let names = found.unwrap_or_else(|| vec![ETC.to_vec()]);
    Ok(names.iter().map(|name| OsStr::from_bytes(name)).collect())
}

/// Whether `etc` is a link in one of its layers: few are, and to follow one the union has to be opened.
fn may_be_link(stack: &Stack) -> Result<bool> {
    let is_link = |lower: &Lower| match lower.index.lookup(NodeId::ROOT, ETC) {
        Some(Child::Node(node)) => lower.index.node(node).and_then(|node| node.kind()) == Some(Kind::Symlink),
        _ => false,
    };
    let Some(upper) = &stack.upper else { return Ok(stack.lowers.iter().any(is_link)) };
    let etc = upper.join(OsStr::from_bytes(ETC));
    let found = fs::absent(fs::symlink_metadata(&etc)).doing("look at", &etc)?;
    Ok(stack.lowers.iter().any(is_link) || found.is_some_and(|found| found.is_symlink()))
}

/// The directory that `name` in the root is, or leads to inside the root; `None` when it is none.
fn directory(union: &Union, name: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
    let shown = || Path::new("/").join(OsStr::from_bytes(name));
    follow(union, name).map_err(std::io::Error::from).doing("follow the container's", shown())
}

fn follow(union: &Union, name: &[u8]) -> FsResult<Option<Vec<Vec<u8>>>> {
    let mut at: Vec<(Vec<u8>, Ino)> = Vec::new();
    let mut ahead = vec![name.to_vec()];
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                at.pop();
                continue;
            }
            _ => {}
        }
        let attr = match union.lookup(at.last().map_or(Ino::ROOT, |(_, ino)| *ino), &name) {
            Err(Errno::ENOENT | Errno::ENAMETOOLONG) => return Ok(None),
            found => found?,
        };
        match attr.kind {
            Kind::Directory => at.push((name, attr.ino)),
            Kind::Symlink if links < LINKS => {
                links += 1;
                let target = union.readlink(attr.ino)?;
                if target.starts_with(b"/") {
                    at.clear();
                }
                ahead.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(at.into_iter().map(|(name, _)| name).collect()))
}

/// All of them as a tree, the `files` in the directory `etc`.
///
/// # Errors
/// None that their names could give.
fn tree(etc: &[Vec<u8>], files: impl Iterator<Item = &'static str>) -> Result<Arc<Index>> {
    let mut builder = Builder::new();
    for name in MOUNTED_DIRECTORIES {
        builder.directory(NodeId::ROOT, name.as_bytes());
    }
    let etc = etc.iter().fold(NodeId::ROOT, |dir, name| builder.directory(dir, name));
    for name in files {
        let meta = Meta { kind: Kind::File, mode: 0o644, ..Meta::implied_directory() };
        builder.put(etc, name.as_bytes(), NewNode::new(meta));
    }
    let finished = builder.finish();
    Ok(Arc::new(finished.map_err(|error| Error::Unsupported(format!("the mount points of a command: {error}")))?))
}

/// Whether this is in a mount for its command only, and as it was when it was mounted.
#[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
pub(crate) fn is_unchanged(stat: &Stat) -> bool {
    let nsec = |nsec| i64::try_from(u64::from(nsec)).unwrap_or(i64::MAX);
    let times = [(stat.st_mtime.into(), nsec(stat.st_mtime_nsec)), (stat.st_ctime.into(), nsec(stat.st_ctime_nsec))];
    is_of_command(Ino(stat.st_ino), times)
}

/// The same by the number and the times of last modification and change.
pub(crate) fn is_of_command(ino: Ino, times: [(i64, i64); 2]) -> bool {
    ino.is_mount_point() && times == [TIME; 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::MOUNTED_FILES;

    #[test]
    fn the_tree_has_each_of_them() {
        let tree = tree(&[ETC.to_vec()], MOUNTED_FILES.into_iter()).unwrap();
        let at = |dir, name: &str| match tree.lookup(dir, name.as_bytes()) {
            Some(Child::Node(node)) => node,
            found => panic!("{name}: {found:?}"),
        };
        for name in MOUNTED_DIRECTORIES {
            let node = tree.node(at(NodeId::ROOT, name)).unwrap();
            // What a layer says of it counts.
            assert_eq!((node.kind(), node.is_implied()), (Some(Kind::Directory), true), "{name}");
        }
        for name in MOUNTED_FILES {
            let meta = tree.node(at(at(NodeId::ROOT, "etc"), name)).unwrap().meta().unwrap();
            assert_eq!((meta.kind, meta.mode, meta.size), (Kind::File, 0o644, 0), "{name}");
        }
    }
}
