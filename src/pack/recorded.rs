//! The error of a tar's writer, told apart from those of reading the tree.

use std::io::{self, Write};

/// Keeps the error of the tar's writer: reading the tree has others.
pub(crate) struct Recorded<'a> {
    out: &'a mut dyn Write,
    pub(crate) failure: Option<io::Error>,
}

impl<'a> Recorded<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
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
