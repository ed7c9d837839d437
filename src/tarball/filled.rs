//! A sparse member of an archive, read as the file that it was.

use std::io::{self, Read};
use std::vec::IntoIter;

use super::header::Header;
use super::pax::Record;
use super::sparse::{self, Form, Map, TextMap};
use super::{BLOCK, Limits, Refusal};

/// Gives the data of a sparse member, and zeros where the file had holes.
#[derive(Debug)]
pub struct Filled<R> {
    source: R,
    /// What of it is data, as offset and length, lowest first.
    regions: IntoIter<(u64, u64)>,
    /// Where the next data begin, and where they end.
    next: (u64, u64),
    at: u64,
    size: u64,
}

impl<R: Read> Filled<R> {
    /// A member that its PAX `records` call sparse; `source` gives the `data` bytes that the archive has of it.
    ///
    /// # Errors
    /// When its map cannot be read or understood, or asks for more than `limits` allow.
    pub fn pax(records: &[Record], source: R, data: u64, limits: &Limits) -> io::Result<Self> {
        let form = sparse::from_pax(records, limits.extents)?.ok_or(Refusal::from("has no sparse map"))?;
        Self::new(form, source, Some(data), limits)
    }

    /// A member that old GNU calls sparse (type `S`); `source` gives its header and what follows.
    ///
    /// # Errors
    /// As [`Filled::pax`].
    pub fn old_gnu(mut source: R, limits: &Limits) -> io::Result<Self> {
        let mut block = [0; BLOCK];
        source.read_exact(&mut block)?;
        let header = Header::parse(&block).ok_or(Refusal::from("has a damaged header"))?;
        let form = sparse::old_gnu(&header, limits.extents)?;
        Self::new(form, source, None, limits)
    }

    fn new(form: Form, mut source: R, data: Option<u64>, limits: &Limits) -> io::Result<Self> {
        let mut left = data;
        let map = match form {
            Form::Known(map) => map,
            Form::Blocks(mut map) => {
                let mut block = [0; BLOCK];
                loop {
                    source.read_exact(&mut block)?;
                    if !sparse::extend_old_gnu(&mut map, &block, limits.extents)? {
                        break map;
                    }
                }
            }
            Form::InData(size) => {
                let (mut text, mut block) = (TextMap::default(), [0; BLOCK]);
                loop {
                    let rest = left.and_then(|left| left.checked_sub(BLOCK as u64));
                    left = Some(rest.ok_or(Refusal::from("has a malformed sparse map"))?);
                    source.read_exact(&mut block)?;
                    if text.block(&block, limits.extents)? {
                        break Map { size, ..text.map };
                    }
                }
            }
        };
        let all = map.regions.iter().fold(0u64, |sum, (_, length)| sum.saturating_add(*length));
        let Map { size, regions } = map.checked(left.unwrap_or(all)).map_err(Refusal::from)?;
        limits.sparse_member(size, all)?;
        let mut filled = Self { source, regions: regions.into_iter(), next: (0, 0), at: 0, size };
        filled.go_on();
        Ok(filled)
    }

    /// Bytes of the file, with its holes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    fn go_on(&mut self) {
        self.next = match self.regions.next() {
            Some((offset, length)) => (offset, offset.saturating_add(length)),
            None => (self.size, self.size),
        };
    }
}

impl<R: Read> Read for Filled<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (start, end) = self.next;
        let is_hole = self.at < start;
        let left = if is_hole { start } else { end }.saturating_sub(self.at);
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = if is_hole {
            buffer.fill(0);
            wanted
        } else {
            self.source.read(buffer)?
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at = self.at.saturating_add(read as u64);
        if self.at >= end {
            self.go_on();
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pax(records: &[(&str, &str)], data: &[u8], limits: &Limits) -> io::Result<Vec<u8>> {
        let records: Vec<Record> = records
            .iter()
            .map(|(key, value)| (format!("GNU.sparse.{key}").into_bytes(), value.as_bytes().to_vec()))
            .collect();
        let mut filled = Filled::pax(&records, data, data.len() as u64, limits)?;
        let mut all = Vec::new();
        filled.read_to_end(&mut all)?;
        assert_eq!(all.len() as u64, filled.size());
        Ok(all)
    }

    #[test]
    fn holes_are_zeros() {
        let limits = Limits { layer: 100, ..Limits::default() };
        let whole = [&[0; 10][..], b"abc", &[0; 7], b"de", &[0; 8]].concat();
        assert_eq!(pax(&[("map", "10,3,20,2"), ("size", "30")], b"abcde", &limits).unwrap(), whole);
        let one = [("major", "1"), ("minor", "0"), ("realsize", "30")];
        let map = [&b"2\n10\n3\n20\n2\n"[..], &[0; 500], b"abcde"].concat();
        assert_eq!(pax(&one, &map, &limits).unwrap(), whole);
        assert_eq!(pax(&[("map", ""), ("size", "3")], b"", &limits).unwrap(), [0; 3]);
        assert_eq!(pax(&[("map", "0,2"), ("size", "2")], b"ab", &limits).unwrap(), b"ab");
        assert_eq!(pax(&[("map", ""), ("size", "0")], b"", &limits).unwrap(), b"");
        for (records, data) in [
            (&[("map", "0,2"), ("size", "101")][..], &b"ab"[..]),
            (&[("map", "0,3"), ("size", "3")], b"ab"),
            (&[("map", "0,2"), ("size", "1")], b"ab"),
            (&one, b"2\n10\n"),
            (&[("name", "x")], b""),
        ] {
            assert!(pax(records, data, &limits).is_err(), "{records:?}");
        }
    }

    #[test]
    fn holes_count_for_all_members_together() {
        let limits = Limits { total: std::sync::Arc::new(50.into()), ..Limits::default() };
        let member = || pax(&[("map", "10,3,20,2"), ("size", "30")], b"abcde", &limits);
        assert!(member().is_ok() && member().is_ok());
        let error = member().unwrap_err();
        assert_eq!(crate::tarball::refusal_of(&error).unwrap().limit, Some("total"));
    }
}
