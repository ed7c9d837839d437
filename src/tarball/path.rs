//! The paths of entries.

use super::{Limits, Refusal};
use crate::whiteout::{NAME_MAX, PREFIX};

/// The components of an entry's path below the layer's root; none for the root itself. `..` takes the component before it
/// away, whatever that is, and at the root nothing, as in Docker and podman, which clean a path before they look for it (Go's
/// `filepath.Clean`).
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
    let mut components = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(components.pop()),
            _ => components.push(part),
        }
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
    fn a_path_is_below_the_root() {
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
            (b"..", &[]),
            (b"../../a", &["a"]),
            (b"a/../b", &["b"]),
            (b"a/../../../b/c/..", &["b"]),
            (b"/../a/./../b/", &["b"]),
            (b"a/..", &[]),
        ] {
            assert_eq!(parts(path).unwrap(), expected);
        }
        let long = [&b"d/"[..], &[b'n'; 256]].concat();
        let deep = b"d/".repeat(2049);
        for bad in [&b""[..], b"a\0b", &long, &deep] {
            assert!(parts(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(parts(&[b'n'; 255]).is_ok());
    }
}
