//! What is done when a union is opened: ending what was cut short, and finding moved directories. The first of these also
//! when it ends.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use super::Union;
use super::copy_up::describe;
use super::disk_dir::{DIRECTORY, read_directory, remove_tree};
use super::errno::{Errno, FsResult};
use super::rename::finish_discard;
use super::tree::Tree;
use super::types::Ino;
use super::upper::{Mark, Spot, Upper, preserving_times};
use crate::index::Kind;
use crate::sys::DirStack;
use crate::whiteout;

impl Union {
    /// Brings the upper into order. Only after an unclean end is it walked for that.
    pub(super) fn recover(&self, unclean: bool) -> FsResult<()> {
        let Some(upper) = &self.upper else { return Ok(()) };
        if unclean {
            tidy(upper)?;
        }
        let root = Spot::Open(upper.root.clone());
        if self.metacopy && upper.mark(&root, Mark::Described)?.is_none() {
            if let Some(node) = self.lowers.node(Ino::ROOT) {
                describe(&root, &node.meta().ok_or(Errno::EIO)?, node.xattrs())?;
            }
            upper.set_mark(&root, Mark::Described, b"y")?;
        }
        let mut tree = self.tree.write();
        if upper.mark(&root, Mark::Moved)?.is_some() {
            self.learn_moved(&mut tree)?;
        }
        if unclean {
            self.finish_groups(&mut tree, upper)?;
        }
        Ok(())
    }

    /// Makes all directories known whose lower part is not found by their name: a lower file's names
    /// are looked up by way of them.
    fn learn_moved(&self, tree: &mut Tree) -> FsResult<()> {
        let mut seen = Vec::new();
        let mut todo = vec![Ino::ROOT];
        while let Some(dir) = todo.pop() {
            let lower = self.view(tree, dir)?.lower;
            let listing = self.load(tree, dir)?;
            let subdirectories: Vec<Vec<u8>> = listing
                .iter()
                .filter(|(_, entry)| entry.kind == Kind::Directory)
                .map(|(name, _)| name.to_vec())
                .collect();
            for name in subdirectories {
                let Some(found) = self.find(tree, dir, &name)? else { continue };
                let natural = lower.as_ref().and_then(|lower| self.lowers.child(lower, &name));
                if let Some(node) = tree.nodes.get_mut(&found.ino) {
                    node.moved = node.lower.is_some() && natural.is_none_or(|natural| natural.ino != found.ino);
                }
                seen.push(found.ino);
                todo.push(found.ino);
            }
        }
        for ino in seen.into_iter().rev() {
            self.settle(tree, ino);
        }
        Ok(())
    }
}

/// Takes the private corners out of the upper of a union that ends.
///
/// # Errors
/// What keeps something from going. The next union that opens the directory finds it.
pub(super) fn close(upper: &Upper) -> FsResult<()> {
    if upper.is_untidy() {
        tidy(upper)?;
        upper.set_tidy();
    }
    upper.close()
}

/// Walks the upper and ends every operation that was cut short but for the journal's: see the table of
/// [`crate::union`].
fn tidy(upper: &Upper) -> FsResult<()> {
    // How deep the directory is that it is in, and its name.
    let mut todo: Vec<(usize, Box<[u8]>)> = Vec::new();
    let mut stack = DirStack::new(upper.root.clone(), DIRECTORY);
    loop {
        let at = stack.dir()?;
        let content = read_directory(at.as_fd())?;
        let is_root = Arc::ptr_eq(&at, &upper.root);
        for name in content.private {
            if is_root && *name == *whiteout::LINKS {
                continue;
            }
            if is_root && *name == *whiteout::WORK {
                for left in read_directory(upper.work()?.as_fd())?.entries {
                    remove_tree(upper.work()?.as_fd(), &left.name)?;
                }
                continue;
            }
            preserving_times(at.as_fd(), || remove_tree(at.as_fd(), &name))?;
        }
        for entry in content.entries {
            if entry.kind == Kind::Directory && finish_discard(upper, &at, &entry.name)? {
                continue;
            }
            if content.whiteouts.contains(&entry.name) {
                upper.remove_whiteout(at.as_fd(), &entry.name)?;
            }
            if entry.kind == Kind::Directory {
                todo.push((stack.depth(), entry.name));
            }
        }
        let Some((depth, name)) = todo.pop() else { return Ok(()) };
        stack.leave_to(depth)?;
        stack.enter(&name)?;
    }
}
