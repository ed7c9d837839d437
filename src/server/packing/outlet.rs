//! The socket on which the server sends a tar to a client, which may have stopped reading.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Writes a tar to the client. After the client has once taken nothing in time, each write fails at once: otherwise each flush
/// of a buffer would wait again.
pub(super) struct Outlet<'a> {
    stream: &'a UnixStream,
    patience: Duration,
    has_failed: bool,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(stream: &'a UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream, patience, has_failed: false })
    }
}

impl Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.has_failed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let begin = Instant::now();
        let written = match self.stream.write(bytes) {
            // A part was taken at once, and for the rest all the time was waited.
            Ok(length) if length < bytes.len() && begin.elapsed() >= self.patience => Err(ErrorKind::TimedOut.into()),
            written => written,
        };
        // error: it is given back
        self.has_failed = written.as_ref().is_err_and(|error| error.kind() != ErrorKind::Interrupted);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufWriter, Read as _};

    use super::*;

    #[test]
    fn who_takes_nothing_is_waited_for_once() {
        let (stream, mut other) = UnixStream::pair().unwrap();
        let patience = Duration::from_millis(50);
        let mut buffer = BufWriter::with_capacity(1 << 18, Outlet::new(&stream, patience).unwrap());
        assert!((0..100).any(|_| buffer.write_all(&[0; 1 << 17]).is_err()));
        // Now the client would take all, but the outlet does not try again.
        other.set_nonblocking(true).unwrap();
        let mut taken = Vec::new();
        assert_eq!(other.read_to_end(&mut taken).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(!taken.is_empty());
        assert_eq!(buffer.write_all(&[0; 1 << 19]).unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(buffer.flush().unwrap_err().kind(), ErrorKind::BrokenPipe);
        drop(buffer);
        assert_eq!(other.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
