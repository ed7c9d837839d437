//! The names of attributes in a mount that is a layer of the kernel's overlayfs. Marks of overlayfs in an image are content: under
//! their own names overlayfs would obey them, and under the escaped ones it shows them under their own.

use std::borrow::Cow;

use crate::mark;

/// The attribute that overlayfs asks for by this name; none for a mark.
pub(super) fn asked(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    mark::overlay_content(name)
}

/// A list of names, each followed by a NUL, as overlayfs is to see it.
pub(super) fn listed(names: &[u8]) -> Vec<u8> {
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.flat_map(|name| mark::overlay_escaped(name).into_owned().into_iter().chain([0])).collect()
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
