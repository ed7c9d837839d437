//! What the kernel is told when the connection begins, and what comes of it.

use std::io;

use fuser::{InitFlags, KernelConfig};

/// The largest write and read that the kernel sends at once.
const MAX_WRITE: u32 = 1 << 20;
/// The most background requests that the kernel sends: readahead and write-back, for which no program waits.
const MAX_BACKGROUND: u16 = 64;

/// What is wanted, and after [`Negotiated::agree`] what the kernel does.
#[derive(Debug, Clone)]
pub(super) struct Negotiated {
    /// Whether the kernel may gather writes.
    pub(super) writeback: bool,
    /// How many file systems may be under a file that the kernel reads and writes itself, and over it this one.
    pub(super) stack_depth: u32,
    /// Whether the kernel looks at access lists.
    pub(super) access_lists: bool,
    /// Whether the kernel does without `open` and `opendir`, if it is told so.
    pub(super) no_open: bool,
    pub(super) no_opendir: bool,
    /// Whether files may be found by their handles when the kernel does not know them.
    pub(super) handles: bool,
}

impl Negotiated {
    pub(super) const fn new(writeback: bool, stack_depth: u32) -> Self {
        Self { writeback, stack_depth, access_lists: true, no_open: false, no_opendir: false, handles: true }
    }

    /// Tells the kernel what it may do; with `passes` it reads and writes some files itself.
    pub(super) fn agree(&mut self, config: &mut KernelConfig, passes: bool) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            // Attributes do not change behind the kernel's back, so cached data never go for that.
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
            // The union applies the umask, because a default ACL takes its place.
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_MAX_PAGES,
            // Not FUSE_ATOMIC_O_TRUNC: no open would carry the flag. Never FUSE_ASYNC_DIO: direct writes
            // would overtake buffered reads.
        ];
        for flag in wanted {
            // error: a kernel that lacks one only asks more often.
            config.add_capabilities(flag).unwrap_or_default();
        }
        if self.handles {
            // error: a kernel that lacks it finds those that it knows.
            config.add_capabilities(InitFlags::FUSE_EXPORT_SUPPORT).unwrap_or_default();
        }
        if self.access_lists {
            // error: a kernel that lacks it takes them for attributes like others.
            config.add_capabilities(InitFlags::FUSE_POSIX_ACL).unwrap_or_default();
        }
        if passes {
            // The kernel does not let a mount have this and the write-back cache.
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).map_err(|_| io::ErrorKind::Unsupported)?;
            // error: a kernel that lacks it does with less.
            config.set_max_stack_depth(self.stack_depth).unwrap_or_default();
            // An `open` is sent, so it can carry the flag, and nothing is copied up that is cut off next.
            // error: a kernel that lacks it does with less.
            config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC).unwrap_or_default();
        } else if self.writeback {
            // error: without it every write is a message.
            self.writeback = config.add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE).is_ok();
        }
        self.no_open = !passes && config.capabilities().contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.no_opendir = config.capabilities().contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        // error: a kernel that lacks it asks more often.
        config.add_capabilities(InitFlags::FUSE_NO_OPEN_SUPPORT).unwrap_or_default();
        // error: a kernel that lacks it asks more often.
        config.add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT).unwrap_or_default();
        // error: a kernel that lacks it asks more often.
        config.set_max_write(MAX_WRITE).unwrap_or_default();
        // error: a kernel that lacks it asks more often.
        config.set_max_readahead(MAX_WRITE).unwrap_or_default();
        // error: a kernel that lacks it asks more often.
        config.set_max_background(MAX_BACKGROUND).unwrap_or_default();
        Ok(())
    }
}
