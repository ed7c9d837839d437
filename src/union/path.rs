//! By which path an inode is found, for messages.

use super::Union;
use super::types::Ino;

/// Deeper than any path.
const DEEPEST: usize = 4096;

impl Union {
    /// One of the paths of an inode below the root; none when it has none any more, or none is known.
    #[must_use]
    pub fn path(&self, ino: Ino) -> Option<Vec<u8>> {
        let tree = self.tree.read();
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT && parts.len() < DEEPEST {
            if let Some((parent, name)) = tree.nodes.get(&at).and_then(|node| node.names.first()) {
                parts.push(name.to_vec());
                at = *parent;
                continue;
            }
            let path = self.lowers.path(at)?;
            parts.extend(path.into_iter().rev());
            break;
        }
        parts.reverse();
        Some(parts.join(&b'/'))
    }
}
