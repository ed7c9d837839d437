//! Two trees, name by name.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::diff::{Difference, DifferenceKind, Side};
use crate::error::{Error, Result};
use crate::id::{Digest, Digester};
use crate::index::{Kind, Time};
use crate::pack::rw_layer::Content;
use crate::sys::{fs, retry};
use crate::union::{Attr, Ino, Union};

/// A directory that is being compared.
struct Frame {
    old: Option<Ino>,
    new: Ino,
    /// Bytes of its path.
    path: usize,
    /// Names still to be compared, last first, and whether the old tree and the new one have them.
    names: Vec<(Vec<u8>, bool, bool)>,
    /// What it is itself, until it is told.
    untold: Option<Attr>,
}

/// Says what is different in `new`, sorted by path.
pub(super) fn compare(old: &Side<'_>, new: &Side<'_>) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    let mut path = Vec::new();
    walk(old, new, &mut path, &mut found).map_err(|source| {
        let path = Path::new("/").join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or_default()));
        Error::Io { doing: "compare", path, source }
    })?;
    found.sort_unstable_by(|one: &Difference, other| one.path.cmp(&other.path));
    Ok(found)
}

fn walk(old: &Side<'_>, new: &Side<'_>, path: &mut Vec<u8>, found: &mut Vec<Difference>) -> io::Result<()> {
    let shared = shared(old, new)?;
    let mut stack = vec![frame(old, new, (Some(Ino::ROOT), Ino::ROOT), 0, None)?];
    while let Some(frame) = stack.last_mut() {
        path.truncate(frame.path);
        let Some((name, in_old, in_new)) = frame.names.pop() else {
            stack.pop();
            continue;
        };
        path.push(b'/');
        path.extend_from_slice(&name);
        let before = match frame.old.filter(|_| in_old) {
            Some(dir) => Some(old.union.lookup(dir, &name)?),
            None => None,
        };
        let after = if in_new { Some(new.union.lookup(frame.new, &name)?) } else { None };
        let Some(attr) = after else {
            found.push(Difference { path: path.clone(), kind: DifferenceKind::Deleted, attr: None });
            tell_dirs(&mut stack, path, found);
            continue;
        };
        if before.is_some_and(|before| before.ino == attr.ino) && attr.ino.0 < shared && !new.union.is_changed(attr.ino)
        {
            // All that is in it is the same too.
            new.union.forget(attr.ino, 1);
            continue;
        }
        let kind = match &before {
            None => Some(DifferenceKind::Added),
            Some(before) => differs(old.union, before, new, &attr, path)?.then_some(DifferenceKind::Changed),
        };
        if let Some(kind) = kind {
            found.push(Difference { path: path.clone(), kind, attr: Some(attr) });
            tell_dirs(&mut stack, path, found);
        }
        if attr.kind == Kind::Directory {
            let below = before.filter(|before| before.kind == Kind::Directory).map(|before| before.ino);
            let untold = Some(attr).filter(|_| kind.is_none());
            stack.push(self::frame(old, new, (below, attr.ino), path.len(), untold)?);
        }
    }
    Ok(())
}

/// Tells the directories on the way to what was told.
fn tell_dirs(stack: &mut [Frame], path: &[u8], found: &mut Vec<Difference>) {
    for frame in stack {
        if let (Some(attr), Some(path)) = (frame.untold.take(), path.get(..frame.path)) {
            found.push(Difference { path: path.to_vec(), kind: DifferenceKind::Changed, attr: Some(attr) });
        }
    }
}

/// Inodes below this one are the same in both, where they have the same number: both count them from the same lowest layers.
fn shared(old: &Side<'_>, new: &Side<'_>) -> io::Result<u64> {
    if new.live.is_some() {
        return Ok(0);
    }
    let count = old.layers.iter().zip(&new.layers).take_while(|(old, new)| old == new).count();
    Ok(new.union.first_of_layer(count))
}

fn frame(
    old: &Side<'_>,
    new: &Side<'_>,
    at: (Option<Ino>, Ino),
    path: usize,
    untold: Option<Attr>,
) -> io::Result<Frame> {
    let mut names: BTreeMap<Vec<u8>, (bool, bool)> = BTreeMap::new();
    if let Some(dir) = at.0 {
        each_name(old.union, dir, &mut |name| names.entry(name).or_default().0 = true)?;
    }
    each_name(new.union, at.1, &mut |name| names.entry(name).or_default().1 = true)?;
    let names = names.into_iter().rev().map(|(name, (old, new))| (name, old, new)).collect();
    Ok(Frame { old: at.0, new: at.1, path, names, untold })
}

fn each_name(union: &Union, dir: Ino, take: &mut dyn FnMut(Vec<u8>)) -> io::Result<()> {
    union.readdir(dir, 0, false, &mut |entry| {
        if entry.name != b"." && entry.name != b".." {
            take(entry.name.to_vec());
        }
        true
    })?;
    Ok(())
}

/// Whether the same name stands for something else now.
fn differs(old: &Union, before: &Attr, new: &Side<'_>, after: &Attr, path: &[u8]) -> io::Result<bool> {
    let same = |attr: &Attr| (attr.kind, attr.mode, attr.uid, attr.gid, attr.rdev);
    if same(before) != same(after) {
        return Ok(true);
    }
    let is_dir = after.kind == Kind::Directory;
    let has_size = matches!(after.kind, Kind::File | Kind::Symlink);
    if (has_size && before.size != after.size) || (!is_dir && !same_time(before.mtime, after.mtime)) {
        return Ok(true);
    }
    if after.kind == Kind::Symlink && old.readlink(before.ino)? != new.union.readlink(after.ino)? {
        return Ok(true);
    }
    let xattrs = |union: &Union, ino| -> io::Result<_> {
        let mut xattrs = union.xattrs(ino)?;
        xattrs.sort_unstable();
        Ok(xattrs)
    };
    if xattrs(old, before.ino)? != xattrs(new.union, after.ino)? {
        return Ok(true);
    }
    if after.kind != Kind::File {
        return Ok(false);
    }
    let Some(digest) = old.content_digest(before.ino) else { return Ok(false) };
    Ok(match new.union.content_digest(after.ino) {
        Some(now) => now != digest,
        None if new.live.as_ref().is_some_and(|root| is_untouched(root, path, before.mtime)) => false,
        None => content(new.union, after.ino)? != digest,
    })
}

/// As Docker compares times: where one has no parts of a second, no tar could hold them.
fn same_time(one: Time, other: Time) -> bool {
    one.sec == other.sec && (one.nsec == other.nsec || one.nsec == 0 || other.nsec == 0)
}

/// Whether a file of a mount was never changed: one of a layer shows all times of the layer's tar.
fn is_untouched(root: &Path, path: &[u8], mtime: Time) -> bool {
    let path = root.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
    match fs::symlink_metadata(path) {
        Ok(stat) => (stat.ctime(), stat.ctime_nsec()) == (mtime.sec, i64::from(mtime.nsec)),
        // error: its content is read then, which says why
        Err(_) => false,
    }
}

fn content(union: &Union, ino: Ino) -> io::Result<Digest> {
    let mut content = Content::new(union, ino);
    let mut digester = Digester::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = retry(|| content.read(&mut buffer))?;
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => digester.update(bytes),
            _ => return Ok(digester.finish()),
        }
    }
}
