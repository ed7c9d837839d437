//! What a layer says of the layers below it: a directory that was renamed, a file whose data stayed below.
//!
//! A union that renames a directory of a lower layer, or changes only a lower file's metadata, writes a mark into its upper
//! instead of a copy. When that upper becomes a lower layer, the mark is a reference to the layers under it:
//!
//! | mark | on | whose | meaning |
//! |---|---|---|---|
//! | `overlay.redirect` of `/PATH` | a directory | overlayfs' | it is merged with the directory at PATH below |
//! | `overlay.redirect` of `NAME` | a directory | overlayfs' | the same for NAME in the directory's own directory |
//! | `overlay.metacopy` | a file | overlayfs' | its data are those of the file at its own path below, or at its `overlay.redirect` |
//! | `layerctl.origin` | a directory | ours | it is merged with this directory of a layer below |
//! | `layerctl.metacopy` | a file | ours | its data are those of the file in `layerctl.origin` |
//!
//! (Documentation/filesystems/overlayfs.rst, "redirect_dir" and "Metadata only copy up"; [`private_xattr::OWN`](crate::private_xattr::OWN).)
//! Nothing is followed here: the union looks references up in the indexes of the layers below, where no name leads out.

use super::NodeId;
use crate::private_xattr::Origin;

/// `PATH_MAX` of Linux: no path that a union wrote is longer.
const PATH_MAX: usize = 4096;

/// Where, in the layers below, a reference leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Referent {
    /// The file of the same name in the same directory.
    SameName,
    /// The file of this name in the same directory.
    Sibling(Vec<u8>),
    /// The file at this path, from the root.
    Path(Vec<Vec<u8>>),
    /// This node of the layer whose index has this key.
    Origin(Origin),
}

impl std::fmt::Display for Referent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SameName => f.write_str("its own path"),
            Self::Sibling(name) => write!(f, "{}", name.escape_ascii()),
            Self::Path(names) => names.iter().try_for_each(|name| write!(f, "/{}", name.escape_ascii())),
            Self::Origin(origin) => write!(f, "node {} of a layer with the key {:016x}", origin.node, origin.key),
        }
    }
}

/// A mark of a file or directory that makes sense only with the layers below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The directory that is merged with another one than that of its own name, or the file whose data are elsewhere.
    pub node: NodeId,
    /// Where it leads.
    pub referent: Referent,
}

/// A redirect that no union writes, and that could lead out of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a redirect must be a name, or a path from the root without . and ..")]
pub struct RedirectError;

impl Referent {
    /// Reads the value of a redirect, as `ovl_get_redirect_xattr` of the kernel does (fs/overlayfs/util.c).
    ///
    /// # Errors
    /// [`RedirectError`] for what is neither a name nor an absolute path of names.
    pub fn of_redirect(value: &[u8]) -> Result<Self, RedirectError> {
        // Old kernels wrote the terminating NUL too.
        let value = value.strip_suffix(b"\0").unwrap_or(value);
        let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0) && !name.contains(&b'/');
        if value.len() > PATH_MAX {
            return Err(RedirectError);
        }
        match value.strip_prefix(b"/") {
            Some(path) => {
                let names: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
                if names.iter().all(|name| is_name(name)) { Ok(Self::Path(names)) } else { Err(RedirectError) }
            }
            None if is_name(value) => Ok(Self::Sibling(value.to_vec())),
            None => Err(RedirectError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_a_name_or_a_path_from_the_root() {
        let path = |names: &[&str]| Ok(Referent::Path(names.iter().map(|name| name.as_bytes().to_vec()).collect()));
        for (value, wanted) in [
            (&b"name"[..], Ok(Referent::Sibling(b"name".to_vec()))),
            (b"...", Ok(Referent::Sibling(b"...".to_vec()))),
            (b"/a", path(&["a"])),
            (b"/a/b c\0", path(&["a", "b c"])),
        ] {
            assert_eq!(Referent::of_redirect(value), wanted);
        }
        for escaping in [
            &b""[..],
            b"/",
            b"..",
            ".".as_bytes(),
            b"a/b",
            b"/../x",
            b"/a/../../etc",
            b"/a//b",
            b"/a/",
            b"/a/./b",
            b"a\0b",
            b"/a\0/b",
        ] {
            assert_eq!(Referent::of_redirect(escaping), Err(RedirectError), "{}", escaping.escape_ascii());
        }
        assert!(Referent::of_redirect(&[b'/'; 5000]).is_err());
    }
}
