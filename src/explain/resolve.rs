//! From the path that was asked for to the one that is meant: links on the way are followed inside the root.

use std::collections::VecDeque;
use std::io;

use crate::explain::layers::Layers;
use crate::explain::{Followed, joined};
use crate::index::Kind;

/// As `MAXSYMLINKS` of Linux.
const LINKS: usize = 40;

/// A path without links on the way.
pub(super) struct Resolved {
    pub(super) components: Vec<Vec<u8>>,
    pub(super) links: Vec<Followed>,
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

/// Follows the links on the way. What is not there any more is taken by its name.
pub(super) fn resolve(layers: &Layers, path: &[u8]) -> io::Result<Resolved> {
    let mut todo: VecDeque<Vec<u8>> = parts(path).collect();
    let mut components: Vec<Vec<u8>> = Vec::new();
    let mut links = Vec::new();
    while let Some(name) = todo.pop_front() {
        if name == b".." {
            components.pop();
            continue;
        }
        components.push(name);
        if todo.is_empty() {
            break;
        }
        let Some((source, found)) = layers.shown(&components)? else { continue };
        if found.meta.kind != Kind::Symlink {
            continue;
        }
        if links.len() >= LINKS {
            return Err(rustix::io::Errno::LOOP.into());
        }
        links.push(Followed { path: joined(&components), target: found.target.clone(), source });
        components.pop();
        if found.target.starts_with(b"/") {
            components.clear();
        }
        for part in parts(&found.target).rev() {
            todo.push_front(part);
        }
    }
    Ok(Resolved { components, links })
}
