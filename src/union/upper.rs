//! The upper directory as it is on disk: whiteouts, marks and the private corners.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno as Raw;

use super::disk_dir::{DIRECTORY, open_directory, read_directory, remove_tree};
use super::errno::{Errno, FsResult};
use super::marks;
pub(super) use super::marks::Mark;
use super::time_limits::TimeLimits;
use super::times_mark;
use crate::index::NodeId;
use crate::private_xattr;
use crate::sys::{self, call};
use crate::whiteout;

/// An upper directory that is open.
#[derive(Debug)]
pub(super) struct Upper {
    pub(super) root: Arc<OwnedFd>,
    /// Opened for `syncfs` alone: each descriptor is told an error once.
    pub(super) syncing: OwnedFd,
    /// Where things are made before they get their names; none where nothing is made.
    work: Option<OwnedFd>,
    /// The times that its file system can hold.
    pub(super) times: TimeLimits,
    /// Which of [`private_xattr::OWN`] works here, if any does.
    pub(super) marks: Option<&'static [u8]>,
    next_temporary: AtomicU64,
    is_untidy: AtomicBool,
}

/// An upper directory that is to be read only.
pub(super) enum Readable {
    /// It can be read as it is.
    InOrder(Upper),
    /// No union has ever written to it: it changes nothing. As long as this is open none does.
    Unused(OwnedFd),
    /// The last union did not end well: it must be opened and brought into order first.
    Untidy,
}

/// A file of the upper: by its name, or by a descriptor when it has none.
#[derive(Debug, Clone)]
pub(super) enum Spot {
    Named(Arc<OwnedFd>, Box<[u8]>),
    Open(Arc<OwnedFd>),
}

const PRIVATE_MODE: Mode = Mode::RWXU;
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

impl Upper {
    /// Opens `path`, which `is_private` to the store. The second value tells whether the last union did not end well.
    ///
    /// # Errors
    /// `EBUSY` when another union has it; when this process could not see its marks; what the system says.
    pub(super) fn open(path: &Path, is_private: bool) -> io::Result<(Self, bool)> {
        let root = call::open(path, DIRECTORY.difference(OFlags::NOFOLLOW | OFlags::NOATIME), Mode::empty())?;
        if sys::is_in_own_mount(path)? {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is in a mount of layerctl, which reserves the names that begin with .wh.: an upper directory must be on \
                 another file system, such as a volume or a tmpfs",
            ));
        }
        lock(&root)?;
        let recorded = recorded_prefix(&root)?;
        times_mark::restore(root.as_fd(), recorded)?;
        let is_new = make_private(&root, recorded, whiteout::WORK)?;
        let unclean = !is_new || is_there(&root, whiteout::LINKS)? || is_there(&root, whiteout::ORPHANS)?;
        let work = open_directory(root.as_fd(), whiteout::WORK)?;
        let marks =
            marks::prefix(root.as_fd(), work.as_fd(), is_private, || Ok(read_directory(root.as_fd())?.is_empty()))?;
        let times = TimeLimits::of(&work)?;
        Ok((Self::of(root, Some(work), times, marks)?, unclean))
    }

    /// Opens `path`, which is private to the store, to be read only.
    ///
    /// # Errors
    /// As [`Upper::open`].
    pub(super) fn open_to_read(path: &Path) -> io::Result<Readable> {
        let root = call::open(path, DIRECTORY.difference(OFlags::NOFOLLOW | OFlags::NOATIME), Mode::empty())?;
        lock(&root)?;
        let content = read_directory(root.as_fd())?;
        let Some(prefix) = recorded_prefix(&root)? else {
            return Ok(if content.is_empty() { Readable::Unused(root) } else { Readable::Untidy });
        };
        for name in [whiteout::WORK, whiteout::LINKS, whiteout::ORPHANS] {
            if is_there(&root, name)? {
                return Ok(Readable::Untidy);
            }
        }
        if times_mark::is_there(root.as_fd(), prefix)? {
            return Ok(Readable::Untidy);
        }
        if prefix == private_xattr::OWN[0] && !private_xattr::sees_trusted()? {
            return Err(private_xattr::hidden());
        }
        let times = TimeLimits::without_trace(&root)?;
        let upper = Self::of(root, None, times, Some(prefix))?;
        // It was used by no union yet that came to the end of its beginning.
        let is_described = upper.mark(&Spot::Open(upper.root.clone()), Mark::Described)?.is_some();
        Ok(if is_described { Readable::InOrder(upper) } else { Readable::Untidy })
    }

    fn of(root: OwnedFd, work: Option<OwnedFd>, times: TimeLimits, marks: Option<&'static [u8]>) -> io::Result<Self> {
        let syncing = call::openat(&root, c".", DIRECTORY.difference(OFlags::NOATIME), Mode::empty())?;
        Ok(Self {
            root: Arc::new(root),
            syncing,
            work,
            times,
            marks,
            next_temporary: AtomicU64::new(0),
            is_untidy: AtomicBool::new(false),
        })
    }

    /// Where things are made before they get their names.
    ///
    /// # Errors
    /// `EROFS` where nothing is made.
    pub(super) fn work(&self) -> FsResult<&OwnedFd> {
        self.work.as_ref().ok_or(Errno::EROFS)
    }

    /// A name that is free in the work directory.
    pub(super) fn temporary(&self) -> Vec<u8> {
        format!("t{}", self.next_temporary.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }

    /// A private directory of the root, made when it is first needed.
    pub(super) fn private(&self, name: &[u8]) -> FsResult<OwnedFd> {
        match open_directory(self.root.as_fd(), name) {
            Err(Errno::ENOENT) => {}
            // Where nothing is made, the root's times must not be touched: another request may just be setting them.
            opened => return opened,
        }
        self.work()?;
        make_private(&self.root, self.marks, name)?;
        open_directory(self.root.as_fd(), name)
    }

    /// Hides `name` of the lower layers in `dir`.
    pub(super) fn create_whiteout(&self, dir: BorrowedFd<'_>, name: &[u8]) -> FsResult<()> {
        let (file, content) = whiteout::on_disk(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        if content.is_empty() {
            return match call::openat(dir, &*file, flags, Mode::RUSR) {
                Ok(_) | Err(Raw::EXIST) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        let temporary = self.temporary();
        let work = self.work()?;
        let placed = call::openat(work, &*temporary, flags, Mode::RUSR).map_err(Errno::from).and_then(|long| {
            write_all(long.as_fd(), 0, &content)?;
            Ok(call::renameat(work, &*temporary, dir, &*file)?)
        });
        placed.inspect_err(|_| self.clean_up(|| remove_tree(work.as_fd(), &temporary)))
    }

    /// Ends what [`Upper::create_whiteout`] began.
    pub(super) fn remove_whiteout(&self, dir: BorrowedFd<'_>, name: &[u8]) -> FsResult<()> {
        let (file, _) = whiteout::on_disk(name);
        match call::unlinkat(dir, &*file, AtFlags::empty()) {
            Ok(()) | Err(Raw::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Hides all lower content of `dir`.
    pub(super) fn create_opaque(&self, dir: BorrowedFd<'_>) -> FsResult<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        call::openat(dir, whiteout::OPAQUE, flags, Mode::RUSR)?;
        Ok(())
    }

    /// Takes away the private corners: nothing of the union's own is left in a layer that is not in use. The work
    /// directory goes last, since it tells the next union that there is something to bring into order. To be called when
    /// the upper [is tidy](Self::is_untidy).
    ///
    /// # Errors
    /// What keeps something from going, or from having been brought into order: that is left to the next union.
    pub(super) fn close(&self) -> FsResult<()> {
        if self.work.is_none() {
            return Ok(());
        }
        let closed = times_mark::keeping(self.root.as_fd(), self.marks, || {
            // With a file in it, it is a journal.
            match call::unlinkat(&self.root, whiteout::LINKS, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Raw::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            remove_tree(self.root.as_fd(), whiteout::ORPHANS)?;
            remove_tree(self.root.as_fd(), whiteout::WORK)
        });
        if let Err(error) = closed {
            // The root may have the times of what has gone.
            times_mark::restore(self.root.as_fd(), self.marks)?;
            return Err(error);
        }
        Ok(())
    }

    /// Whether something is left that could not go at its time.
    pub(super) fn is_untidy(&self) -> bool {
        self.is_untidy.load(Ordering::Relaxed)
    }

    /// All that was left has gone.
    pub(super) fn set_tidy(&self) {
        self.is_untidy.store(false, Ordering::Relaxed);
    }

    /// Takes away the rest of an operation, without which nothing is other than it should be. What cannot go is left to
    /// the end of the union, and then to the next one.
    pub(super) fn clean_up(&self, remove: impl FnOnce() -> FsResult<()>) {
        // error: what there is of it is found later, whatever went wrong
        if remove().is_err() {
            self.is_untidy.store(true, Ordering::Relaxed);
        }
    }
}

impl Spot {
    pub(super) fn stat(&self) -> FsResult<Stat> {
        Ok(match self {
            Self::Named(dir, name) => call::statat(dir, &**name, AtFlags::SYMLINK_NOFOLLOW)?,
            Self::Open(file) => call::fstat(file)?,
        })
    }

    /// A path for the calls that take no descriptor, and whether its last component is a magic link
    /// that must be followed.
    fn path(&self) -> (Cow<'_, [u8]>, bool) {
        match self {
            Self::Named(dir, name) => (sys::proc_path(dir.as_fd(), name).into(), false),
            Self::Open(file) => (format!("/proc/self/fd/{}", file.as_raw_fd()).into_bytes().into(), true),
        }
    }

    pub(super) fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> FsResult<()> {
        let (uid, gid) = (uid.map(rustix::fs::Uid::from_raw), gid.map(rustix::fs::Gid::from_raw));
        match self {
            Self::Named(dir, name) => call::chownat(dir, &**name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?,
            Self::Open(file) => call::chownat(file, "", uid, gid, AtFlags::EMPTY_PATH)?,
        }
        Ok(())
    }

    /// Not for symbolic links, which have no mode.
    pub(super) fn chmod(&self, mode: u32) -> FsResult<()> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match self {
            Self::Named(dir, name) => call::chmodat(dir, &**name, mode, AtFlags::empty())?,
            Self::Open(_) => call::chmodat(rustix::fs::CWD, &*self.path().0, mode, AtFlags::empty())?,
        }
        Ok(())
    }

    pub(super) fn set_times(&self, times: &Timestamps) -> FsResult<()> {
        match self {
            Self::Named(dir, name) => call::utimensat(dir, &**name, times, AtFlags::SYMLINK_NOFOLLOW)?,
            Self::Open(_) => call::utimensat(rustix::fs::CWD, &*self.path().0, times, AtFlags::empty())?,
        }
        Ok(())
    }

    /// Opens the file anew, in a way that reading it leaves no trace.
    pub(super) fn open(&self, flags: OFlags) -> FsResult<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOATIME;
        Ok(match self {
            Self::Named(dir, name) => call::openat(dir, &**name, flags | OFlags::NOFOLLOW, Mode::empty())?,
            Self::Open(_) => call::open(&*self.path().0, flags, Mode::empty())?,
        })
    }

    pub(super) fn get_xattr(&self, name: &[u8]) -> FsResult<Vec<u8>> {
        Ok(match self {
            Self::Named(..) => sys::read_xattr(&self.path().0, name)?,
            Self::Open(file) => match sys::read_xattr_of(file.as_fd(), name) {
                // Open as a place only (O_PATH).
                Err(Raw::BADF) => sys::read_xattr_following(&self.path().0, name)?,
                read => read?,
            },
        })
    }

    pub(super) fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> FsResult<()> {
        match self.path() {
            (path, false) => call::lsetxattr(&*path, name, value, flags)?,
            (path, true) => call::setxattr(&*path, name, value, flags)?,
        }
        Ok(())
    }

    pub(super) fn remove_xattr(&self, name: &[u8]) -> FsResult<()> {
        match self.path() {
            (path, false) => call::lremovexattr(&*path, name)?,
            (path, true) => call::removexattr(&*path, name)?,
        }
        Ok(())
    }

    pub(super) fn list_xattrs(&self) -> FsResult<Vec<Vec<u8>>> {
        let (path, follow) = self.path();
        let listed = if follow { sys::list_xattrs_following(&path) } else { sys::list_xattrs(&path) };
        match listed {
            Err(Raw::NOTSUP) => Ok(Vec::new()),
            listed => Ok(listed?),
        }
    }
}

/// Whether the root has this private directory.
fn is_there(root: &OwnedFd, name: &[u8]) -> FsResult<bool> {
    match call::statat(root, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Raw::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes a private directory, of which the root's times tell nothing; false if it was there.
fn make_private(root: &OwnedFd, marks: Option<&[u8]>, name: &[u8]) -> FsResult<bool> {
    if is_there(root, name)? {
        return Ok(false);
    }
    times_mark::keeping(root.as_fd(), marks, || match call::mkdirat(root, name, PRIVATE_MODE) {
        Ok(()) => Ok(true),
        Err(Raw::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    })
}

/// The prefix of the marks, if one is recorded that is known.
fn recorded_prefix(root: &OwnedFd) -> io::Result<Option<&'static [u8]>> {
    let recorded = private_xattr::recorded_prefix(root.as_fd())?;
    Ok(recorded.and_then(|recorded| private_xattr::OWN.into_iter().find(|prefix| **prefix == *recorded)))
}

/// Makes sure that no other union has this upper. One that is just ending is waited for.
fn lock(root: &OwnedFd) -> FsResult<()> {
    let mut waited = Duration::ZERO;
    loop {
        match call::flock(root, FlockOperation::NonBlockingLockExclusive) {
            Err(Raw::WOULDBLOCK) if waited < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PAUSE);
                waited += LOCK_PAUSE;
            }
            Err(Raw::WOULDBLOCK) => return Err(Errno::EBUSY),
            done => return Ok(done?),
        }
    }
}

/// The value of an origin mark.
pub(super) fn origin_text(layer: u32, key: u64, node: NodeId) -> Vec<u8> {
    format!("{layer}.{key:016x}.{}", node.0).into_bytes()
}

/// Reads an origin mark.
pub(super) fn parse_origin(text: &[u8]) -> Option<(u32, u64, NodeId)> {
    private_xattr::Origin::parse(text).map(|origin| (origin.layer, origin.key, NodeId(origin.node)))
}

/// Runs `change` on a directory and gives the directory its old times back: for changes that no program
/// made.
pub(super) fn preserving_times<T>(dir: BorrowedFd<'_>, change: impl FnOnce() -> FsResult<T>) -> FsResult<T> {
    let (done, restored) = restoring_times(dir, change)?;
    restored.map(|()| done)
}

/// The same, for a change that counts also where only the times could not be given back.
pub(super) fn restoring_times<T>(
    dir: BorrowedFd<'_>,
    change: impl FnOnce() -> FsResult<T>,
) -> FsResult<(T, FsResult<()>)> {
    let stat = call::fstat(dir)?;
    let done = change()?;
    Ok((done, call::futimens(dir, &times_of(&stat)).map_err(Errno::from)))
}

#[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
pub(super) fn times_of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime.into(), tv_nsec: nanoseconds(stat.st_atime_nsec.into()) },
        last_modification: Timespec { tv_sec: stat.st_mtime.into(), tv_nsec: nanoseconds(stat.st_mtime_nsec.into()) },
    }
}

fn nanoseconds(value: u64) -> rustix::fs::Nsecs {
    rustix::fs::Nsecs::try_from(value).unwrap_or_default()
}

/// Writes all of `data` at `offset`.
pub(super) fn write_all(file: BorrowedFd<'_>, mut offset: u64, mut data: &[u8]) -> FsResult<()> {
    while !data.is_empty() {
        let written = call::pwrite(file, data, offset)?;
        if written == 0 {
            return Err(Errno::EIO);
        }
        data = data.get(written..).unwrap_or_default();
        offset = offset.saturating_add(written as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn a_private_directory_that_is_there_is_opened_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, unclean) = Upper::open(dir.path(), true).unwrap();
        assert!(!unclean);
        drop(upper.private(whiteout::LINKS).unwrap());
        let changed = || std::fs::metadata(dir.path()).map(|meta| (meta.ctime(), meta.ctime_nsec())).unwrap();
        let before = changed();
        // Until the clock of file times has moved on.
        let now = clock_gettime(ClockId::Realtime);
        while clock_gettime(ClockId::RealtimeCoarse) <= now {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(upper.private(whiteout::LINKS).unwrap());
        assert_eq!(changed(), before);
        drop(upper.private(whiteout::ORPHANS).unwrap());
        assert_ne!(changed(), before);
        upper.close().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
