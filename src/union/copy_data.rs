//! The data of a file, copied to another with its holes.

use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno as Raw;

use super::errno::{Errno, FsResult};
use super::upper::write_all;
use crate::sys::call;

/// How much is copied between two looks at anything else.
const CHUNK: u64 = 64 << 20;

/// Copies the first `length` bytes to the same place, holes as holes; as a clone where the file system can.
pub(super) fn copy_data(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: u64) -> FsResult<()> {
    let stat = call::fstat(from)?;
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    if size < length {
        // The file in the layer is shorter than the layer's index says, which is damage and no hole.
        return Err(Errno::EIO);
    }
    if size == length {
        match call::ioctl_ficlone(to, from) {
            Ok(()) => return Ok(()),
            // The file system makes no clones (ioctl_ficlonerange(2)).
            Err(Raw::OPNOTSUPP | Raw::XDEV | Raw::INVAL | Raw::NOTTY | Raw::NOSYS | Raw::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut at = 0;
    while at < length {
        let start = match call::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Raw::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if start >= length {
            return Ok(());
        }
        let end = call::seek(from, SeekFrom::Hole(start))?.min(length);
        copy_range(from, to, start, end)?;
        at = end.max(start.saturating_add(1));
    }
    Ok(())
}

fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> FsResult<()> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let length = usize::try_from((end - source).min(CHUNK)).unwrap_or(usize::MAX);
        match call::copy_file_range(from, &mut source, to, &mut target, length) {
            Ok(0) => return Err(Errno::EIO),
            Ok(_) => {}
            Err(Raw::XDEV | Raw::INVAL | Raw::NOSYS | Raw::OPNOTSUPP) => return copy_by_hand(from, to, source, end),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> FsResult<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = start;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let read = call::pread(from, buffer.get_mut(..wanted).unwrap_or_default(), at)?;
        if read == 0 {
            return Err(Errno::EIO);
        }
        write_all(to, at, buffer.get(..read).unwrap_or_default())?;
        at += read as u64;
    }
    Ok(())
}
