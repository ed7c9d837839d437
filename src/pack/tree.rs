//! A tree of a union as a tar: every name that is visible, and nothing else.
//!
//! The order is canonical: a directory before what is in it, names by their bytes. A file of several names stands under the
//! first of them, the others are links to it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::index::Kind;
use crate::pack::recorded::Recorded;
use crate::pack::rw_layer::{place, write_entry};
use crate::tarball::Pack;
use crate::union::{Attr, Change, Ino, Union};

/// A directory whose entries are being written.
struct Frame {
    ino: Ino,
    /// Bytes of its path.
    path: usize,
    /// Names still to be written, last first.
    names: Vec<Vec<u8>>,
}

/// Writes the tar of what `top` is, under the name `name`, and of all that is in it, to `out`, which is called `shown` in
/// messages. An empty name is the root's.
///
/// # Errors
/// When the union cannot be read, or `out` not be written.
pub(crate) fn write_tree(union: &Union, top: Attr, name: &[u8], out: &mut dyn Write, shown: &Path) -> Result<()> {
    let mut out = Recorded::new(out);
    let mut pack = Pack::new(&mut out as &mut dyn Write);
    let mut path = name.to_vec();
    let written = walk(union, top, &mut path, &mut |change| write_entry(union, &mut pack, change));
    let written = written.and_then(|()| pack.finish().map(drop));
    match (written, out.failure) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(source)) => Err(Error::Io { doing: "write", path: shown.to_owned(), source }),
        (Err(source), None) => Err(Error::Io { doing: "read", path: place(&path), source }),
    }
}

/// Tells each entry; after an error `path` is where it was.
fn walk(
    union: &Union,
    top: Attr,
    path: &mut Vec<u8>,
    each: &mut dyn FnMut(Change<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut told: HashMap<Ino, Vec<u8>> = HashMap::new();
    each(Change::Entry { path, attr: top, hides: false })?;
    let mut stack = Vec::new();
    if top.kind == Kind::Directory {
        stack.push(Frame { ino: top.ino, path: path.len(), names: names(union, top.ino)? });
    }
    while let Some(frame) = stack.last_mut() {
        path.truncate(frame.path);
        let Some(name) = frame.names.pop() else {
            let left = frame.ino;
            stack.pop();
            if left != top.ino {
                union.forget(left, 1);
            }
            continue;
        };
        let attr = union.lookup(frame.ino, &name)?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        if attr.kind == Kind::Directory {
            each(Change::Entry { path, attr, hides: false })?;
            stack.push(Frame { ino: attr.ino, path: path.len(), names: names(union, attr.ino)? });
            continue;
        }
        match told.get(&attr.ino) {
            Some(target) => each(Change::Link { path, target, attr })?,
            None => each(Change::Entry { path, attr, hides: false })?,
        }
        union.forget(attr.ino, 1);
        if attr.nlink > 1 {
            told.entry(attr.ino).or_insert_with(|| path.clone());
        }
    }
    Ok(())
}

/// The names in a directory, last first.
pub(crate) fn names(union: &Union, dir: Ino) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    union.readdir(dir, 0, false, &mut |entry| {
        if entry.name != b"." && entry.name != b".." {
            names.push(entry.name.to_vec());
        }
        true
    })?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}
