//! The only file that spells `.wh.`: how a layer says that something below it is gone.
//!
//! The spelling is AUFS', which image layers took over (OCI `layer.md`, "Whiteouts"), and it is the same
//! in a layer's tar, in `diff/<diff-id>/` and in a container's rw layer.
//!
//! | name | meaning |
//! |---|---|
//! | `.wh.NAME` | an empty file: NAME of the lower layers is hidden |
//! | `.wh..wh..opq` | an empty file: the lower layers' content of this directory is hidden |
//! | `.wh..wh.long.DIGEST` | ours, on disk only: a file that holds a name too long to carry the prefix |
//! | `.wh..wh.*` | other private things of a union, no part of the layer's content |

use std::borrow::Cow;

use crate::id::Digest;

/// What every marker's name starts with.
pub const PREFIX: &[u8] = b".wh.";
/// The marker of an opaque directory.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// What the private names of a union start with; they are no content of a layer.
pub const PRIVATE_PREFIX: &[u8] = b".wh..wh.";
/// The directory in a rw layer where files are made before they are renamed into place.
pub const WORK: &[u8] = b".wh..wh.work";
/// A directory of a rw layer that is being made, in the directory where it is to be.
pub const NEW: &[u8] = b".wh..wh.new";
/// The directory in a rw layer that journals copy-ups of files with several names (AUFS: pseudo links).
pub const LINKS: &[u8] = b".wh..wh.plnk";
/// The directory in a rw layer that keeps unlinked files which are still open (AUFS: orphans).
pub const ORPHANS: &[u8] = b".wh..wh.orph";
/// The directory in a layer's `diff/` that keeps the content of files which the layer's own tar replaces
/// later on, so that the tar can be given back.
pub const DUPLICATES: &[u8] = b".wh..wh.dups";

const LONG_PREFIX: &[u8] = b".wh..wh.long.";
/// The longest name a directory entry can have on Linux (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// What a name that starts with [`PREFIX`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker<'a> {
    /// Hides this name of the lower layers.
    Whiteout(&'a [u8]),
    /// Hides all the lower layers' content of the directory.
    Opaque,
    /// Hides the name that is the content of this file ([`on_disk`]); found on disk only.
    Long,
    /// Private to some union: to be skipped.
    Private,
    /// Hides nothing that could exist: `.wh.`, `.wh..` or `.wh...`.
    Invalid,
}

/// Says what `name` means, or `None` when it is an ordinary name.
#[must_use]
pub fn parse(name: &[u8]) -> Option<Marker<'_>> {
    let hidden = name.strip_prefix(PREFIX)?;
    Some(match hidden {
        b"" | b"." | b".." => Marker::Invalid,
        _ if name == OPAQUE => Marker::Opaque,
        b".wh." => Marker::Whiteout(hidden),
        _ if name.starts_with(LONG_PREFIX) => Marker::Long,
        _ if name.starts_with(PRIVATE_PREFIX) => Marker::Private,
        _ => Marker::Whiteout(hidden),
    })
}

/// Why a name that is [reserved](is_reserved) is refused.
pub const RESERVED: &str = "has a name that begins with .wh., as only a union's own files may";

/// Whether `name` is reserved: it cannot be made through a mount.
#[must_use]
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// How the whiteout of `name` is written on disk: the name of the file, and its content.
///
/// The content is empty but for a name longer than `NAME_MAX` less the prefix, which is then the content
/// of a file that is named by its digest.
#[must_use]
pub fn on_disk(name: &[u8]) -> (Vec<u8>, Cow<'_, [u8]>) {
    if name.len() + PREFIX.len() <= NAME_MAX {
        ([PREFIX, name].concat(), Cow::Borrowed(b""))
    } else {
        ([LONG_PREFIX, Digest::of(name).hex().as_bytes()].concat(), Cow::Borrowed(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_specification_says() {
        for (name, meaning) in [
            (&b"a"[..], None),
            (b".wh", None),
            (b".wh.", Some(Marker::Invalid)),
            (b".wh..", Some(Marker::Invalid)),
            (b".wh...", Some(Marker::Invalid)),
            (b".wh.a", Some(Marker::Whiteout(b"a"))),
            (b".wh....", Some(Marker::Whiteout(b"..."))),
            (b".wh..wh.", Some(Marker::Whiteout(b".wh."))),
            (b".wh..wh..opq", Some(Marker::Opaque)),
            (b".wh..wh.plnk", Some(Marker::Private)),
            (b".wh..wh.aufs", Some(Marker::Private)),
        ] {
            assert_eq!(parse(name), meaning, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn a_name_too_long_for_the_prefix_is_kept_in_the_file() {
        let (short, long) = (vec![b'n'; 251], vec![b'n'; 255]);
        assert_eq!(on_disk(&short), ([b".wh.", &short[..]].concat(), Cow::Borrowed(&b""[..])));
        let (file, content) = on_disk(&long);
        assert_eq!(parse(&file), Some(Marker::Long));
        assert_eq!(*content, long);
        assert!(file.len() <= NAME_MAX);
    }
}
