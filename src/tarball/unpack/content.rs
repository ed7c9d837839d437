//! The content of a file, from the tar into the layer's directory and the split.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::super::chunk::Chunk;
use super::super::entry::Entry;
use super::super::hashing::Ticket;
use super::super::place::{Place, joined};
use super::super::sparse::Map;
use super::super::{Failure, disk};
use super::{Unpacking, cut_short};
use crate::index::{Kind, NewNode};
use crate::sys::call;

impl<C: Iterator<Item = io::Result<Arc<Chunk>>>> Unpacking<'_, C> {
    /// A file of some union's own: not in the tree. But what it holds can be linked to.
    pub(super) fn private(&mut self, dirs: &[&[u8]], name: &[u8], entry: &Entry, map: &Map) -> Result<(), Failure> {
        if entry.meta.kind != Kind::File || entry.hard_link {
            return Ok(());
        }
        let content = self.split.content(&entry.path, &map.regions)?;
        let file = self.tree.create_private(content)?;
        let (new, ticket) = self.content(file, &joined(dirs, name), entry, map)?;
        self.tree.add_private(dirs, name, new, content, ticket);
        self.padding(entry.data)
    }

    pub(super) fn file(&mut self, place: &Place<'_>, entry: Entry, map: &Map) -> Result<(), Failure> {
        let path = &place.path;
        let file = self.tree.create(place, path)?;
        let content = if entry.data > 0 { Some(self.split.content(path, &map.regions)?) } else { None };
        let (new, ticket) = self.content(file, path, &entry, map)?;
        self.tree.add_file(place, new, content, ticket);
        self.padding(entry.data)
    }

    /// Reads the entry's data into `file`, whose path in the layer is `path`, and describes it; its digest comes later.
    pub(super) fn content(
        &mut self,
        file: OwnedFd,
        path: &[u8],
        entry: &Entry,
        map: &Map,
    ) -> Result<(NewNode, Option<Ticket>), Failure> {
        let failed = |error: Errno| Failure::write("write", &entry.path, error);
        let is_hashed = self.may_hash(map);
        let is_written = self.wanted.has(path);
        let (mut at, mut end, mut stored) = (0u64, 0u64, 0u64);
        for (offset, length) in &map.regions {
            if is_hashed {
                self.input.hashing.zeros(offset.saturating_sub(at));
            }
            at = *offset;
            let mut left = *length;
            while left > 0 {
                let piece = self.input.piece(left)?;
                let bytes = self.input.bytes(piece.clone());
                if bytes.is_empty() {
                    return Err(cut_short(&entry.path));
                }
                let length = bytes.len() as u64;
                let to = Some(&file).filter(|_| is_written);
                let (written_to, written) = disk::write_data(to, at, bytes).map_err(failed)?;
                end = written_to.unwrap_or(end);
                stored = stored.saturating_add(written);
                at = at.saturating_add(length);
                left = left.saturating_sub(length);
                if is_hashed {
                    self.input.hashing.bytes(piece);
                }
                if let Some(write_back) = &mut self.write_back {
                    write_back.wrote(&file, stored);
                }
            }
        }
        if let Some(write_back) = &mut self.write_back {
            write_back.end(&file, stored);
        }
        if is_hashed {
            self.input.hashing.zeros(map.size.saturating_sub(at));
        }
        if is_written && end < map.size {
            call::ftruncate(&file, map.size).map_err(failed)?;
        }
        self.content_bytes = self.content_bytes.saturating_add(entry.data);
        let mut meta = entry.meta;
        meta.blocks = disk::blocks(stored);
        disk::describe(&file, &meta, &entry.xattrs, self.tree.modes)
            .map_err(|error| Failure::write("describe", &entry.path, error))?;
        let ticket = is_hashed.then(|| self.input.hashing.end());
        Ok((NewNode { target: Vec::new(), xattrs: entry.xattrs.clone(), digest: None, meta }, ticket))
    }

    /// Whether a file is hashed with its holes: it is not when the tar has too many.
    pub(super) fn may_hash(&mut self, map: &Map) -> bool {
        let mut at = 0;
        for (offset, length) in map.regions.iter().chain([&(map.size, 0)]) {
            let Some(left) = self.holes_left.checked_sub(offset.saturating_sub(at)) else { return false };
            self.holes_left = left;
            at = offset.saturating_add(*length);
        }
        true
    }
}
