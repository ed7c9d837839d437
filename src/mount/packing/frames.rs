//! A stream on a socket whose end is said, and not only seen: pieces with their length before them, and an empty one.

use std::io::{self, Read, Write};

use crate::archive::ExactReader;

/// The largest piece.
const PIECE: usize = 1 << 18;

/// Writes pieces.
pub(crate) struct Sent<W>(pub(crate) W);

impl<W: Write> Sent<W> {
    /// Says that the stream is at its end.
    pub(crate) fn end(mut self) -> io::Result<W> {
        self.0.write_all(&0u32.to_le_bytes())?;
        Ok(self.0)
    }
}

impl<W: Write> Write for Sent<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        if !piece.is_empty() {
            self.0.write_all(&u32::try_from(piece.len()).unwrap_or_default().to_le_bytes())?;
            self.0.write_all(piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reads pieces.
pub(crate) struct Received<R> {
    source: R,
    left: u32,
    has_ended: bool,
}

impl<R: Read> Received<R> {
    pub(crate) const fn new(source: R) -> Self {
        Self { source, left: 0, has_ended: false }
    }

    /// What comes after the end, which must be reached.
    pub(crate) fn after(mut self) -> io::Result<R> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.source)
    }
}

impl<R: Read> Read for Received<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.has_ended {
            let mut length = [0; 4];
            self.source.read_exact(&mut length)?;
            self.left = u32::from_le_bytes(length);
            self.has_ended = self.left == 0;
        }
        let read = ExactReader::new(&mut self.source, self.left.into()).read(buffer)?;
        self.left = self.left.saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_from_a_stream_that_breaks_off() {
        let content = b"piece by piece".repeat(PIECE / 5);
        let mut sent = Sent(Vec::new());
        sent.write_all(&content).unwrap();
        let mut bytes = sent.end().unwrap();
        bytes.extend_from_slice(b"and more");
        let mut received = Received::new(&bytes[..]);
        let mut read = Vec::new();
        received.read_to_end(&mut read).unwrap();
        assert!(read == content);
        assert_eq!(received.after().unwrap(), b"and more");
        for cut in [0, 3, 4, 100, bytes.len() - b"and more".len() - 1] {
            let mut received = Received::new(&bytes[..cut]);
            let error = received.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
        }
    }
}
