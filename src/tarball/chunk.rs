//! A tar's bytes in large pieces, which several threads read and then give back.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::BLOCK;

/// Bytes of a chunk: a multiple of a block, so that blocks are never torn.
pub(super) const CHUNK: usize = 512 * BLOCK;
/// Chunks that each tar may have under way, however many tars there are.
const LEAST: usize = 8;
/// Chunks that one tar may have under way: while small files are made there is nothing to hash, and the other way round.
const MOST: usize = 64;
/// Chunks of all tars of this process beyond which none has more than the least.
const ALL: usize = 160;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Gives chunks, and takes those back that no thread reads any more.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    free: Vec<Vec<u8>>,
    made: usize,
}

impl Pool {
    /// A chunk to be filled; waits for one when there are enough.
    pub(super) fn take(self: &Arc<Self>) -> Chunk {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let free = state.free.pop();
            let may_grow = state.made < LEAST || (state.made < MOST && IN_USE.load(Ordering::Relaxed) < ALL);
            let bytes = match free {
                Some(bytes) => bytes,
                None if may_grow => {
                    state.made = state.made.saturating_add(1);
                    IN_USE.fetch_add(1, Ordering::Relaxed);
                    vec![0; CHUNK]
                }
                None => {
                    state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            return Chunk { bytes, length: 0, pool: Arc::clone(self) };
        }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(bytes);
        self.returned.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let made = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).made;
        IN_USE.fetch_sub(made, Ordering::Relaxed);
    }
}

/// Some bytes of the tar, which go back to their pool when the last reader drops them.
pub(super) struct Chunk {
    bytes: Vec<u8>,
    length: usize,
    pool: Arc<Pool>,
}

impl Chunk {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Fills it from `source`; says whether that has ended.
    pub(super) fn fill(&mut self, source: &mut dyn Read) -> io::Result<bool> {
        while let Some(space) = self.bytes.get_mut(self.length..).filter(|space| !space.is_empty()) {
            match source.read(space) {
                Ok(0) => return Ok(true),
                Ok(count) => self.length = self.length.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

/// Reads a tar in chunks, to its end or the first error.
pub(super) struct Chunks<'a> {
    source: &'a mut dyn Read,
    pool: Arc<Pool>,
    ended: bool,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(source: &'a mut dyn Read) -> Self {
        Self { source, pool: Arc::default(), ended: false }
    }
}

impl Iterator for Chunks<'_> {
    type Item = io::Result<Arc<Chunk>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut chunk = self.pool.take();
        let filled = chunk.fill(self.source);
        // error: after one nothing is read any more
        self.ended = *filled.as_ref().unwrap_or(&true);
        match filled {
            Ok(_) if chunk.bytes().is_empty() => None,
            filled => Some(filled.map(|_| Arc::new(chunk))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_came_back_is_given_again_and_no_more_are_made() {
        let pool = Arc::new(Pool::default());
        let mut taken: Vec<Chunk> = (0..LEAST).map(|_| pool.take()).collect();
        taken.truncate(LEAST - 1);
        let mut again = pool.take();
        assert!(again.fill(&mut &b"some bytes"[..]).unwrap());
        assert_eq!((again.bytes(), pool.state.lock().unwrap().made), (&b"some bytes"[..], LEAST));
        drop((again, taken));
        assert!(pool.take().bytes().is_empty(), "what was in it is gone");
        assert_eq!(pool.state.lock().unwrap().free.len(), LEAST);
    }
}
