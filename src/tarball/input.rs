//! The tar's bytes as they come in: taken one after the other, and then hashed by another thread.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::chunk::Chunk;
use super::hashing::Hashing;
use super::{BLOCK, Failure, Limits, Refusal, size_text};

/// Takes the bytes of a tar one after the other.
pub(super) struct Input<'a, C> {
    chunks: C,
    /// Hashes them, on another thread.
    pub(super) hashing: Hashing,
    chunk: Option<Arc<Chunk>>,
    at: usize,
    ended: bool,
    size: u64,
    /// Bytes of holes that are to be made, which count as if they had come.
    holes: u64,
    limits: &'a Limits,
}

impl<'a, C: Iterator<Item = io::Result<Arc<Chunk>>>> Input<'a, C> {
    pub(super) fn new(chunks: C, hashing: Hashing, limits: &'a Limits) -> Self {
        Self { chunks, hashing, chunk: None, at: 0, ended: false, size: 0, holes: 0, limits }
    }

    /// How many bytes came in so far; at the end, the size of the tar.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    fn length(&self) -> usize {
        self.chunk.as_ref().map_or(0, |chunk| chunk.bytes().len())
    }

    /// How many bytes were taken so far, with the holes.
    fn counted(&self) -> u64 {
        let taken = self.size.saturating_sub(self.length().saturating_sub(self.at) as u64);
        taken.saturating_add(self.holes)
    }

    /// Looks whether so many bytes may still come, and so many of holes be made.
    pub(super) fn expect(&mut self, data: u64, holes: u64) -> Result<(), Refusal> {
        self.holes = self.holes.saturating_add(holes);
        if self.counted().saturating_add(data) > self.limits.layer {
            return Err(Self::too_large(self.limits));
        }
        self.limits.spend(holes)
    }

    /// Why a tar of more than `limits` allows is refused.
    fn too_large(limits: &Limits) -> Refusal {
        Refusal::limit("layer", format!("unpacks to more than {} bytes", size_text(limits.layer)))
    }

    fn next(&mut self) -> Result<(), Failure> {
        // Given up first: it may be the one that the reading waits for.
        self.hashing.give_up();
        self.chunk = None;
        self.at = 0;
        let Some(came) = self.chunks.next() else {
            self.ended = true;
            return Ok(());
        };
        let chunk = came.map_err(Failure::read)?;
        let length = chunk.bytes().len() as u64;
        self.size = self.size.saturating_add(length);
        self.hashing.chunk(Arc::clone(&chunk));
        self.chunk = Some(chunk);
        self.limits.spend(length).map_err(Failure::bad)
    }

    /// Whether another chunk has to come before more can be taken.
    fn is_used_up(&self) -> bool {
        self.at >= self.length()
    }

    /// Where in the chunk the next bytes are, at most `most`; an empty range at the end.
    pub(super) fn piece(&mut self, most: u64) -> Result<Range<usize>, Failure> {
        if self.is_used_up() && !self.ended {
            self.next()?;
        }
        let start = self.at;
        let length = self.length().saturating_sub(start).min(usize::try_from(most).unwrap_or(usize::MAX));
        self.at = start.saturating_add(length);
        if self.counted() > self.limits.layer {
            return Err(Failure::bad(Self::too_large(self.limits)));
        }
        Ok(start..self.at)
    }

    /// Bytes of the chunk.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.chunk.as_ref().and_then(|chunk| chunk.bytes().get(range)).unwrap_or_default()
    }

    /// The next bytes, at most `most`; none at the end.
    pub(super) fn take(&mut self, most: u64) -> Result<&[u8], Failure> {
        let range = self.piece(most)?;
        Ok(self.bytes(range))
    }

    /// The next block; `None` at the end.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Failure> {
        let bytes = self.take(BLOCK as u64)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        bytes.try_into().map(Some).map_err(|_| Failure::bad("is cut short"))
    }
}
