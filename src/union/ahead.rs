//! What is likely to be read next, and having it ready.

use rustix::fs::Advice;

use super::Union;
use super::types::Ino;
use crate::index::Kind;
use crate::sys::call;

/// So much of a file's beginning is made ready. Of a larger one, the kernel itself reads on.
const READY: u64 = 256 << 10;

impl Union {
    /// Whether a file is the first or nearly the first of its lower directory, in the order in which a program would read all of
    /// it.
    #[must_use]
    pub fn begins_directory(&self, ino: Ino) -> bool {
        // What is no file may stand before it.
        const NEARLY: u32 = 4;
        self.lowers.siblings(ino).is_some_and(|(before, _)| before <= NEARLY)
    }

    /// The files that follow one of a lower layer in its directory, in the order of their names.
    #[must_use]
    pub fn files_after(&self, ino: Ino, count: usize) -> Vec<Ino> {
        self.lowers.siblings(ino).map(|(_, files)| files.take(count).collect()).unwrap_or_default()
    }

    /// The first files of a lower directory.
    #[must_use]
    pub fn first_files(&self, dir: Ino, count: usize) -> Vec<Ino> {
        let mut files = Vec::new();
        let Some(dir) = self.lowers.dir(dir) else { return files };
        let listed = self.lowers.for_each_child(&dir, 0, &mut |_, _, child| {
            if child.kind == Kind::File {
                files.push(child.ino);
            }
            Ok(files.len() < count)
        });
        // error: the closure has none, and what a damaged index does not tell need not be ready.
        listed.map_or_else(|_| Vec::new(), |_| files)
    }

    /// Opens a file of a lower layer, and has the disk read its beginning.
    pub fn make_ready(&self, ino: Ino) {
        if self.tree.read().nodes.contains_key(&ino) {
            return;
        }
        let Some(size) = self.lowers.node(ino).and_then(|node| node.meta()).map(|meta| meta.size) else { return };
        let Some(length) = std::num::NonZeroU64::new(size.min(READY)) else { return };
        let opened = self.lowers.open(ino, &self.descriptors);
        let advised = opened.and_then(|file| Ok(call::fadvise(&*file, 0, Some(length), Advice::WillNeed)?));
        // error: the read that it is for tells the same.
        advised.unwrap_or_default();
    }
}
