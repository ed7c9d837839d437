//! Marks: extended attributes by which the union remembers what a file of its upper stands for.
//!
//! | mark | on | meaning |
//! |---|---|---|
//! | `origin` | a file | it is a copy of this lower file, whose inode number it keeps |
//! | `origin` | a directory | it is merged with this lower directory, and with none that its name would give |
//! | `metacopy` | a file | its data are still the origin's |
//! | `impure` | a directory | some entry has an origin |
//! | `described` | the root | it has the attributes of the layers' root |
//! | `moved` | the root | some directory has an origin |
//! | `discard` | a directory | it is to go once it stands at this place: see `rename` |
//! | `prefix` | the root | the prefix that all the other marks have |
//!
//! An origin is `LAYER.KEY.NODE`: the layer counted from the base, the key of its index, the node.
//!
//! Marks have one of two prefixes. `trusted.` is for a process that has `CAP_SYS_ADMIN` in the initial user namespace; for
//! any other the kernel answers `ENODATA`, as for a file without marks (xattr(7), "Trusted extended attributes"), and a file
//! without its data would be one of zeros. So the prefix is recorded where everybody sees it, in `user.layerctl.prefix` of
//! the root (in `trusted.layerctl.prefix` where the file system has no attributes of users'), and an upper whose
//! marks the process could not see is refused.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno as Raw;

use super::errno::{Errno, FsResult};
use super::upper::{Spot, Upper};
use crate::private_xattr;
use crate::sys::call;

/// What is remembered of a directory or file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Origin,
    Metacopy,
    Impure,
    Described,
    Moved,
    Discard,
}

const TRUSTED: &[u8] = private_xattr::OWN[0];
const USER: &[u8] = private_xattr::OWN[1];

/// Finds the prefix of the marks of the upper `root`, and records it. None where its file system has no attributes.
///
/// `work` is a directory of it in which nothing matters; `is_empty` tells that there is nothing else in it. An upper that is
/// not `is_private` may be another user's. That user could set marks of the prefix `user.`, to have a file of a lower layer
/// shown as their own: there root believes none.
///
/// # Errors
/// When marks of it may be hidden from this process, or may not be believed; when attributes cannot be read or set for another reason
/// than that there are none of the kind.
pub(super) fn prefix(
    root: BorrowedFd<'_>,
    work: BorrowedFd<'_>,
    is_private: bool,
    is_empty: impl FnOnce() -> FsResult<bool>,
) -> io::Result<Option<&'static [u8]>> {
    let sees_all = private_xattr::sees_trusted()?;
    if let Some(recorded) = private_xattr::recorded_prefix(root)? {
        return match private_xattr::OWN.into_iter().find(|prefix| **prefix == *recorded) {
            Some(TRUSTED) if !sees_all => Err(private_xattr::hidden()),
            Some(USER) if sees_all && !is_private => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "its marks are attributes that any user may set (user.layerctl.*): use it without CAP_SYS_ADMIN, as when they \
                 were made",
            )),
            Some(prefix) => Ok(Some(prefix)),
            None => Err(io::Error::other(format!(
                "its marks have the prefix {}, which this version does not know",
                recorded.escape_ascii()
            ))),
        };
    }
    let has_user_marks = (is_private || !sees_all) && has_marks(root, USER)?;
    let candidates: &[&[u8]] = match sees_all {
        // A version that recorded nothing was used without the capability.
        true if has_user_marks && !has_marks(root, TRUSTED)? => &[USER],
        true => &[TRUSTED, USER],
        // An ordinary user has never had another choice.
        false if has_user_marks && !rustix::process::geteuid().is_root() => &[USER],
        false if is_empty()? => &[USER],
        false => return Err(private_xattr::hidden()),
    };
    for prefix in candidates {
        if can_set(work, prefix)? {
            record(root, prefix)?;
            return Ok(Some(prefix));
        }
    }
    Ok(None)
}

/// Whether an upper of a version that recorded nothing has marks of this prefix at its root.
fn has_marks(root: BorrowedFd<'_>, prefix: &[u8]) -> FsResult<bool> {
    for name in [&b"described"[..], b"moved", b"impure"] {
        if private_xattr::attribute(root, &[prefix, name].concat())?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the file system keeps attributes of this prefix for this process.
fn can_set(work: BorrowedFd<'_>, prefix: &[u8]) -> FsResult<bool> {
    set(work, &[prefix, b"probe"].concat(), b"y")
}

/// Records a prefix: where everybody sees it, if that can be.
fn record(root: BorrowedFd<'_>, prefix: &[u8]) -> FsResult<()> {
    if set(root, &[USER, private_xattr::PREFIX].concat(), prefix)?
        || set(root, &[prefix, private_xattr::PREFIX].concat(), prefix)?
    {
        return Ok(());
    }
    Err(Errno::EPERM)
}

/// Sets an attribute, and says whether the file system takes such.
fn set(dir: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> FsResult<bool> {
    match call::fsetxattr(dir, name, value, XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Raw::NOTSUP | Raw::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Upper {
    /// Whether marks can be kept here.
    pub(super) fn has_marks(&self) -> bool {
        self.marks.is_some()
    }

    fn mark_name(&self, mark: Mark) -> Option<Vec<u8>> {
        let name: &[u8] = match mark {
            Mark::Origin => b"origin",
            Mark::Metacopy => b"metacopy",
            Mark::Impure => b"impure",
            Mark::Described => b"described",
            Mark::Moved => b"moved",
            Mark::Discard => b"discard",
        };
        self.marks.map(|prefix| [prefix, name].concat())
    }

    /// A mark's value; `None` where there is none.
    pub(super) fn mark(&self, spot: &Spot, mark: Mark) -> FsResult<Option<Vec<u8>>> {
        let Some(name) = self.mark_name(mark) else { return Ok(None) };
        match spot.get_xattr(&name) {
            Ok(value) => Ok(Some(value)),
            // Links and devices can have no attributes of users' (xattr(7)).
            Err(Errno::ENODATA | Errno::ENOTSUP | Errno::EPERM) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn set_mark(&self, spot: &Spot, mark: Mark, value: &[u8]) -> FsResult<()> {
        let name = self.mark_name(mark).ok_or(Errno::ENOTSUP)?;
        spot.set_xattr(&name, value, XattrFlags::empty())
    }

    pub(super) fn remove_mark(&self, spot: &Spot, mark: Mark) -> FsResult<()> {
        let Some(name) = self.mark_name(mark) else { return Ok(()) };
        match spot.remove_xattr(&name) {
            Err(Errno::ENODATA) => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn the_prefix_is_recorded_and_what_stands_there_counts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let work = std::fs::File::open(dir.path().join("work")).unwrap();
        let found = || prefix(root.as_fd(), work.as_fd(), true, || Ok(false));
        if !private_xattr::sees_trusted().unwrap() {
            assert_eq!(found().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            return;
        }
        assert_eq!(found().unwrap(), Some(TRUSTED));
        assert_eq!(private_xattr::recorded_prefix(root.as_fd()).unwrap().as_deref(), Some(TRUSTED));
        record(root.as_fd(), USER).unwrap();
        assert_eq!(found().unwrap(), Some(USER));
        let public = prefix(root.as_fd(), work.as_fd(), false, || Ok(false));
        assert_eq!(public.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        record(root.as_fd(), b"other.").unwrap();
        assert!(found().unwrap_err().to_string().contains("other."));
    }

    #[test]
    fn an_upper_of_an_earlier_version_has_the_prefix_of_its_marks() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let found = || prefix(root.as_fd(), root.as_fd(), true, || Ok(false));
        if !private_xattr::sees_trusted().unwrap() {
            return;
        }
        assert!(set(root.as_fd(), b"user.layerctl.moved", b"y").unwrap());
        assert_eq!(found().unwrap(), Some(USER));
        // In a directory that another user may have made they are nothing.
        rustix::fs::fremovexattr(&root, "user.layerctl.prefix").unwrap();
        assert_eq!(prefix(root.as_fd(), root.as_fd(), false, || Ok(false)).unwrap(), Some(TRUSTED));
    }
}
