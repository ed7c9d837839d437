//! A stream that can be begun again, as long as little of it has come.

use std::io::{self, Read};

/// Reads a stream, and keeps its beginning.
pub struct Replay {
    source: Box<dyn Read>,
    /// What came so far; nothing once it was too much.
    kept: Option<Vec<u8>>,
    /// How much of that was given since it was begun again.
    at: usize,
    /// Whether it is not to be begun again.
    is_last: bool,
    /// What was wrong when the source could not be read: an errno, if the system said one.
    failure: Option<Option<i32>>,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Replay {
    /// Bytes that are kept.
    pub const MOST: usize = 4 << 20;

    /// Reads `source`.
    #[must_use]
    pub fn new(source: Box<dyn Read>) -> Self {
        Self { source, kept: Some(Vec::new()), at: 0, is_last: false, failure: None }
    }

    /// Begins again, if that is possible.
    pub fn begin_again(&mut self) -> bool {
        self.at = 0;
        self.can_begin_again()
    }

    /// Whether it can be begun again.
    #[must_use]
    pub const fn can_begin_again(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether nothing has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it could not be read: what is wrong is not what is in it.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Why the system could not read it, if that was so: the `tar` crate may hide it in an error of its own.
    #[must_use]
    pub fn failure(&self) -> Option<io::Error> {
        self.failure.flatten().map(io::Error::from_raw_os_error)
    }

    /// Keeps no more than has come.
    #[must_use]
    pub fn for_the_last_time(mut self) -> Self {
        self.begin_again();
        self.is_last = true;
        self
    }
}

impl Read for Replay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(kept) = &mut self.kept else { return self.source.read(buffer) };
        if let Some(mut left) = kept.get(self.at..).filter(|left| !left.is_empty()) {
            let read = left.read(buffer)?;
            self.at = self.at.saturating_add(read);
            return Ok(read);
        }
        if self.is_last {
            self.kept = None;
            return self.source.read(buffer);
        }
        let read = crate::sys::retry(|| self.source.read(buffer))
            .inspect_err(|error| self.failure = Some(error.raw_os_error()))?;
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        self.at = kept.len();
        if kept.len() > Self::MOST {
            self.kept = None;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_can_be_read_again() {
        let source: Vec<u8> = (0..=255).cycle().take(Replay::MOST + 10).collect();
        let mut replay = Replay::new(Box::new(io::Cursor::new(source.clone())));
        let mut some = vec![0; 1000];
        replay.read_exact(&mut some).unwrap();
        assert!(replay.begin_again() && !replay.is_empty());
        let mut all = Vec::new();
        replay.read_to_end(&mut all).unwrap();
        assert!(all == source && !replay.begin_again());
        let mut replay = Replay::new(Box::new(io::Cursor::new(source.clone())));
        replay.read_exact(&mut some).unwrap();
        all.clear();
        replay.for_the_last_time().read_to_end(&mut all).unwrap();
        assert!(all == source);
    }
}
