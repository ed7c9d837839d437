//! The index of a layer: the truth about its tree, so that no command has to walk `diff/`.
//!
//! An index is made once, by a [`Builder`] that is fed a tar's entries ([`crate::tarball`]) or a plain
//! directory ([`scan()`]), and never changes. Its nodes are the layer's inodes, numbered from 0, the root,
//! in the order in which they first appeared; these numbers become inode numbers of a union. A node has
//! one or more names, each in a directory; a whiteout is a name without a node.
//!
//! - [`build`]: entries in any order, duplicates and replacements included, become a tree
//! - [`mod@format`]: the tree as bytes, and [`Index`], which reads them without trusting them
//! - [`scan()`]: the tree of a plain directory, with whiteouts in AUFS' or overlayfs' spelling
//! - [`overlay_index`]: what overlayfs' upper directory does not say itself
//! - [`mod@reference`]: what a scanned layer says of the layers below it

mod build;
mod building;
mod encode;
mod format;
mod left_out;
mod node;
mod overlay_upper;
mod reference;
mod scan;

pub use build::{Builder, HardLinkError};
pub use building::{Child, NewNode};
pub use format::{Bytes, Children, Dentry, FormatError, Index, Node, Target, VERSION};
pub use overlay_upper::{Indexed, overlay_index};
pub use reference::{RedirectError, Reference, Referent};
pub use scan::{ScanError, Trust, scan, scan_lower, scan_overlay_upper, scan_shown};

/// A node's place in its index: an inode of the layer. 0 is the root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The layer's root directory.
    pub const ROOT: Self = Self(0);
}

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A directory.
    Directory = 1,
    /// A regular file.
    File = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A character device.
    CharDevice = 4,
    /// A block device.
    BlockDevice = 5,
    /// A named pipe.
    Fifo = 6,
    /// A socket.
    Socket = 7,
}

impl Kind {
    /// The `S_IFMT` bits of `st_mode`.
    #[must_use]
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Directory => libc::S_IFDIR,
            Self::File => libc::S_IFREG,
            Self::Symlink => libc::S_IFLNK,
            Self::CharDevice => libc::S_IFCHR,
            Self::BlockDevice => libc::S_IFBLK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
        }
    }

    /// Reads the `S_IFMT` bits of `st_mode`.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFDIR => Self::Directory,
            libc::S_IFREG => Self::File,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Directory,
            2 => Self::File,
            3 => Self::Symlink,
            4 => Self::CharDevice,
            5 => Self::BlockDevice,
            6 => Self::Fifo,
            7 => Self::Socket,
            _ => return None,
        })
    }
}

/// A point in time, as `struct timespec`: seconds since 1970, which may be negative, and 0 to 999,999,999
/// nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC.
    pub sec: i64,
    /// Nanoseconds, always counted forward.
    pub nsec: u32,
}

/// What `stat` tells of a node, apart from its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The type.
    pub kind: Kind,
    /// The permission bits with suid, sgid and sticky (at most 0o7777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Major and minor number of a device; 0, 0 for all else.
    pub rdev: (u32, u32),
    /// Bytes of content; of a symbolic link the length of its target; 0 for all else.
    pub size: u64,
    /// 512-byte blocks that the content takes: less than `size` says for a sparse file.
    pub blocks: u64,
}

impl Meta {
    /// A directory that is only implied by a path below it: 0755, root's, of 1970.
    #[must_use]
    pub const fn implied_directory() -> Self {
        Self {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time { sec: 0, nsec: 0 },
            rdev: (0, 0),
            size: 0,
            blocks: 0,
        }
    }
}

/// Extended attributes: names with values, in the order in which they were given.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;
