//! The directories and files that a command's file systems are mounted on, in the mount that is made for the command: where the
//! image has nothing there, they are of the mount only, and never in the rw layer.

use std::sync::Arc;

use rustix::fs::Stat;

use crate::container::MOUNTED_DIRECTORIES;
use crate::error::{Error, Result};
use crate::index::{Builder, Index, Kind, Meta, NewNode, NodeId};
use crate::union::Ino;

/// Their times, of which nothing else tells: an unchanged inode of a union has the change time of its last change.
const TIME: (i64, i64) = (0, 0);

/// All of them as a tree, the `files` in `etc`.
///
/// # Errors
/// None that their few names could give.
pub(super) fn tree(files: impl Iterator<Item = &'static str>) -> Result<Arc<Index>> {
    let mut builder = Builder::new();
    for name in MOUNTED_DIRECTORIES {
        builder.directory(NodeId::ROOT, name.as_bytes());
    }
    let etc = builder.directory(NodeId::ROOT, b"etc");
    for name in files {
        let meta = Meta { kind: Kind::File, mode: 0o644, ..Meta::implied_directory() };
        builder.put(etc, name.as_bytes(), NewNode::new(meta));
    }
    let finished = builder.finish();
    Ok(Arc::new(finished.map_err(|error| Error::Unsupported(format!("the mount points of a command: {error}")))?))
}

/// Whether this is in a mount for its command only, and as it was when it was mounted.
#[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
pub(super) fn is_unchanged(stat: &Stat) -> bool {
    let nsec = |nsec| i64::try_from(u64::from(nsec)).unwrap_or(i64::MAX);
    let times = [(stat.st_mtime.into(), nsec(stat.st_mtime_nsec)), (stat.st_ctime.into(), nsec(stat.st_ctime_nsec))];
    is_of_command(Ino(stat.st_ino), times)
}

/// The same by the number and the times of last modification and change.
pub(super) fn is_of_command(ino: Ino, times: [(i64, i64); 2]) -> bool {
    ino.is_mount_point() && times == [TIME; 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::MOUNTED_FILES;
    use crate::index::Child;

    #[test]
    fn the_tree_has_each_of_them() {
        let tree = tree(MOUNTED_FILES.into_iter()).unwrap();
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
