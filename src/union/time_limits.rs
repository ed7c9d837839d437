//! The times that a file system can hold.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::change_time::disk_times;
use super::errno::FsResult;
use crate::index::Time;
use crate::sys::call;

const NANOSECONDS_MAX: u32 = 999_999_999;
/// Further away than any meaningful time, and not so far that sums with it overflow.
const FAR: i64 = 1 << 62;

/// The range of a file system's times (`s_time_min`, `s_time_max` and `s_time_gran`, include/linux/fs.h): ext4 with inodes of
/// 256 bytes ends in 2446, with inodes of 128 bytes in 2038, and has whole seconds only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeLimits {
    first: i64,
    last: i64,
    whole_seconds: bool,
}

impl TimeLimits {
    /// Finds out, by a directory whose times mean nothing.
    pub(super) fn of(dir: &OwnedFd) -> FsResult<Self> {
        let held = |sec: i64, nsec: u32| {
            let time = Timespec { tv_sec: sec, tv_nsec: nsec.into() };
            call::futimens(dir, &Timestamps { last_access: time, last_modification: time })?;
            Ok::<Time, super::Errno>(disk_times(&call::fstat(dir)?).1)
        };
        let (first, last) = (held(-FAR, 0)?.sec, held(FAR, 0)?.sec);
        Ok(Self { first, last, whole_seconds: held(1_000_000_000, NANOSECONDS_MAX)?.nsec == 0 })
    }

    /// Finds out in a directory that is only read, by a file that has no name there.
    pub(super) fn without_trace(dir: &OwnedFd) -> FsResult<Self> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match call::openat(dir, c".", flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Self::of(&file),
            // Where no file can be made none is given a time that is too far away.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::ROFS | Errno::NOSPC | Errno::DQUOT | Errno::ACCESS) => {
                Ok(Self { first: i64::MIN, last: i64::MAX, whole_seconds: false })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The time that a file has after it was given this one (fs/inode.c, `timestamp_truncate`).
    pub(super) fn held(&self, time: Time) -> Time {
        let sec = time.sec.max(self.first).min(self.last);
        let nsec = if sec == self.first || sec == self.last || self.whole_seconds { 0 } else { time.nsec };
        Time { sec, nsec }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_held_is_what_a_file_has() {
        let dir = tempfile::tempdir().unwrap();
        let open: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        let limits = TimeLimits::of(&open).unwrap();
        assert_eq!(TimeLimits::without_trace(&open).unwrap(), limits);
        for sec in [-(1 << 40), -(1 << 31) - 1, -(1 << 31), -1, 0, 1 << 31, 1 << 34, 1 << 40] {
            let time = Timespec { tv_sec: sec, tv_nsec: 5 };
            rustix::fs::futimens(&open, &Timestamps { last_access: time, last_modification: time }).unwrap();
            let found = disk_times(&rustix::fs::fstat(&open).unwrap()).1;
            assert_eq!(limits.held(Time { sec, nsec: 5 }), found, "{sec}");
        }
    }
}
