//! A reader that gives so many bytes and no more, until it is told to: between two members of a tar there are
//! headers, which the `tar` crate reads into memory however long they say they are.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};

use crate::sys::retry;

/// Bytes that the headers of one member may have: names and extended attributes together have less.
const HEADER_LIMIT: u64 = 4 << 20;

/// How many bytes may still be read.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u64>,
    failure: Cell<Option<i32>>,
}

impl Default for Budget {
    /// A tar begins with a header.
    fn default() -> Self {
        Self { left: Cell::new(HEADER_LIMIT), failure: Cell::new(None) }
    }
}

impl Budget {
    /// From here on headers are read.
    pub fn headers(&self) {
        self.left.set(HEADER_LIMIT);
    }

    /// From here on so many bytes are passed over, and then headers are read.
    pub fn headers_after(&self, bytes: u64) {
        self.left.set(HEADER_LIMIT.saturating_add(bytes));
    }

    /// From here on content is read: without a limit, as the reader does not keep it in memory.
    pub fn content(&self) {
        self.left.set(u64::MAX);
    }

    /// Why the system could not read or seek, if that was so: the `tar` crate may hide it in an error of its own, and it
    /// says nothing of what is in the tar.
    pub fn failure(&self) -> Option<io::Error> {
        self.failure.get().map(io::Error::from_raw_os_error)
    }

    fn keep<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| {
            self.failure.set(self.failure.get().or(error.raw_os_error()));
        })
    }
}

/// Reads what a [`Budget`] allows.
#[derive(Debug)]
pub struct BudgetedReader<'a, R> {
    /// What is read.
    pub source: R,
    /// The limit, which the reader of the tar sets.
    pub budget: &'a Budget,
}

impl<R: Read> Read for BudgetedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.left.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its headers do not end"));
        }
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        // The tar crate takes an interrupted read for a failure.
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        let read = self.budget.keep(retry(|| self.source.read(buffer)))?;
        self.budget.left.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}

impl<R: Seek> Seek for BudgetedReader<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.budget.keep(self.source.seek(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_end_and_content_does_not() {
        let budget = Budget::default();
        let mut reader = BudgetedReader { source: io::repeat(0), budget: &budget };
        let mut read = |bytes: u64| io::copy(&mut (&mut reader).take(bytes), &mut io::sink());
        assert_eq!(read(HEADER_LIMIT).unwrap(), HEADER_LIMIT);
        assert_eq!(read(1).unwrap_err().kind(), io::ErrorKind::InvalidData);
        budget.content();
        assert_eq!(read(HEADER_LIMIT * 2).unwrap(), HEADER_LIMIT * 2);
        budget.headers();
        assert!(read(HEADER_LIMIT + 1).is_err());
    }
}
