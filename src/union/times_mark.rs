//! The times of an upper's root while something is made or removed in it that no program made.
//!
//! A process that is killed between the change and the return of the old times would leave others: then the container has
//! changed though nothing in it has. So they are written down before, in a mark of the root, and given back by the next union.

use std::os::fd::BorrowedFd;

use rustix::fs::{Timespec, Timestamps, XattrFlags};
use rustix::io::Errno as Raw;

use super::errno::{Errno, FsResult};
use super::upper::{preserving_times, times_of};
use crate::private_xattr;
use crate::sys::call;

fn name(prefix: &[u8]) -> Vec<u8> {
    [prefix, b"times"].concat()
}

/// Runs `change` on the root of an upper, and gives it its old times back.
///
/// # Errors
/// What `change` gives; when the times cannot be kept.
pub(super) fn keeping<T>(
    root: BorrowedFd<'_>,
    prefix: Option<&[u8]>,
    mut change: impl FnMut() -> FsResult<T>,
) -> FsResult<T> {
    let Some(name) = prefix.map(name) else { return preserving_times(root, change) };
    let Timestamps { last_access, last_modification } = times_of(&call::fstat(root)?);
    let text = |time: Timespec| format!("{}.{}", time.tv_sec, time.tv_nsec);
    let value = format!("{} {}", text(last_access), text(last_modification));
    match call::fsetxattr(root, &name, value.as_bytes(), XattrFlags::empty()) {
        Ok(()) => {}
        // Without room, or where this process may not, it is only not done once more after a kill.
        Err(Raw::NOSPC | Raw::DQUOT | Raw::NOTSUP | Raw::PERM | Raw::ACCESS) => return preserving_times(root, change),
        Err(error) => return Err(error.into()),
    }
    let done = change();
    call::futimens(root, &Timestamps { last_access, last_modification })?;
    remove(root, &name)?;
    if matches!(&done, Err(error) if *error == Errno::ENOSPC) {
        // The mark may have had the last block, which ext4 gives to another only after a commit of its journal.
        call::syncfs(root)?;
        return preserving_times(root, change);
    }
    done
}

/// Whether a process was killed meanwhile.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_there(root: BorrowedFd<'_>, prefix: &[u8]) -> FsResult<bool> {
    Ok(private_xattr::attribute(root, &name(prefix))?.is_some())
}

/// Gives the root the times that it had when a process was killed.
///
/// # Errors
/// When they cannot be read or set.
pub(super) fn restore(root: BorrowedFd<'_>, prefix: Option<&[u8]>) -> FsResult<()> {
    let Some(name) = prefix.map(name) else { return Ok(()) };
    let Some(value) = private_xattr::attribute(root, &name)? else { return Ok(()) };
    // Half written it is not there (xattrs are set as a whole), so that any other value is another program's.
    if let Some(times) = parse(&value) {
        call::futimens(root, &times)?;
    }
    remove(root, &name)
}

fn remove(root: BorrowedFd<'_>, name: &[u8]) -> FsResult<()> {
    match call::fremovexattr(root, name) {
        Ok(()) | Err(Raw::NODATA) => Ok(()),
        Err(error) => Err(Errno::from(error)),
    }
}

fn parse(value: &[u8]) -> Option<Timestamps> {
    let time = |text: &str| {
        let (sec, nsec) = text.split_once('.')?;
        Some(Timespec { tv_sec: sec.parse().ok()?, tv_nsec: nsec.parse().ok()? })
    };
    let (access, modification) = str::from_utf8(value).ok()?.split_once(' ')?;
    Some(Timestamps { last_access: time(access)?, last_modification: time(modification)? })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_kill_in_between_changes_no_times() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let prefix = private_xattr::OWN[if private_xattr::sees_trusted().unwrap() { 0 } else { 1 }];
        let before = Timestamps {
            last_access: Timespec { tv_sec: 7, tv_nsec: 8 },
            last_modification: Timespec { tv_sec: -9, tv_nsec: 10 },
        };
        call::futimens(root.as_fd(), &before).unwrap();
        let times = || {
            let meta = root.metadata().unwrap();
            (meta.atime(), meta.mtime(), meta.mtime_nsec())
        };
        let died = std::panic::catch_unwind(|| {
            keeping(root.as_fd(), Some(prefix), || -> FsResult<()> {
                std::fs::create_dir(dir.path().join("made")).unwrap();
                panic!("killed")
            })
        });
        assert!(died.is_err());
        assert_ne!(times(), (7, -9, 10));
        assert!(is_there(root.as_fd(), prefix).unwrap());
        restore(root.as_fd(), Some(prefix)).unwrap();
        assert_eq!(times(), (7, -9, 10));
        assert!(!is_there(root.as_fd(), prefix).unwrap());
        keeping(root.as_fd(), Some(prefix), || {
            std::fs::create_dir(dir.path().join("more")).unwrap();
            Ok(())
        })
        .unwrap();
        assert_eq!(times(), (7, -9, 10));
        assert!(!is_there(root.as_fd(), prefix).unwrap());
    }
}
