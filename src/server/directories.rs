//! The directories of a union that are no container's: each is looked through once, and may refer to those below it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::{self, Referent, Trust};
use crate::stack::{Lower, Stack};
use crate::store::Store;
use crate::union::Unresolved;

/// Makes a stack of plain directories, the lowers nearest first.
///
/// # Errors
/// When one cannot be read, or refers to others in a way that `trust` does not allow.
pub(crate) fn stack(upper: Option<PathBuf>, lowers: Vec<PathBuf>, trust: Trust) -> Result<Stack> {
    let mut lowers = lowers.into_iter().map(|dir| lower(dir, trust)).collect::<Result<Vec<_>>>()?;
    if refers_to_others(&lowers) {
        // The rw layer of a container refers to layers of its store by the indexes that the store keeps.
        for lower in &mut lowers {
            if let Some(of_store) = Store::lower_at(&lower.dir)? {
                *lower = of_store;
            }
        }
    }
    Ok(Stack { upper, lowers, lowers_are_immutable: false, mount_points: None })
}

fn lower(dir: PathBuf, trust: Trust) -> Result<Lower> {
    let index = index::scan_lower(&dir, trust).map_err(|error| Error::Io {
        doing: "read",
        path: error.path,
        source: error.source,
    })?;
    Ok(Lower { dir, index: Arc::new(index) })
}

/// Whether a layer was made over one that no directory is, as they were looked through.
fn refers_to_others(lowers: &[Lower]) -> bool {
    let references = lowers.iter().flat_map(|lower| lower.index.references());
    references.into_iter().any(|reference| match &reference.referent {
        Referent::Origin(origin) => !lowers.iter().any(|lower| lower.index.key() == origin.key),
        _ => false,
    })
}

/// What keeps a union with this upper from being opened: a reference that cannot be followed is named by its directory or file.
pub(crate) fn unusable(error: std::io::Error, upper: &Path) -> Error {
    match error.downcast::<Unresolved>() {
        Ok(Unresolved { path, why }) => Error::Io { doing: "use", path, source: std::io::Error::other(why) },
        Err(source) => Error::Io { doing: "open", path: upper.to_owned(), source },
    }
}
