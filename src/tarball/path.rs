//! The paths of entries.

use super::{Limits, Refusal};
use crate::whiteout::{NAME_MAX, PREFIX};

/// The components of an entry's path below the layer's root; none for the root itself.
///
/// # Errors
/// What is wrong with it, as a clause.
pub(super) fn components<'p>(path: &'p [u8], limits: &Limits) -> Result<Vec<&'p [u8]>, Refusal> {
    if path.is_empty() {
        return Err("has no name".into());
    }
    if path.contains(&0) {
        return Err("has a NUL in its path".into());
    }
    if path.len() > limits.path {
        return Err(Refusal::limit("path", format!("has a path of more than {} bytes", limits.path)));
    }
    let components: Vec<_> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if components.contains(&&b".."[..]) {
        // Also where it would not: what it means depends on links, and tools differ.
        return Err("has a path that leaves the layer".into());
    }
    // A whiteout's own name is not the one that a file has.
    if components.iter().any(|part| part.strip_prefix(PREFIX).unwrap_or(part).len() > NAME_MAX) {
        return Err(format!("has a name of more than {NAME_MAX} bytes").into());
    }
    if components.len() > limits.depth {
        return Err(Refusal::limit("depth", format!("is more than {} directories deep", limits.depth)));
    }
    Ok(components)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_the_root_or_refused() {
        let parts = |path: &[u8]| {
            components(path, &Limits::default())
                .map(|parts| parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>())
        };
        for (path, expected) in [
            (&b"a/b"[..], &["a", "b"][..]),
            (b"/a//b/", &["a", "b"]),
            (b"./a/./b", &["a", "b"]),
            (b"./", &[]),
            (b"/", &[]),
            (b"..a/b..", &["..a", "b.."]),
            (b"a\\..\\b", &["a\\..\\b"]),
        ] {
            assert_eq!(parts(path).unwrap(), expected);
        }
        let long = [&b"d/"[..], &[b'n'; 256]].concat();
        let deep = b"d/".repeat(2049);
        for bad in [&b""[..], b"..", b"../a", b"a/../b", b"a/..", b"/..", b"a\0b", &long, &deep] {
            assert!(parts(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(parts(&[b'n'; 255]).is_ok());
    }
}
