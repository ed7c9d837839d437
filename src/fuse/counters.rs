//! How many messages of each kind the kernel has sent. Forgotten inodes are counted one by one, also when
//! the kernel tells of many in one message.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! operations {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// A kind of message; the names are those of `enum fuse_opcode` (linux/fuse.h).
        #[allow(missing_docs, reason = "the names say it")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Operation {
            $($name),*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name as the kernel writes it, without `FUSE_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text),*
                }
            }
        }
    };
}

operations! {
    Lookup = "LOOKUP", Forget = "FORGET", Getattr = "GETATTR", Setattr = "SETATTR",
    Readlink = "READLINK", Symlink = "SYMLINK", Mknod = "MKNOD", Mkdir = "MKDIR", Unlink = "UNLINK", Rmdir = "RMDIR",
    Rename = "RENAME", Link = "LINK", Open = "OPEN", Read = "READ", Write = "WRITE", Statfs = "STATFS",
    Release = "RELEASE", Fsync = "FSYNC", Setxattr = "SETXATTR", Getxattr = "GETXATTR", Listxattr = "LISTXATTR",
    Removexattr = "REMOVEXATTR", Flush = "FLUSH", Opendir = "OPENDIR", Readdir = "READDIR",
    Readdirplus = "READDIRPLUS", Releasedir = "RELEASEDIR", Fsyncdir = "FSYNCDIR", Access = "ACCESS",
    Create = "CREATE", Ioctl = "IOCTL", Fallocate = "FALLOCATE", Lseek = "LSEEK", CopyFileRange = "COPY_FILE_RANGE",
}

/// Counts messages from several threads.
#[derive(Debug)]
pub struct Counters {
    counts: [AtomicU64; Operation::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Counters {
    pub(super) fn count(&self, operation: Operation) {
        if let Some(count) = self.counts.get(operation as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The operations that came at least once, with how often.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Operation::ALL.iter().map(|operation| operation.name()).zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}
