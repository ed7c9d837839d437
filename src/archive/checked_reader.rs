//! Readers that do not let a source end early, or say something else than was announced.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::blob::{Algorithm, BlobDigest, BlobDigester};

/// Gives exactly so many bytes, or an error of the kind `UnexpectedEof`.
#[derive(Debug)]
pub struct ExactReader<R> {
    source: R,
    left: u64,
}

impl<R: Read> ExactReader<R> {
    /// Expects `size` bytes of `source`.
    pub const fn new(source: R, size: u64) -> Self {
        Self { source, left: size }
    }
}

impl<R: Read> Read for ExactReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.source.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

/// Hashes and counts what is read through it; the result outlives the reader.
#[derive(Debug)]
pub struct HashingReader<R> {
    source: R,
    seen: Arc<Mutex<Seen>>,
}

/// What went through a [`HashingReader`].
#[derive(Debug)]
pub struct Seen {
    digester: BlobDigester,
    bytes: u64,
    stopped: bool,
}

impl Seen {
    /// Spares the work when the bytes' digest is found out elsewhere.
    pub fn stop(seen: &Mutex<Self>) {
        seen.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
    }

    /// The digest and the number of the bytes.
    #[must_use]
    pub fn finish(seen: &Mutex<Self>) -> (BlobDigest, u64) {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.digester.clone().finish(), seen.bytes)
    }
}

impl<R: Read> HashingReader<R> {
    /// Listens to what is read of `source`.
    pub fn new(source: R, algorithm: Algorithm) -> (Self, Arc<Mutex<Seen>>) {
        let digester = BlobDigester::new(algorithm);
        let seen = Arc::new(Mutex::new(Seen { digester, bytes: 0, stopped: false }));
        (Self { source, seen: seen.clone() }, seen)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.stopped {
            seen.digester.update(buffer.get(..read).unwrap_or_default());
            seen.bytes = seen.bytes.saturating_add(read as u64);
        }
        Ok(read)
    }
}
