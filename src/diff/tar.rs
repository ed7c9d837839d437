//! The differences as a layer's tar.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};

use crate::diff::{Difference, DifferenceKind};
use crate::index::Kind;
use crate::pack::rw_layer::write_entry;
use crate::pack::tree::names;
use crate::tarball::Pack;
use crate::union::{Attr, Change, Ino, Union};

/// Writes what makes the old tree to `union`. A file of several names is told under all of them: else the layer would make
/// two files of it.
pub(super) fn write(union: &Union, differences: Vec<Difference>, out: &mut dyn Write) -> io::Result<()> {
    let mut told: BTreeMap<Vec<u8>, Option<Attr>> = BTreeMap::new();
    let mut linked = HashSet::new();
    for Difference { path, kind, attr } in differences {
        if kind != DifferenceKind::Deleted {
            linked.extend(attr.filter(|attr| attr.kind != Kind::Directory && attr.nlink > 1).map(|attr| attr.ino));
        }
        told.insert(relative(&path), attr);
    }
    if !linked.is_empty() {
        add_names(union, &linked, &mut told)?;
    }
    let mut pack = Pack::new(out);
    let mut files: HashMap<Ino, Vec<u8>> = HashMap::new();
    for (path, attr) in &told {
        let change = match attr {
            None => {
                let at = path.iter().rposition(|byte| *byte == b'/');
                let (dir, name) = at.and_then(|at| path.split_at_checked(at)).unwrap_or((b"", path));
                Change::Whiteout { dir, name: name.strip_prefix(b"/").unwrap_or(name) }
            }
            Some(attr) if attr.kind != Kind::Directory && attr.nlink > 1 => match files.get(&attr.ino) {
                Some(target) => Change::Link { path, target, attr: *attr },
                None => {
                    files.insert(attr.ino, path.clone());
                    Change::Entry { path, attr: *attr, hides: false }
                }
            },
            Some(attr) => Change::Entry { path, attr: *attr, hides: false },
        };
        write_entry(union, &mut pack, change)?;
    }
    pack.finish().map(drop)
}

fn relative(path: &[u8]) -> Vec<u8> {
    path.strip_prefix(b"/").unwrap_or(path).to_vec()
}

/// Adds all names of these files, with the directories on the way.
fn add_names(union: &Union, files: &HashSet<Ino>, told: &mut BTreeMap<Vec<u8>, Option<Attr>>) -> io::Result<()> {
    let mut stack = vec![(Ino::ROOT, Vec::new(), names(union, Ino::ROOT)?)];
    let mut dirs: Vec<(Vec<u8>, Attr)> = Vec::new();
    while let Some((dir, path, left)) = stack.last_mut() {
        let Some(name) = left.pop() else {
            stack.pop();
            dirs.pop();
            continue;
        };
        let at = if path.is_empty() { name.clone() } else { [path.as_slice(), b"/", &name].concat() };
        let attr = union.lookup(*dir, &name)?;
        if attr.kind == Kind::Directory {
            stack.push((attr.ino, at.clone(), names(union, attr.ino)?));
            dirs.push((at, attr));
        } else if attr.nlink > 1 && files.contains(&attr.ino) {
            for (path, attr) in &dirs {
                told.entry(path.clone()).or_insert(Some(*attr));
            }
            told.entry(at).or_insert(Some(attr));
        } else {
            union.forget(attr.ino, 1);
        }
    }
    Ok(())
}
