//! What goes in and out of the union: plain values, none of FUSE's types.

use std::path::PathBuf;

use crate::index::{Kind, Time};

/// An inode number of the union: what `st_ino` shows, and what the kernel names a file by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory (`FUSE_ROOT_ID`).
    pub const ROOT: Self = Self(1);

    /// Whether this is the number of a mount point that the lowers do not have ([`Stack::mount_points`](crate::stack::Stack)). It
    /// keeps its number when it is changed.
    #[must_use]
    pub const fn is_mount_point(self) -> bool {
        self.0 >= MOUNT_POINTS && self.0 < UPPER
    }
}

/// The numbers of inodes that only the upper has begin here. Lower numbers stay far below, and both stay below 2^53 for
/// programs that count in doubles.
pub(super) const UPPER: u64 = 1 << 48;
/// The numbers of mount points begin here, whatever the lowers are: no other number depends on whether there are any.
pub(super) const MOUNT_POINTS: u64 = 1 << 47;

/// What `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode number.
    pub ino: Ino,
    /// Tells the inode from others that have its number at another time; 0 for the root, and where nothing can tell.
    pub generation: u32,
    /// The type.
    pub kind: Kind,
    /// Permission bits with suid, sgid and sticky.
    pub mode: u32,
    /// How many names the file has; 2 and the number of subdirectories for a directory.
    pub nlink: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Major and minor number of a device.
    pub rdev: (u32, u32),
    /// Bytes of content.
    pub size: u64,
    /// 512-byte blocks taken.
    pub blocks: u64,
    /// Last access: never changed by reading.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
}

/// The process that sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The user that a new file belongs to.
    pub uid: u32,
    /// The group that a new file belongs to, unless its directory hands on another.
    pub gid: u32,
    /// The process that waits for the answer, which may be asked for its groups and capabilities; 0 for one that is not
    /// seen from here. `None` is this program itself, which may do all.
    pub process: Option<u32>,
}

/// Whether a change of a file's content moves its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// To the present.
    Move,
    /// They stay: the kernel has the right ones, and sends them with a `setattr` if they are others (`FUSE_WRITEBACK_CACHE`).
    Stay,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The present (`UTIME_NOW`).
    Now,
    /// This one.
    At(Time),
}

/// The attributes that a `setattr` changes; `None` leaves one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permission bits with suid, sgid and sticky.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The length: `truncate`.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the content.
    pub mtime: Option<SetTime>,
    /// Last change of anything, as the kernel shows it. No disk can be given one: it is remembered as long as the union
    /// is open.
    pub ctime: Option<Time>,
}

/// What a new file is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFile {
    /// Any type but directory and symbolic link.
    pub kind: Kind,
    /// Permission bits as the program gave them, before the umask.
    pub mode: u32,
    /// The program's umask; a default ACL of the directory takes its place.
    pub umask: u32,
    /// Major and minor number of a device.
    pub rdev: (u32, u32),
}

/// How `rename` treats what is at the new name (`renameat2(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// It makes the rename fail (`RENAME_NOREPLACE`).
    NoReplace,
    /// It takes the old name (`RENAME_EXCHANGE`).
    Exchange,
    /// It is replaced, and a character device 0:0 is left at the old name (`RENAME_WHITEOUT`).
    Whiteout,
}

/// One name of a directory that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The name; `.` and `..` among them.
    pub name: &'a [u8],
    /// The inode, as `st_ino` shows it.
    pub ino: Ino,
    /// The type.
    pub kind: Kind,
    /// Where reading goes on after this entry.
    pub next: u64,
    /// What `stat` shows, where `readdir_plus` was asked and it is not `.` or `..`.
    pub attr: Option<Attr>,
}

/// What `statfs` shows; the units are those of `statvfs(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statfs {
    /// Blocks in all, of `frsize` bytes.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Blocks that an ordinary user may take.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Best size of a transfer.
    pub bsize: u32,
    /// The longest name.
    pub namelen: u32,
    /// The unit of the blocks.
    pub frsize: u32,
}

/// One directory of the stack, as AUFS showed it in `/sys/fs/aufs/si_*/br*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The directory.
    pub path: PathBuf,
    /// Whether it takes changes.
    pub writable: bool,
}

impl Branch {
    /// The branches of a stack, uppermost first.
    #[must_use]
    pub fn of_stack(upper: Option<PathBuf>, lowers: impl IntoIterator<Item = PathBuf>) -> Vec<Self> {
        let upper = upper.into_iter().map(|path| Self { path, writable: true });
        upper.chain(lowers.into_iter().map(|path| Self { path, writable: false })).collect()
    }
}
