//! Files with several names: which of them is at a name, and at which name it is as it should be.

use std::collections::HashSet;

use rustix::fs::AtFlags;
use rustix::io::{Errno, Result};

use super::super::content::digest_of;
use super::super::difference::joined;
use super::{BUFFER, Good, Inode, Mend, readable, split};
use crate::index::{Kind, Node, NodeId};
use crate::sys::call;

impl Mend<'_> {
    pub(super) fn inode(&mut self, path: &[u8]) -> Result<Inode> {
        let (name, dirs) = split(path).ok_or(Errno::INVAL)?;
        let stat = call::statat(&*self.walk.open(&dirs)?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// All paths of a node.
    pub(super) fn paths(&self, id: NodeId) -> Vec<Vec<u8>> {
        let path = |(dir, name): (NodeId, &[u8])| Some(joined(&self.index.path(dir)?, name));
        self.index.names(id).filter_map(path).collect()
    }

    /// The one of a node's names at which it is as it should be, but for what is described.
    pub(super) fn good_name(&mut self, names: &[Vec<u8>], node: &Node<'_>) -> Result<Option<Good>> {
        let (mut buffer, mut seen) = (vec![0; BUFFER], HashSet::new());
        for path in names {
            let Some((name, dirs)) = split(path) else { continue };
            let Some(dir) = readable(self.walk.open(&dirs))? else { continue };
            let Some(stat) = readable(call::statat(&*dir, name, AtFlags::SYMLINK_NOFOLLOW))? else { continue };
            let inode = (stat.st_dev, stat.st_ino);
            if !seen.insert(inode) {
                continue;
            }
            let is_good = match Kind::from_mode(stat.st_mode) {
                kind if kind != node.kind() => false,
                Some(Kind::File) if node.digest().is_some() => {
                    readable(digest_of(&dir, name, &mut buffer))?.is_some_and(|digest| digest == node.digest())
                }
                Some(Kind::File) => node.meta().is_some_and(|meta| meta.size == 0) && stat.st_size == 0,
                Some(Kind::Symlink) => call::readlinkat(&*dir, name)?.as_bytes() == node.target(),
                _ => true,
            };
            if is_good {
                return Ok(Some(Good { path: path.clone(), inode }));
            }
        }
        Ok(None)
    }
}
