//! Who takes a tar, and who gives what is in it: which of them has failed.

use std::io::{self, Write};

/// Keeps the error of who takes the tar: reading the tree has others.
pub(super) struct Recorded<'a> {
    out: &'a mut dyn Write,
    pub(super) failure: Option<io::Error>,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, failure: None }
    }
}

impl Write for Recorded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.out.write_all(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failure = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
