//! Whose data a file shows.

use super::Union;
use super::types::Ino;
use crate::id::Digest;

impl Union {
    /// The digest of a file's content, where its data are a lower file's and the layer's index has it. An inode of the upper
    /// must have been looked up before.
    #[must_use]
    pub fn content_digest(&self, ino: Ino) -> Option<Digest> {
        let has_own = self.tree.read().nodes.get(&ino).is_some_and(|node| !node.metacopy);
        if has_own { None } else { self.lowers.node(ino)?.digest() }
    }
}
