//! Owner, mode, times and extended attributes of a file that has its content.

use std::os::fd::AsFd as _;

use rustix::fs::AtFlags;
use rustix::io::{Errno, Result};

use super::super::difference::{Change, Difference};
use super::super::{Failure, disk};
use super::{Entry, Mend, split};
use crate::index::{Kind, Node, NodeId};
use crate::sys;
use crate::sys::call;

impl Mend<'_> {
    /// Sets modes, owners, times and attributes. To be called last: all else changes the times of directories.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn describe(&mut self, differences: &[Difference]) -> std::result::Result<usize, Failure> {
        let count = self.each(differences, |mend, difference| match difference.change {
            Change::Mode | Change::Owner | Change::Time | Change::Xattr => mend.describe_one(&difference.path),
            _ => Ok(false),
        })?;
        for (path, times) in std::mem::take(&mut self.times).all() {
            self.give_times_back(&path, &times).map_err(|error| Failure::write("restore", &path, error))?;
        }
        Ok(count)
    }

    fn describe_one(&mut self, path: &[u8]) -> Result<bool> {
        let node = match self.entry(path) {
            Some(Entry::Node(_, node)) => node,
            None if path.is_empty() => self.index.node(NodeId::ROOT).ok_or(Errno::INVAL)?,
            _ => return Ok(false),
        };
        let Some(meta) = node.meta() else { return Ok(false) };
        let xattrs = node.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let Some((name, dirs)) = split(path) else {
            let root = self.walk.open(&[])?;
            self.remove_xattrs(&sys::proc_path(root.as_fd(), b""), &node)?;
            return disk::describe(&root, &meta, &xattrs, self.modes).map(|()| true);
        };
        let dir = self.walk.open(&dirs)?;
        let stat = call::statat(&*dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        // Where a device could not be made a file is in its place.
        let is_stand_in = matches!(meta.kind, Kind::CharDevice | Kind::BlockDevice)
            && Kind::from_mode(stat.st_mode) == Some(Kind::File);
        if Kind::from_mode(stat.st_mode) != Some(meta.kind) && !is_stand_in {
            return Ok(false);
        }
        self.remove_xattrs(&sys::proc_path(dir.as_fd(), name), &node)?;
        disk::describe_at(&dir, name, &meta, &xattrs, self.modes).map(|()| true)
    }

    /// Removes the attributes that are not the node's: first, as an access list changes what a mode means.
    fn remove_xattrs(&self, path: &[u8], node: &Node<'_>) -> Result<()> {
        let names = match sys::list_xattrs(path) {
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
            names => names?,
        };
        for name in names {
            let is_known =
                node.xattrs().any(|(known, _)| disk::on_disk(known).is_some_and(|on_disk| *on_disk == *name));
            if !is_known && !disk::is_label(&name) {
                match call::lremovexattr(path, &*name) {
                    Err(Errno::NODATA) => {}
                    removed => removed?,
                }
            }
        }
        Ok(())
    }
}
