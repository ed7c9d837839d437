//! What is odd about a layer's tar, found out from its split: all headers are in it, and no content has to be read.
//! So an import without this check does no work for it, and a layer that was imported long ago can be checked as well.

mod source;

use std::collections::HashSet;
use std::io::Read;

use super::entry::{self, Before, Entry, Global};
use super::header::Header;
use super::links::{Links, Stands};
use super::oddity::{Odd, Oddities};
use super::sparse::{self, Form, TextMap};
use super::split::Reader;
use super::{BLOCK, Failure, Limits, disk, is_header, path, pax};
use crate::id::Digest;
use crate::index::Kind;
use crate::private_xattr;
use crate::whiteout::{self, Marker};
use source::Source;

/// The largest size that eleven octal digits can say, and the largest id that seven can.
const MAX_SIZE: u64 = 0o777_7777_7777;
const MAX_ID: u64 = 0o777_7777;
/// Bytes of a name or link in a ustar header.
const NAME: usize = 100;
const CAPABILITY: &[u8] = b"security.capability";

/// Finds what is odd in the tar that `split` was made of.
///
/// # Errors
/// [`Failure::Bad`] when the split is damaged, else what failed.
pub fn audit(split: &mut dyn Read) -> Result<Oddities, Failure> {
    let source = Source { split: Reader::new(split)?, literal: 0, content: 0, ended: false };
    let mut audit = Audit {
        source,
        limits: Limits::of_own(),
        global: Global::new(),
        seen: HashSet::new(),
        missing: HashSet::new(),
        whiteouts: Vec::new(),
        links: Links::default(),
        found: Oddities::default(),
    };
    audit.run()?;
    Ok(audit.found)
}

fn damaged() -> Failure {
    Failure::bad("is damaged: it is no tar")
}

/// Whether a part of a path makes all that it names a union's own.
fn is_private(part: &&[u8]) -> bool {
    matches!(whiteout::parse(part), Some(Marker::Private | Marker::Long))
}

struct Audit<'a> {
    source: Source<'a>,
    limits: Limits,
    global: Global,
    /// Digests of paths that had an entry: paths may be long.
    seen: HashSet<Digest>,
    /// Directories that had none, and were told of.
    missing: HashSet<Digest>,
    /// Paths of whiteouts, with the digests of the paths that they hide.
    whiteouts: Vec<(Vec<u8>, Digest)>,
    links: Links,
    found: Oddities,
}

impl Audit<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let mut before = Before::default();
        let mut has_end = false;
        while let Some(block) = self.source.block()? {
            if block == [0; BLOCK] {
                has_end = self.end()?;
                break;
            }
            let header = Header::parse(&block).ok_or_else(damaged)?;
            if !self.extended(&header, &mut before)? {
                self.entry(&header, &std::mem::take(&mut before))?;
            }
        }
        if !has_end {
            self.found.add(Odd::NoEnd, b"", "the two blocks of zeros at the end are missing");
        }
        for (whiteout, hidden) in std::mem::take(&mut self.whiteouts) {
            if self.seen.contains(&hidden) {
                self.found.add(Odd::OwnWhiteout, &whiteout, "the layer has what it hides");
            }
        }
        Ok(())
    }

    /// After the first block of zeros; says whether there is a second one.
    fn end(&mut self) -> Result<bool, Failure> {
        let has_end = self.source.block()?.is_some();
        let (mut at, mut other, mut has_entries) = (0u64, None, false);
        let mut block = Vec::new();
        while self.source.take(u64::MAX, |bytes| block.extend_from_slice(bytes))? > 0 {
            let whole = block.len().saturating_sub(block.len() % BLOCK);
            for block in block.drain(..whole).collect::<Vec<_>>().as_chunks::<BLOCK>().0 {
                if *block != [0; BLOCK] {
                    other.get_or_insert(at);
                    has_entries |= is_header(block);
                }
                at = at.saturating_add(BLOCK as u64);
            }
        }
        if block.iter().any(|byte| *byte != 0) {
            other.get_or_insert(at);
        }
        if let Some(other) = other {
            let what = if has_entries { "more entries" } else { "something but zeros" };
            self.found.add(Odd::Trailing, b"", format!("{what} {other} bytes after the end"));
        }
        Ok(has_end)
    }

    fn extended(&mut self, header: &Header, before: &mut Before) -> Result<bool, Failure> {
        let kind = header.kind();
        if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
            return Ok(false);
        }
        let size = header.size().map_err(|_| damaged())?;
        // It was not larger when the split was made.
        if size > u64::from(u32::MAX) {
            return Err(damaged());
        }
        let body = self.source.bytes(size)?;
        self.source.skip_padding(size)?;
        let text = || body.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        match kind {
            b'x' => before.pax.extend(pax::records(&body).ok_or_else(damaged)?),
            b'g' => {
                let records = pax::records(&body).ok_or_else(damaged)?;
                let keys: Vec<String> = records.iter().map(|(key, _)| key.escape_ascii().to_string()).collect();
                self.found.add(Odd::GlobalHeader, b"", format!("sets {} for all that follows", keys.join(", ")));
                entry::add_global(&mut self.global, records).map_err(|_| damaged())?;
            }
            b'L' => before.path = Some(text()),
            _ => before.link = Some(text()),
        }
        Ok(true)
    }

    fn entry(&mut self, header: &Header, before: &Before) -> Result<(), Failure> {
        let whole = entry::path(header, before).map_err(|_| damaged())?;
        let mut entry = Entry::new(header, whole.clone(), before, &self.global, &self.limits).map_err(|_| damaged())?;
        let components = path::components(&whole, &self.limits).map_err(|_| damaged())?;
        let stands = self.place(&components)?;
        let path = stands.path;
        self.headers(header, before, &entry, &path);
        if whole.split(|byte| *byte == b'/').any(|part| part == b"..") {
            self.found.add(Odd::DotDot, &path, format!("its path is `{}`", whole.escape_ascii()));
        }
        if let Some(link) = stands.link {
            let (whole, link) = (whole.escape_ascii(), link.escape_ascii());
            self.found.add(Odd::ThroughLink, &path, format!("its path is `{whole}`, through the link `{link}`"));
        }
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        self.name(&whole, &path, &parts, &entry);
        self.rights(&entry, &path);
        self.stands(&path, &entry)?;
        if let Some(form) = entry.sparse.take() {
            self.found.add(Odd::Sparse, &path, format!("is {} bytes with its holes", entry.meta.size));
            self.map(form, &mut entry)?;
        }
        self.source.skip(entry.data)?;
        self.source.skip_padding(entry.data)
    }

    /// Where the entry of these components stands.
    fn place(&self, components: &[&[u8]]) -> Result<Stands, Failure> {
        match components.split_last() {
            // What is a union's own stands at its path: unpacking follows no link to it.
            Some(_) if components.iter().any(is_private) => Ok(Stands { path: components.join(&b'/'), link: None }),
            Some((name, dirs)) => self.links.place(dirs, name, &self.limits).map_err(|_| damaged()),
            None => Ok(Stands { path: Vec::new(), link: None }),
        }
    }

    /// Remembers what stands at a path from now on.
    fn stands(&mut self, path: &[u8], entry: &Entry) -> Result<(), Failure> {
        if path.is_empty() || path.split(|byte| *byte == b'/').any(whiteout::is_reserved) {
            return Ok(());
        }
        match entry.meta.kind {
            Kind::Directory => self.links.directory(path),
            Kind::Symlink => self.links.replace(path, Some(&entry.link)),
            _ if entry.hard_link => {
                let components = path::components(&entry.link, &self.limits).map_err(|_| damaged())?;
                let target = self.place(&components)?.path;
                let target = self.links.target(&target).map(<[u8]>::to_vec);
                self.links.replace(path, target.as_deref());
            }
            _ => self.links.replace(path, None),
        }
        Ok(())
    }

    /// What is a part of the map, and no data.
    fn map(&mut self, form: Form, entry: &mut Entry) -> Result<(), Failure> {
        let mut more = true;
        match form {
            Form::Known(_) => {}
            Form::Blocks(mut map) => {
                while more {
                    let block = self.source.block()?.ok_or_else(damaged)?;
                    more = sparse::extend_old_gnu(&mut map, &block, usize::MAX).map_err(|_| damaged())?;
                }
            }
            Form::InData(_) => {
                let mut text = TextMap::default();
                while more {
                    let block = self.source.block()?.ok_or_else(damaged)?;
                    entry.data = entry.data.checked_sub(BLOCK as u64).ok_or_else(damaged)?;
                    more = !text.block(&block, usize::MAX).map_err(|_| damaged())?;
                }
            }
        }
        Ok(())
    }

    /// What header and extended headers say differently without need.
    fn headers(&mut self, header: &Header, before: &Before, entry: &Entry, path: &[u8]) {
        let of = |keyword: &[u8]| {
            let found = before.pax.iter().rev().find(|(known, _)| known == keyword);
            found.map(|(_, value)| &value[..]).filter(|value| !value.is_empty())
        };
        let old = header.old();
        let numbers = [("size", &old.size[..], MAX_SIZE), ("uid", &old.uid, MAX_ID), ("gid", &old.gid, MAX_ID)];
        for (keyword, field, most) in numbers {
            let said = of(keyword.as_bytes()).and_then(pax::number).filter(|number| *number <= most);
            let header = header.number(keyword, field).ok();
            if let (Some(said), Some(header)) = (said, header)
                && said != header
            {
                let detail = format!("its {keyword} is {said} in the PAX header and {header} in the header");
                self.found.add(Odd::Disagreement, path, detail);
            }
        }
        let is_sparse = entry.sparse.is_some();
        let texts = [("path", header.path(), is_sparse), ("linkpath", header.link(), false)];
        for (keyword, header, may_differ) in texts {
            let Some(said) = of(keyword.as_bytes()).filter(|_| !may_differ) else { continue };
            let trimmed = |text: &[u8]| text.strip_suffix(b"/").unwrap_or(text).to_vec();
            if said.len() <= NAME && said.is_ascii() && trimmed(said) != trimmed(&header) {
                let (said, header) = (said.escape_ascii(), header.escape_ascii());
                let detail = format!("its {keyword} is `{said}` in the PAX header and `{header}` in the header");
                self.found.add(Odd::Disagreement, path, detail);
            }
        }
        let is_file = entry.meta.kind == Kind::File && !entry.hard_link;
        if let Ok(size) = header.size()
            && size > 0
            && !is_file
        {
            self.found.add(Odd::SizeWithoutData, path, format!("says that {size} bytes follow, and none do"));
        }
    }

    fn name(&mut self, whole: &[u8], path: &[u8], components: &[&[u8]], entry: &Entry) {
        if whole.starts_with(b"/") {
            self.found.add(Odd::AbsolutePath, path, "its path is absolute");
        }
        if components.iter().any(is_private) {
            self.found.add(Odd::Private, path, "is a union's own, and no content");
            return;
        }
        if !self.seen.insert(Digest::of(path)) {
            self.found.add(Odd::Duplicate, path, "an entry before has this path");
        }
        let Some((name, dirs)) = components.split_last() else { return };
        // What is above a path that is known was looked at with it.
        let (mut missing, mut rest) = (Vec::new(), path);
        while let Some(end) = rest.iter().rposition(|byte| *byte == b'/') {
            rest = rest.get(..end).unwrap_or_default();
            let digest = Digest::of(rest);
            if self.seen.contains(&digest) || !self.missing.insert(digest) {
                break;
            }
            missing.push(rest);
        }
        for dir in missing.into_iter().rev() {
            self.found.add(Odd::MissingParent, dir, "no entry before tells of it, but there is one in it");
        }
        let hidden = match whiteout::parse(name) {
            Some(Marker::Whiteout(hidden)) => Some([dirs, &[hidden]].concat().join(&b'/')),
            Some(Marker::Opaque) => None,
            _ => return,
        };
        if entry.meta.kind != Kind::File || entry.hard_link || entry.data > 0 {
            self.found.add(Odd::OddWhiteout, path, "is no empty regular file");
        }
        self.whiteouts.extend(hidden.map(|hidden| (path.to_vec(), Digest::of(&hidden))));
    }

    fn rights(&mut self, entry: &Entry, path: &[u8]) {
        let meta = &entry.meta;
        if meta.kind == Kind::File && meta.mode & 0o6000 != 0 {
            let detail = format!("has the mode {:04o} and belongs to {}:{}", meta.mode, meta.uid, meta.gid);
            self.found.add(Odd::SetId, path, detail);
        }
        if matches!(meta.kind, Kind::CharDevice | Kind::BlockDevice) {
            let (major, minor) = meta.rdev;
            let kind = if meta.kind == Kind::CharDevice { "character" } else { "block" };
            if meta.kind == Kind::CharDevice && meta.rdev == (0, 0) {
                self.found.add(Odd::OverlayWhiteout, path, "is the device 0:0, and hides nothing here");
            }
            self.found.add(Odd::Device, path, format!("is the {kind} device {major}:{minor}"));
        }
        if entry.hard_link {
            // Its attributes are of no account.
            return;
        }
        for (name, _) in &entry.xattrs {
            let shown = name.escape_ascii();
            if name == CAPABILITY {
                self.found.add(Odd::Capability, path, "has capabilities");
            } else if private_xattr::is_mark(name) {
                self.found.add(Odd::EscapedXattr, path, format!("has `{shown}`, under another name on disk"));
            } else if disk::on_disk(name).is_none() {
                self.found.add(Odd::Label, path, format!("has `{shown}`, which is not on disk"));
            }
        }
    }
}
