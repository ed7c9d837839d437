//! What a header and the extended headers before it say of one file.

use std::collections::{BTreeMap, HashSet};

use super::header::{self, Header};
use super::pax::{self, Record};
use super::sparse::{self, Form};
use super::{Limits, Refusal, acl, size_text};
use crate::index::{Kind, Meta, Time, Xattrs};
use crate::whiteout::NAME_MAX;

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
const XATTR: &[u8] = b"SCHILY.xattr.";
/// `XATTR_SIZE_MAX`.
const XATTR_SIZE_MAX: usize = 65_536;
/// Bytes of a path with its NUL (linux/limits.h).
const PATH_MAX: usize = 4096;
/// A name or link that two headers give differently is read differently by every tool.
const AMBIGUOUS: &str = "has two different long names";

/// What stands before a header and belongs to it.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// PAX records.
    pub(super) pax: Vec<Record>,
    /// GNU's long path (`L`).
    pub(super) path: Option<Vec<u8>>,
    /// GNU's long link target (`K`).
    pub(super) link: Option<Vec<u8>>,
    /// How long all that is in the tar.
    pub(super) bytes: u64,
}

/// One file as the tar has it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    /// The target of a symbolic or hard link.
    pub(super) link: Vec<u8>,
    /// A further name of the file at `link`; `meta` is of no account then.
    pub(super) hard_link: bool,
    pub(super) meta: Meta,
    pub(super) xattrs: Xattrs,
    /// Bytes of data that follow.
    pub(super) data: u64,
    pub(super) sparse: Option<Form>,
}

/// The records of global headers, of which the last one of a keyword counts.
pub(super) type Global = BTreeMap<Vec<u8>, Vec<u8>>;

/// Adds the records of one more global header.
pub(super) fn add_global(global: &mut Global, records: Vec<Record>) -> Result<(), String> {
    for (keyword, value) in records {
        if matches!(&keyword[..], b"path" | b"linkpath" | b"size")
            || keyword.starts_with(b"GNU.sparse.")
            || keyword.starts_with(b"SCHILY.")
        {
            // Readers disagree on whether that holds, and so on where the next entry begins; attributes of
            // all files at once would multiply.
            return Err(format!("has a global header that sets `{}`", keyword.escape_ascii()));
        }
        global.insert(keyword, value);
    }
    Ok(())
}

/// The path that the entry is known by, whatever else is wrong with it.
pub(super) fn path(header: &Header, before: &Before) -> Result<Vec<u8>, String> {
    let of = |keyword: &[u8]| last(&before.pax, keyword);
    let pax = of(b"GNU.sparse.name").or_else(|| of(b"path"));
    match (&before.path, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(AMBIGUOUS.into()),
        (Some(path), _) => Ok(path.clone()),
        (None, Some(path)) => Ok(path.to_vec()),
        (None, None) => Ok(header.path()),
    }
}

fn last<'r>(records: &'r [Record], keyword: &[u8]) -> Option<&'r [u8]> {
    let found = records.iter().rev().find(|(known, _)| known == keyword);
    found.map(|(_, value)| &value[..]).filter(|value| !value.is_empty())
}

impl Entry {
    /// Puts all together. Extended headers always count for more than the header.
    pub(super) fn new(
        header: &Header,
        path: Vec<u8>,
        before: &Before,
        global: &Global,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        let (kind, hard_link) = match header.kind() {
            b'0' | 0 if path.ends_with(b"/") => (Kind::Directory, false),
            b'0' | 0 | b'7' | b'S' => (Kind::File, false),
            b'1' => (Kind::File, true),
            b'2' => (Kind::Symlink, false),
            b'3' => (Kind::CharDevice, false),
            b'4' => (Kind::BlockDevice, false),
            b'5' => (Kind::Directory, false),
            b'6' => (Kind::Fifo, false),
            other => return Err(format!("is of the unknown type `{}`", other.escape_ascii()).into()),
        };
        let old = header.old();
        let value = |keyword: &[u8]| {
            let all = || global.get(keyword).map(|value| &value[..]).filter(|value| !value.is_empty());
            last(&before.pax, keyword).or_else(all)
        };
        let owner = |keyword: &str, field: &[u8]| {
            let id = match value(keyword.as_bytes()) {
                Some(text) => pax::number(text).ok_or_else(|| format!("has a malformed {keyword}"))?,
                None => header.number(keyword, field)?,
            };
            // To the kernel the highest one is no id (`INVALID_UID`, include/linux/uidgid.h).
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| format!("has a {keyword} out of range"))
        };
        let mtime = match value(b"mtime") {
            Some(text) => pax::time(text),
            None => header::number(&old.mtime).map(|sec| Time { sec, nsec: 0 }),
        };
        let size = match last(&before.pax, b"size") {
            Some(text) => pax::number(text).ok_or("has a malformed size")?,
            None => header.size()?,
        };
        // Only regular files have data, whatever the size says (as Go's archive/tar, and so Docker, has it).
        let data = if kind == Kind::File && !hard_link { size } else { 0 };
        if size > 0 && kind == Kind::Directory && header.kind() != b'5' {
            return Err("is a directory with data".into());
        }
        let sparse = match kind {
            Kind::File if header.kind() == b'S' => Some(sparse::old_gnu(header, limits.extents)?),
            Kind::File if !hard_link => sparse::from_pax(&before.pax, limits.extents)?,
            _ => None,
        };
        let link = match (&before.link, last(&before.pax, b"linkpath")) {
            (Some(gnu), Some(pax)) if gnu != pax => return Err(AMBIGUOUS.into()),
            (Some(link), _) => link.clone(),
            (None, Some(link)) => link.to_vec(),
            (None, None) => header.link(),
        };
        // The kernel's limit, which no setting raises.
        if kind == Kind::Symlink && (link.is_empty() || link.contains(&0) || link.len() >= PATH_MAX) {
            return Err("is a symbolic link to nothing that could be a path".into());
        }
        let rdev = match kind {
            Kind::CharDevice | Kind::BlockDevice => header.device()?,
            _ => (0, 0),
        };
        let meta = Meta {
            kind,
            mode: (header.number("mode", &old.mode)? & 0o7777) as u32,
            uid: owner("uid", &old.uid)?,
            gid: owner("gid", &old.gid)?,
            mtime: mtime.ok_or("has a malformed mtime")?,
            rdev,
            size: match (&sparse, kind) {
                (Some(Form::Known(map) | Form::Blocks(map)), _) => map.size,
                (Some(Form::InData(size)), _) => *size,
                (None, Kind::Symlink) => link.len() as u64,
                (None, _) => data,
            },
            blocks: 0,
        };
        let xattrs = xattrs(&before.pax, limits)?;
        Ok(Self { path, link, hard_link, meta, xattrs, data, sparse })
    }
}

/// The attributes, in the order of the last record of each.
fn xattrs(records: &[Record], limits: &Limits) -> Result<Xattrs, Refusal> {
    let mut seen = HashSet::new();
    let (mut xattrs, mut acls) = (Xattrs::new(), Xattrs::new());
    for (keyword, value) in records.iter().rev() {
        let text = |name: &[u8]| acl::to_xattr(value).map(|value| (name.to_vec(), value));
        match &keyword[..] {
            b"SCHILY.acl.access" => acls.extend(text(ACL_ACCESS)),
            b"SCHILY.acl.default" => acls.extend(text(ACL_DEFAULT)),
            _ => {
                let Some(name) = keyword.strip_prefix(XATTR) else { continue };
                if name.is_empty() || name.len() > NAME_MAX || value.len() > XATTR_SIZE_MAX {
                    return Err("has an extended attribute that no file can have".into());
                }
                if seen.insert(name) {
                    xattrs.push((name.to_vec(), value.clone()));
                }
            }
        }
    }
    xattrs.reverse();
    for (name, value) in acls {
        if seen.insert(if name == ACL_ACCESS { ACL_ACCESS } else { ACL_DEFAULT }) {
            xattrs.push((name, value));
        }
    }
    let total =
        xattrs.iter().map(|(name, value)| name.len().saturating_add(value.len())).fold(0, usize::saturating_add);
    if total > limits.xattrs {
        let why = format!("has more than {} bytes of extended attributes", size_text(limits.xattrs as u64));
        return Err(Refusal::limit("xattrs", why));
    }
    Ok(xattrs)
}
