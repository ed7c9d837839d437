//! Extended attributes. The union's own marks are neither seen nor set through it: what a layer or program has of such
//! names is content, and stands in the upper under another one ([`private_xattr`]).

use rustix::fs::XattrFlags;

use super::Union;
use super::descriptors::Key;
use super::errno::{Errno, FsResult};
use super::outdated::Outdated;
use super::types::{Caller, Ino};
use super::upper::Spot;
use crate::private_xattr;

/// Lost by every write to the file (capabilities(7)).
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// The value of an attribute that a file need not have, nor its file system know.
pub(super) fn optional(spot: &Spot, name: &[u8]) -> FsResult<Option<Vec<u8>>> {
    match spot.get_xattr(name) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(None),
        Err(error) => Err(error),
    }
}

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const ACCESS_LISTS: [&[u8]; 2] = [ACCESS_LIST, b"system.posix_acl_default"];

impl Union {
    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` when there is none of this name.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> FsResult<Vec<u8>> {
        let tree = self.tree.read();
        if tree.nodes.contains_key(&ino) {
            // With the lock: a name may not go elsewhere before its attributes are read.
            let spot = match self.descriptors.cached(Key::UpperData(ino)) {
                Some(file) => Spot::Open(file),
                None => self.spot(&tree, ino)?,
            };
            return spot.get_xattr(&private_xattr::escape(name));
        }
        let found = self.lowers.node(ino).and_then(|node| node.xattrs().find(|(known, _)| *known == name));
        found.map(|(_, value)| value.to_vec()).ok_or(Errno::ENODATA)
    }

    /// The names of all extended attributes, each followed by a NUL.
    ///
    /// # Errors
    /// As `listxattr(2)`.
    pub fn listxattr(&self, ino: Ino) -> FsResult<Vec<u8>> {
        let names = {
            let tree = self.tree.read();
            match tree.nodes.contains_key(&ino) {
                true => {
                    let on_disk = self.spot(&tree, ino)?.list_xattrs()?;
                    on_disk.iter().filter_map(|name| private_xattr::unescape(name)).map(<[u8]>::to_vec).collect()
                }
                false => {
                    let node = self.lowers.node(ino);
                    node.iter().flat_map(crate::index::Node::xattrs).map(|(name, _)| name.to_vec()).collect::<Vec<_>>()
                }
            }
        };
        Ok(names.into_iter().flat_map(|name| name.into_iter().chain([0])).collect())
    }

    /// Sets an extended attribute; `flags` has `XATTR_CREATE` and `XATTR_REPLACE`. An access list takes sgid away if the
    /// caller is not in the file's group (`posix_acl_update_mode`, fs/posix_acl.c).
    ///
    /// # Errors
    /// As `setxattr(2)`.
    pub fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], flags: i32, caller: Caller) -> Outdated<FsResult<()>> {
        // The mode goes with an access list, and the change time with everything.
        Outdated::new(ino, self.set_attribute(ino, name, value, flags, caller), true)
    }

    fn set_attribute(&self, ino: Ino, name: &[u8], value: &[u8], flags: i32, caller: Caller) -> FsResult<()> {
        let flags = u32::try_from(flags).ok().and_then(XattrFlags::from_bits).ok_or(Errno::EINVAL)?;
        self.copy_up(ino)?;
        // A thread that copies data up, or writes late, restores the capability that was there before.
        let _alone = (name == CAPABILITY).then(|| self.copying.lock(ino));
        let mut tree = self.tree.write();
        let spot = self.spot(&tree, ino)?;
        if name == ACCESS_LIST {
            // First: with the list the group's bits are a mask, which gives others than the group something.
            let stat = spot.stat()?;
            if stat.st_mode & 0o2000 != 0 && !caller.keeps_set_group_id(stat.st_gid) {
                spot.chmod(stat.st_mode & 0o5777)?;
            }
        }
        spot.set_xattr(&private_xattr::escape(name), value, flags)?;
        if let Some(node) = tree.nodes.get_mut(&ino) {
            node.inherits = None;
        }
        tree.ctimes.moved(ino);
        Ok(())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` when there is none of this name.
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Outdated<FsResult<()>> {
        Outdated::new(ino, self.remove_attribute(ino, name), true)
    }

    fn remove_attribute(&self, ino: Ino, name: &[u8]) -> FsResult<()> {
        // Only what is there is worth a copy.
        match self.getxattr(ino, name) {
            // An access list that is not there is what the caller wants (`posix_acl_xattr_set`, fs/posix_acl.c).
            Err(Errno::ENODATA) if ACCESS_LISTS.contains(&name) => return Ok(()),
            found => found?,
        };
        self.copy_up(ino)?;
        // A thread that copies data up, or writes late, restores the capability that was there before.
        let _alone = (name == CAPABILITY).then(|| self.copying.lock(ino));
        let mut tree = self.tree.write();
        self.spot(&tree, ino)?.remove_xattr(&private_xattr::escape(name))?;
        tree.ctimes.moved(ino);
        if let Some(node) = tree.nodes.get_mut(&ino) {
            node.inherits = None;
        }
        Ok(())
    }
}
