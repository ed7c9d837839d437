//! One tree from a stack of layers: the rules of the union, without FUSE. (stub: signatures)

mod errno;
mod types;

pub use errno::{Errno, FsResult};
pub use types::{Attr, Branch, Caller, DirEntry, Ino, NewFile, RenameMode, SetAttr, SetTime, Statfs};

use crate::stack::Stack;

/// A mounted union.
#[derive(Debug)]
pub struct Union {
    branches: Vec<Branch>,
}

#[allow(unused_variables, missing_docs, clippy::missing_errors_doc)]
impl Union {
    pub fn open(stack: Stack) -> std::io::Result<Self> {
        todo!()
    }
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }
    /// Err(ENOENT): no such name. Counts one kernel reference to the inode (until `forget`).
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> FsResult<Attr> {
        todo!()
    }
    pub fn forget(&self, ino: Ino, count: u64) {
        todo!()
    }
    pub fn getattr(&self, ino: Ino) -> FsResult<Attr> {
        todo!()
    }
    pub fn setattr(&self, ino: Ino, set: &SetAttr, caller: Caller) -> FsResult<Attr> {
        todo!()
    }
    pub fn readlink(&self, ino: Ino) -> FsResult<Vec<u8>> {
        todo!()
    }
    /// Regular files, devices, fifos, sockets. Counts one reference, like the next three and `link`.
    pub fn create(&self, parent: Ino, name: &[u8], new: NewFile, caller: Caller) -> FsResult<Attr> {
        todo!()
    }
    pub fn mkdir(&self, parent: Ino, name: &[u8], mode: u32, umask: u32, caller: Caller) -> FsResult<Attr> {
        todo!()
    }
    pub fn symlink(&self, parent: Ino, name: &[u8], target: &[u8], caller: Caller) -> FsResult<Attr> {
        todo!()
    }
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> FsResult<Attr> {
        todo!()
    }
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> FsResult<()> {
        todo!()
    }
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> FsResult<()> {
        todo!()
    }
    pub fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> FsResult<()> {
        todo!()
    }
    /// Fills `buffer` (its length is what is wanted) and says how much; less only at the end of the file.
    pub fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> FsResult<usize> {
        todo!()
    }
    /// `kill_privileges`: FUSE_WRITE_KILL_SUIDGID.
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8], kill_privileges: bool) -> FsResult<usize> {
        todo!()
    }
    pub fn fsync(&self, ino: Ino, datasync: bool) -> FsResult<()> {
        todo!()
    }
    /// Entries after `offset` (0: from the start) until `take` answers false, which means: not taken.
    /// `plus`: with attributes; then each taken entry but `.` and `..` counts one reference.
    pub fn readdir(
        &self,
        ino: Ino,
        offset: u64,
        plus: bool,
        take: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> FsResult<()> {
        todo!()
    }
    pub fn statfs(&self) -> FsResult<Statfs> {
        todo!()
    }
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> FsResult<Vec<u8>> {
        todo!()
    }
    /// The names, each followed by a NUL, as listxattr(2) gives them.
    pub fn listxattr(&self, ino: Ino) -> FsResult<Vec<u8>> {
        todo!()
    }
    /// `flags`: XATTR_CREATE, XATTR_REPLACE.
    pub fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], flags: i32) -> FsResult<()> {
        todo!()
    }
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> FsResult<()> {
        todo!()
    }
    /// `mode`: FALLOC_FL_*.
    pub fn fallocate(&self, ino: Ino, offset: u64, length: u64, mode: i32, caller: Caller) -> FsResult<()> {
        todo!()
    }
    /// SEEK_DATA and SEEK_HOLE.
    pub fn lseek(&self, ino: Ino, offset: i64, whence: i32) -> FsResult<u64> {
        todo!()
    }
    pub fn copy_file_range(&self, from: (Ino, u64), to: (Ino, u64), length: u64) -> FsResult<u64> {
        todo!()
    }
    /// Makes all changes durable: at the end of a mount.
    pub fn sync(&self) -> FsResult<()> {
        todo!()
    }
}
