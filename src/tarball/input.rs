//! The tar's bytes as they come in: read in large pieces, and hashed by a second thread meanwhile.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{BLOCK, Failure, Limits, Refusal, size_text};
use crate::id::{Digest, Digester};

/// Bytes that are read at once: a multiple of a block, so that blocks are never torn.
const BUFFER: usize = 256 << 10;
/// How many buffers are under way between the two threads.
const BUFFERS: usize = 8;

type Buffer = Arc<Vec<u8>>;

pub(super) struct Input<'a> {
    source: &'a mut dyn Read,
    buffer: Buffer,
    at: usize,
    ended: bool,
    /// How many buffers were made so far.
    made: usize,
    to_hasher: SyncSender<Buffer>,
    hashed: Receiver<Buffer>,
    size: u64,
    /// Bytes of holes that are to be made, which count as if they had come.
    holes: u64,
    limits: &'a Limits,
}

/// The other end of an [`Input`], for the thread that hashes.
pub(super) struct Hasher {
    buffers: Receiver<Buffer>,
    back: SyncSender<Buffer>,
}

impl Hasher {
    /// Hashes until the input is gone.
    pub(super) fn run(self) -> Digest {
        let mut digester = Digester::new();
        for buffer in self.buffers {
            digester.update(&buffer);
            // Nobody wants it back when reading has ended.
            let _ = self.back.send(buffer);
        }
        digester.finish()
    }
}

impl<'a> Input<'a> {
    pub(super) fn new(source: &'a mut dyn Read, limits: &'a Limits) -> (Self, Hasher) {
        let (to_hasher, buffers) = sync_channel(BUFFERS);
        let (back, hashed) = sync_channel(BUFFERS);
        let buffer = Buffer::default();
        let input = Self { source, buffer, at: 0, ended: false, made: 0, to_hasher, hashed, size: 0, holes: 0, limits };
        (input, Hasher { buffers, back })
    }

    /// How many bytes came in so far; at the end, the size of the tar.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes were taken so far, with the holes.
    fn counted(&self) -> u64 {
        let taken = self.size.saturating_sub(self.buffer.len().saturating_sub(self.at) as u64);
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

    fn fill(&mut self) -> Result<(), Failure> {
        let stopped = || Failure::Read(io::Error::other("the hashing thread has ended"));
        // Given up first: it may be the one that comes back from the hasher.
        self.buffer = Buffer::default();
        self.at = 0;
        let mut buffer = if self.made < BUFFERS {
            self.made += 1;
            Buffer::default()
        } else {
            self.hashed.recv().map_err(|_| stopped())?
        };
        let bytes = Arc::make_mut(&mut buffer);
        bytes.resize(BUFFER, 0);
        let mut length = 0;
        while let Some(space) = bytes.get_mut(length..).filter(|space| !space.is_empty()) {
            match self.source.read(space) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => length = length.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::read(error)),
            }
        }
        bytes.truncate(length);
        self.size = self.size.saturating_add(length as u64);
        self.limits.spend(length as u64).map_err(Failure::bad)?;
        self.to_hasher.send(Arc::clone(&buffer)).map_err(|_| stopped())?;
        self.buffer = buffer;
        Ok(())
    }

    /// The next bytes, at most `most`; none at the end.
    pub(super) fn take(&mut self, most: u64) -> Result<&[u8], Failure> {
        if self.at >= self.buffer.len() && !self.ended {
            self.fill()?;
        }
        let start = self.at;
        let length = self.buffer.len().saturating_sub(start).min(usize::try_from(most).unwrap_or(usize::MAX));
        self.at = start.saturating_add(length);
        if self.counted() > self.limits.layer {
            return Err(Failure::bad(Self::too_large(self.limits)));
        }
        let left = self.buffer.get(start..).unwrap_or_default();
        Ok(left.get(..length).unwrap_or_default())
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
