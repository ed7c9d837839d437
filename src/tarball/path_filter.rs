//! Which files of a tar have their content unpacked.

use std::collections::BTreeSet;

/// Files, by their paths in the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathFilter {
    /// All there are.
    Everything,
    /// These, and those in these directories.
    Below(BTreeSet<Vec<u8>>),
}

impl PathFilter {
    /// None at all.
    #[must_use]
    pub const fn nothing() -> Self {
        Self::Below(BTreeSet::new())
    }

    /// Whether the file at `path` is one of them.
    #[must_use]
    pub fn has(&self, path: &[u8]) -> bool {
        let Self::Below(places) = self else { return true };
        path_and_above(path).any(|place| places.contains(place))
    }
}

/// A path, and those of the directories on the way to it.
pub fn path_and_above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).filter_map(|end| path.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_all_that_is_in_it() {
        let wanted = PathFilter::Below([b"a/b".to_vec(), b"c".to_vec()].into());
        for path in [&b"a/b"[..], b"a/b/x/y", b"c", b"c/d"] {
            assert!(wanted.has(path) && PathFilter::Everything.has(path), "{}", path.escape_ascii());
        }
        for path in [&b"a"[..], b"a/bc", b"d", b"", b"x/c"] {
            assert!(!wanted.has(path) && !PathFilter::nothing().has(path), "{}", path.escape_ascii());
        }
    }
}
