//! Values between the union's types and the protocol's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno as Reply, FileAttr, FileType, Generation, INodeNo, TimeOrNow};

use crate::index::{Kind, Time};
use crate::union::{Attr, Errno, SetTime};

/// How long the kernel may cache a reply: for ever, as only the kernel's own requests change the tree.
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// An inode's generation, for the kernel's file handles.
pub(super) fn generation(attr: &Attr) -> Generation {
    Generation(attr.generation.into())
}

/// No longer than the answer.
pub(super) const AT_ONCE: Duration = Duration::ZERO;

/// The block size that `stat` shows.
const BLOCK_SIZE: u32 = 4096;

pub(super) fn reply(errno: Errno) -> Reply {
    Reply::from_i32(errno.0)
}

pub(super) const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: u16::try_from(attr.mode & 0o7777).unwrap_or_default(),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: device_number(attr.rdev),
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// An entry that is not there, for the kernel to remember (`fuse_entry_out` with node id 0).
pub(super) const fn no_entry() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// `new_encode_dev` (include/linux/kdev_t.h), which FUSE uses.
pub(super) const fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// `new_decode_dev` (include/linux/kdev_t.h).
pub(super) const fn device_parts(device: u32) -> (u32, u32) {
    ((device & 0xf_ff00) >> 8, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

fn system_time(time: Time) -> SystemTime {
    let seconds = Duration::from_secs(time.sec.unsigned_abs());
    let whole = if time.sec < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nsec.into()))).unwrap_or(UNIX_EPOCH)
}

/// Reads a time of a request. For times before 1970 fuser 0.18 takes the nanoseconds away in place of
/// adding them; this gets back what the kernel sent.
pub(super) fn time(system: SystemTime) -> Time {
    match system.duration_since(UNIX_EPOCH) {
        Ok(after) => Time { sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nsec: after.subsec_nanos() },
        Err(error) => {
            let before = error.duration();
            let sec = i64::try_from(before.as_secs()).map_or(i64::MIN, |seconds| -seconds);
            Time { sec, nsec: before.subsec_nanos() }
        }
    }
}

pub(super) fn set_time(given: TimeOrNow) -> SetTime {
    match given {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(system) => SetTime::At(time(system)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_way_through_the_protocol() {
        for parts in [(0, 0), (1, 3), (8, 255), (8, 256), (4095, 1_048_575)] {
            assert_eq!(device_parts(device_number(parts)), parts);
        }
        assert_eq!(device_number((8, 1)), 0x801);
    }

    #[test]
    fn times_before_1970_come_back_as_the_kernel_sent_them() {
        // What fuser makes of (-2, 500_000_000): 1970 less 2 seconds less half a second.
        let seen = UNIX_EPOCH - Duration::new(2, 500_000_000);
        assert_eq!(time(seen), Time { sec: -2, nsec: 500_000_000 });
        assert_eq!(time(UNIX_EPOCH + Duration::new(7, 9)), Time { sec: 7, nsec: 9 });
        // The other way has no such fault: the union's -2 s and a half is 1.5 s before 1970.
        assert_eq!(system_time(Time { sec: -2, nsec: 500_000_000 }), UNIX_EPOCH - Duration::from_millis(1500));
    }
}
