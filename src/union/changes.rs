//! What a rw layer changes: the upper told as the next layer over the lowers.
//!
//! Marks are resolved on the way: a directory that was renamed is told with all that it shows, a file whose
//! data are still a lower file's is told whole. A whiteout is told only where a lower has the name. The order
//! is canonical: a directory before what is in it, names by their bytes.
//!
//! A lower file of several names that is told under one of them, as its directory was renamed, is told under all: else
//! the layer would make two files of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Union;
use super::errno::{Errno, FsResult};
use super::lowers::LowerDir;
use super::types::{Attr, Ino};
use crate::index::{Kind, Meta};

/// One entry of the layer. Paths are relative to the root, whose own is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// A file or directory, new or changed.
    Entry {
        /// Where.
        path: &'a [u8],
        /// What `stat` shows of it; its content and the rest are read by its number.
        attr: Attr,
        /// The lowers have something under this name, which is to be seen again where nothing is told of it.
        hides: bool,
    },
    /// One more name of a file that was told already.
    Link {
        /// Where.
        path: &'a [u8],
        /// Where the file was told.
        target: &'a [u8],
        /// What `stat` shows of it.
        attr: Attr,
    },
    /// A name that is gone.
    Whiteout {
        /// The directory.
        dir: &'a [u8],
        /// The name in it.
        name: &'a [u8],
    },
    /// A directory that shows nothing of the lower layers; it was just told.
    Opaque {
        /// Which.
        dir: &'a [u8],
    },
}

/// Takes the entries of the layer.
type Each<'a> = &'a mut dyn FnMut(Change<'_>) -> FsResult<()>;

/// What is told though nothing at its place has changed.
#[derive(Debug, Default)]
struct Forced {
    files: HashSet<Ino>,
    /// Those on the way to the files.
    dirs: HashSet<Ino>,
}

/// A directory whose entries are being told.
struct Frame {
    ino: Ino,
    /// Bytes of its path.
    path: usize,
    /// What the lowers show at this path through the layer that is told.
    base: Option<Arc<LowerDir>>,
    /// Those still to be told, last first.
    names: Vec<(Vec<u8>, Option<Ino>)>,
}

/// Whether this is the error for what is no longer there.
fn has_gone(error: Errno) -> bool {
    matches!(error, Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR)
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

impl Union {
    /// Tells all that the upper changes. The union must not be changed meanwhile. After an error `path` is where it was.
    ///
    /// # Errors
    /// What `each` answers, and what reading gives.
    pub fn changes(&self, path: &mut Vec<u8>, each: Each<'_>) -> FsResult<()> {
        self.tell(false, path, each)
    }

    /// The same while the union is changed: what goes meanwhile may be told or not, but never is what the lowers have in
    /// its place to be seen; what is moved may be told twice or not at all.
    ///
    /// # Errors
    /// As [`Union::changes`].
    pub fn changes_live(&self, path: &mut Vec<u8>, each: Each<'_>) -> FsResult<()> {
        self.tell(true, path, each)
    }

    fn tell(&self, live: bool, path: &mut Vec<u8>, each: Each<'_>) -> FsResult<()> {
        let mut shared = HashSet::new();
        self.walk(&Forced::default(), live, path, &mut |change| {
            if let Change::Entry { attr, .. } = change
                && attr.kind != Kind::Directory
                && attr.nlink > 1
                && !self.is_changed(attr.ino)
            {
                shared.insert(attr.ino);
            }
            Ok(())
        })?;
        path.clear();
        let forced = self.force(shared)?;
        self.walk(&forced, live, path, each)
    }

    /// Finds the way to all names of these files.
    fn force(&self, files: HashSet<Ino>) -> FsResult<Forced> {
        let mut dirs = HashSet::new();
        let mut tree = self.tree.write();
        for file in &files {
            for (parent, _) in self.union_names(&mut tree, *file)? {
                let mut at = parent;
                while dirs.insert(at) && at != Ino::ROOT {
                    at = self.parent(&tree, at)?;
                }
            }
        }
        Ok(Forced { files, dirs })
    }

    fn walk(&self, forced: &Forced, live: bool, path: &mut Vec<u8>, each: Each<'_>) -> FsResult<()> {
        path.clear();
        let root = self.getattr(Ino::ROOT)?;
        if !self.is_as_below(&root)? {
            each(Change::Entry { path: b"", attr: root, hides: true })?;
        }
        let mut told: HashMap<Ino, Vec<u8>> = HashMap::new();
        let mut stack = vec![self.frame(Ino::ROOT, 0, Some(self.below().root().clone()))?];
        while let Some(frame) = stack.last_mut() {
            path.truncate(frame.path);
            let Some((name, found)) = frame.names.pop() else {
                let left = frame.ino;
                stack.pop();
                // No reference to the root is counted.
                if left != Ino::ROOT {
                    self.forget(left, 1);
                }
                continue;
            };
            if found.is_none() {
                each(Change::Whiteout { dir: path, name: &name })?;
                continue;
            }
            let below = frame.base.as_ref().and_then(|base| self.below().child(base, &name));
            let below = below.filter(|below| !below.ino.is_mount_point());
            let attr = match self.lookup(frame.ino, &name) {
                Err(error) if live && has_gone(error) => {
                    if below.is_some() {
                        each(Change::Whiteout { dir: path, name: &name })?;
                    }
                    continue;
                }
                found => found.inspect_err(|_| push(path, &name))?,
            };
            let is_upper = self.is_changed(attr.ino);
            // The lowers of the layer that is told have no mount points, nor has it any but those that were changed.
            let is_same = below.is_some_and(|below| self.below_of(attr.ino) == Some(below.ino))
                || (attr.ino.is_mount_point() && !is_upper);
            let is_forced = forced.files.contains(&attr.ino) || forced.dirs.contains(&attr.ino);
            if is_same && !is_upper && !is_forced {
                self.forget(attr.ino, 1);
                continue;
            }
            push(path, &name);
            if attr.kind == Kind::Directory {
                let base = frame.base.as_ref().filter(|_| is_same);
                let base = base.and_then(|base| self.below().subdirectory(base, &name));
                let is_opaque = below.is_some_and(|below| below.kind == Kind::Directory) && !is_same;
                let entered = each(Change::Entry { path, attr, hides: below.is_some() })
                    .and_then(|()| if is_opaque { each(Change::Opaque { dir: path }) } else { Ok(()) })
                    .map(|()| self.frame(attr.ino, path.len(), base));
                match entered {
                    Ok(Ok(frame)) => stack.push(frame),
                    Ok(Err(error)) if live && has_gone(error) => {
                        self.forget(attr.ino, 1);
                        if is_same {
                            each(Change::Opaque { dir: path })?;
                        }
                    }
                    Ok(Err(error)) | Err(error) => {
                        self.forget(attr.ino, 1);
                        return Err(error);
                    }
                }
                continue;
            }
            let result = match told.get(&attr.ino) {
                Some(target) => each(Change::Link { path, target, attr }),
                None => each(Change::Entry { path, attr, hides: below.is_some() }),
            };
            self.forget(attr.ino, 1);
            result?;
            if attr.nlink > 1 {
                told.entry(attr.ino).or_insert_with(|| path.clone());
            }
        }
        Ok(())
    }

    fn frame(&self, ino: Ino, path: usize, base: Option<Arc<LowerDir>>) -> FsResult<Frame> {
        let mut names: Vec<(Vec<u8>, Option<Ino>)> = Vec::new();
        self.readdir(ino, 0, false, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                names.push((entry.name.to_vec(), Some(entry.ino)));
            }
            true
        })?;
        names.sort_unstable();
        let mut hidden = Vec::new();
        if let Some(base) = &base {
            self.below().for_each_child(base, 0, &mut |_, name, child| {
                let is_shown = names.binary_search_by(|(shown, _)| shown.as_slice().cmp(name)).is_ok();
                if !is_shown && !child.ino.is_mount_point() {
                    hidden.push((name.to_vec(), None));
                }
                Ok(true)
            })?;
        }
        names.append(&mut hidden);
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Frame { ino, path, base, names })
    }

    /// Whether the root is as the lowers have it.
    fn is_as_below(&self, root: &Attr) -> FsResult<bool> {
        let Some(node) = self.below().node(Ino::ROOT) else { return Ok(false) };
        let Some(Meta { mode, uid, gid, mtime, .. }) = node.meta() else { return Ok(false) };
        if (mode, uid, gid, mtime) != (root.mode, root.uid, root.gid, root.mtime) {
            return Ok(false);
        }
        let mut shown = self.xattrs(Ino::ROOT)?;
        let mut below: Vec<_> = node.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        shown.sort_unstable();
        below.sort_unstable();
        Ok(shown == below)
    }

    /// All extended attributes of an inode, with their values.
    ///
    /// # Errors
    /// As `listxattr(2)` and `getxattr(2)`.
    pub fn xattrs(&self, ino: Ino) -> FsResult<crate::index::Xattrs> {
        let names = self.listxattr(ino)?;
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        names.map(|name| self.getxattr(ino, name).map(|value| (name.to_vec(), value))).collect()
    }
}
