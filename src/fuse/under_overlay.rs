//! The names of attributes in a mount that is a layer of the kernel's overlayfs. Marks of overlayfs in an image are content: under
//! their own names overlayfs would obey them, and under the escaped ones it shows them under their own.

use std::borrow::Cow;

use crate::private_xattr;

/// The attribute that overlayfs asks for by this name; none for a mark.
pub(super) fn asked(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    private_xattr::overlay_content(name)
}

/// A list of names, each followed by a NUL, as overlayfs is to see it.
pub(super) fn listed(names: &[u8]) -> Vec<u8> {
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.flat_map(|name| private_xattr::overlay_escaped(name).into_owned().into_iter().chain([0])).collect()
}

/// Whether overlayfs cannot use a file that it found by its handle alone: a dentry that no lookup has made is of an epoch that is
/// over (fs/fuse/dir.c, `fuse_dentry_revalidate`, since Linux 6.16). Without handles it does as well, and takes another inode number
/// for a file that was copied up.
pub(super) fn loses_handles() -> bool {
    let release = rustix::system::uname();
    let mut numbers = release.release().to_bytes().split(|byte| !byte.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| str::from_utf8(digits).ok()?.parse::<u32>().ok());
    // error: text that is no number is another kernel's, and no system call is made
    (number().unwrap_or(u32::MAX), number().unwrap_or(0)) >= (6, 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_listed_as_content() {
        assert_eq!(listed(b"user.a\0trusted.overlay.opaque\0"), b"user.a\0trusted.overlay.overlay.opaque\0");
        assert_eq!(asked(b"trusted.overlay.overlay.opaque").as_deref(), Some(&b"trusted.overlay.opaque"[..]));
        assert_eq!((asked(b"trusted.overlay.opaque"), listed(b"")), (None, Vec::new()));
    }
}
