//! Attributes by which a union marks its own files, and how content that looks like one is kept from being one.
//!
//! A tar, or a program in a container, may have an attribute of such a name: `trusted.overlay.opaque` from a layer that
//! overlayfs made, or one that an attacker forged to have a directory of the host shown. For us it is data. On disk, in
//! a layer's `diff/` and in a rw layer, it has another name, [`escape`]d, so that neither we nor overlayfs nor
//! fuse-overlayfs would believe it; in tars, in indexes and inside a mount it has its own.
//!
//! | name | whose |
//! |---|---|
//! | `trusted.layerctl.*`, `user.layerctl.*` | ours |
//! | `trusted.overlay.*`, `user.overlay.*` | overlayfs' |
//! | `user.fuseoverlayfs.*`, `security.fuseoverlayfs.*`, `user.containers.override_*` | fuse-overlayfs' and containers-storage's |
//! | `trusted.layerctl.escaped.NAME`, `user.layerctl.escaped.NAME` | content: the attribute NAME |

use std::borrow::Cow;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::sys;

/// Ours, for root and for users.
pub const OWN: [&[u8]; 2] = [b"trusted.layerctl.", b"user.layerctl."];
/// Those of overlayfs, for root and for users.
pub const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
const OTHERS: [&[u8]; 3] = [b"user.fuseoverlayfs.", b"security.fuseoverlayfs.", b"user.containers.override_"];

const ESCAPED: &[u8] = b"trusted.layerctl.escaped.";
/// For what every user may set.
const ESCAPED_USER: &[u8] = b"user.layerctl.escaped.";

/// The value of an `origin` mark of ours: `LAYER.KEY.NODE`, a file or directory of a lower layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The layer, counted from the base, when the mark was made.
    pub layer: u32,
    /// The key of the layer's index.
    pub key: u64,
    /// The node in that index.
    pub node: u32,
}

impl Origin {
    /// Reads the value of a mark; `None` for what is none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(text).ok()?.splitn(3, '.');
        let layer = fields.next()?.parse().ok()?;
        // error: text that is no number makes no mark, and no system call is made.
        let key = u64::from_str_radix(fields.next()?, 16).ok()?;
        Some(Self { layer, key, node: fields.next()?.parse().ok()? })
    }
}

/// The attribute of an upper's root that records the prefix of all other marks of ours in it, after its own prefix.
pub const PREFIX: &[u8] = b"prefix";
/// The attribute of an upper's root, after a prefix, that says that the root has attributes of its own.
pub const DESCRIBED: &[u8] = b"described";
/// `PROC_USER_INIT_INO` (include/linux/proc_ns.h): the inode number of the initial user namespace.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether this process sees attributes of the prefix `trusted.`: only with the capability, and only in the initial
/// user namespace.
///
/// # Errors
/// As `capget(2)` and `stat(2)`.
pub fn sees_trusted() -> io::Result<bool> {
    if !rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(false);
    }
    Ok(sys::call::stat("/proc/self/ns/user")?.st_ino == INITIAL_USER_NAMESPACE)
}

/// That marks may be hidden from this process.
#[must_use]
pub fn hidden() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "it may have marks (trusted.layerctl.*) that only a process with CAP_SYS_ADMIN in the initial user namespace sees: \
         run the command with that capability",
    )
}

/// An attribute of a directory; none also where the file system has none of the kind.
///
/// # Errors
/// As `fgetxattr(2)`.
pub fn attribute(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    match sys::read_xattr_of(dir, name) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The prefix that is recorded at the root of an upper.
///
/// # Errors
/// As `fgetxattr(2)`.
pub fn recorded_prefix(root: BorrowedFd<'_>) -> rustix::io::Result<Option<Vec<u8>>> {
    for prefix in OWN.into_iter().rev() {
        if let Some(value) = attribute(root, &[prefix, PREFIX].concat())? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Whether some union takes an attribute of this name for a mark of its own.
#[must_use]
pub fn is_mark(name: &[u8]) -> bool {
    OWN.iter().chain(&OVERLAY).chain(&OTHERS).any(|prefix| name.starts_with(prefix))
}

/// The name on disk of an attribute that is content.
#[must_use]
pub fn escape(name: &[u8]) -> Cow<'_, [u8]> {
    if !is_mark(name) {
        return Cow::Borrowed(name);
    }
    let prefix = if name.starts_with(b"user.") { ESCAPED_USER } else { ESCAPED };
    Cow::Owned([prefix, name].concat())
}

/// The name of the content that is on disk under this name; `None` for a mark, which is no content.
#[must_use]
pub fn unescape(name: &[u8]) -> Option<&[u8]> {
    let escaped = [ESCAPED, ESCAPED_USER].iter().find_map(|prefix| name.strip_prefix(*prefix));
    match escaped {
        // Only what is a mark is escaped.
        Some(inner) => Some(inner).filter(|inner| escape(inner) == name),
        None => Some(name).filter(|name| !is_mark(name)),
    }
}

/// How overlayfs escapes a name of its own namespace that is content (since Linux 6.7), after [`OVERLAY`]'s first.
const OVERLAY_ESCAPE: &[u8] = b"overlay.";

/// The name of the content that stands under this name in an upper directory of overlayfs, as overlayfs shows it; `None` for a mark
/// of overlayfs. All other names, ours too, are content there.
#[must_use]
pub fn overlay_content(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(own) = name.strip_prefix(OVERLAY[0]) else { return Some(Cow::Borrowed(name)) };
    own.strip_prefix(OVERLAY_ESCAPE).map(|content| Cow::Owned([OVERLAY[0], content].concat()))
}

/// The other way round: the name under which overlayfs takes an attribute for content.
#[must_use]
pub fn overlay_escaped(name: &[u8]) -> Cow<'_, [u8]> {
    match name.strip_prefix(OVERLAY[0]) {
        Some(own) => Cow::Owned([OVERLAY[0], OVERLAY_ESCAPE, own].concat()),
        None => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_is_no_unions_mark_but_ours_and_comes_back() {
        for name in [
            "trusted.overlay.opaque",
            "user.overlay.redirect",
            "trusted.overlay.overlay.opaque",
            "trusted.layerctl.origin",
            "user.layerctl.escaped.user.overlay.opaque",
            "user.fuseoverlayfs.opaque",
            "security.fuseoverlayfs.override_stat",
            "user.containers.override_stat",
        ] {
            let (name, on_disk) = (name.as_bytes(), escape(name.as_bytes()));
            assert_ne!(*on_disk, *name);
            assert!(on_disk.starts_with(ESCAPED) || on_disk.starts_with(ESCAPED_USER));
            assert_eq!(on_disk.starts_with(b"user."), name.starts_with(b"user."));
            assert_eq!(unescape(&on_disk), Some(name));
            assert_eq!(unescape(name).filter(|_| !name.starts_with(ESCAPED_USER)), None);
        }
        for name in [&b"user.a"[..], b"trusted.b", b"security.capability", b"user.containers.x", b"user.overlayfs"] {
            assert_eq!((&*escape(name), unescape(name)), (name, Some(name)));
        }
        for never_made in [&b"trusted.layerctl.escaped."[..], b"user.layerctl.escaped.user.a"] {
            assert_eq!(unescape(never_made), None);
        }
    }

    #[test]
    fn overlayfs_takes_its_own_names_for_content_when_they_are_escaped() {
        for (content, on_disk) in [
            (&b"trusted.overlay.opaque"[..], &b"trusted.overlay.overlay.opaque"[..]),
            (b"trusted.overlay.overlay.x", b"trusted.overlay.overlay.overlay.x"),
            (b"user.overlay.opaque", b"user.overlay.opaque"),
            (b"trusted.layerctl.origin", b"trusted.layerctl.origin"),
        ] {
            assert_eq!(*overlay_escaped(content), *on_disk);
            assert_eq!(overlay_content(on_disk).as_deref(), Some(content));
        }
        assert_eq!(overlay_content(b"trusted.overlay.opaque"), None);
    }
}
