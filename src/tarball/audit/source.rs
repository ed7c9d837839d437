//! The tar behind a split: its blocks, and the lengths of the contents between them.

use super::super::split::{self, Reader};
use super::super::{BLOCK, Failure, padding};
use super::damaged;

/// A tar as its split tells it: blocks that are known, and content of which only the length is.
pub(super) struct Source<'a> {
    pub(super) split: Reader<'a>,
    /// Bytes that are left of the record that is being read.
    pub(super) literal: u64,
    pub(super) content: u64,
    pub(super) ended: bool,
}

impl Source<'_> {
    /// Goes to the next record that has something in it; false at the end.
    pub(super) fn next(&mut self) -> Result<bool, Failure> {
        while self.literal == 0 && self.content == 0 && !self.ended {
            match self.split.byte()? {
                split::LITERAL => self.literal = self.split.number()?,
                split::CONTENT => {
                    self.split.path()?;
                    for _ in 0..self.split.number()? {
                        let (_, length) = (self.split.number()?, self.split.number()?);
                        self.content = self.content.saturating_add(length);
                    }
                }
                split::END => self.ended = true,
                _ => return Err(damaged()),
            }
        }
        Ok(!self.ended)
    }

    /// The next bytes that are known, at most `most`.
    pub(super) fn take(&mut self, most: u64, mut each: impl FnMut(&[u8])) -> Result<u64, Failure> {
        if !self.next()? || self.content > 0 {
            return Ok(0);
        }
        let taken = self.split.take(most.min(self.literal), |bytes| {
            each(bytes);
            Ok(())
        })?;
        self.literal = self.literal.saturating_sub(taken);
        Ok(taken)
    }

    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < count {
            let left = count.saturating_sub(bytes.len() as u64);
            if self.take(left, |more| bytes.extend_from_slice(more))? == 0 {
                break;
            }
        }
        Ok(bytes)
    }

    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Failure> {
        let bytes = self.bytes(BLOCK as u64)?;
        if bytes.is_empty() { Ok(None) } else { bytes.try_into().map(Some).map_err(|_| damaged()) }
    }

    /// Passes over what fills the last block of so many bytes, which may be missing at the end.
    pub(super) fn skip_padding(&mut self, size: u64) -> Result<(), Failure> {
        self.bytes(padding(size)).map(drop)
    }

    /// Passes over so many bytes, whatever they are.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Failure> {
        let mut left = count;
        while left > 0 {
            if !self.next()? {
                return Err(damaged());
            }
            let passed = if self.content > 0 {
                let passed = left.min(self.content);
                self.content = self.content.saturating_sub(passed);
                passed
            } else {
                self.take(left, |_| {})?
            };
            left = left.saturating_sub(passed);
        }
        Ok(())
    }
}
