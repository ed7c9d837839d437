//! Where the data of a sparse member belong (GNU tar manual, "Storing Sparse Files").

use super::Refusal;
use super::header::Header;
use super::pax::{self, Record};

/// The map of a sparse file: its size, and what of it is data, as offset and length.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) size: u64,
    pub(super) regions: Vec<(u64, u64)>,
}

impl Map {
    /// Adds a region as it was read, if there are not `most` yet.
    pub(super) fn push(&mut self, offset: u64, length: u64, most: usize) -> Result<(), Refusal> {
        if self.regions.len() >= most {
            return Err(Refusal::limit("extents", format!("has more than {most} regions in its sparse map")));
        }
        self.regions.push((offset, length));
        Ok(())
    }

    /// Checks that the regions follow each other inside the file, and are `data` bytes together.
    pub(super) fn checked(mut self, data: u64) -> Result<Self, String> {
        let (mut end, mut total) = (0u64, 0u64);
        for (offset, length) in &self.regions {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= self.size);
            end = next.ok_or("has a sparse map that is out of order or out of bounds")?;
            total = total.saturating_add(*length);
        }
        if total != data || i64::try_from(self.size).is_err() {
            return Err("has a sparse map that does not fit its data".into());
        }
        self.regions.retain(|(_, length)| *length > 0);
        Ok(self)
    }
}

/// What an entry says of being sparse.
#[derive(Debug)]
pub(super) enum Form {
    /// The map is known.
    Known(Map),
    /// Old GNU: extension blocks with more of the map follow the header.
    Blocks(Map),
    /// PAX 1.0: the map of a file of this size stands before the data.
    InData(u64),
}

/// The map that old GNU headers hold (type `S`).
pub(super) fn old_gnu(header: &Header, most: usize) -> Result<Form, Refusal> {
    const MALFORMED: &str = "has a malformed sparse map";
    let gnu = header.gnu().ok_or(MALFORMED)?;
    let mut map = Map { size: header.number("real size", &gnu.realsize)?, regions: Vec::new() };
    push_old_gnu(&mut map, &gnu.sparse, most)?;
    Ok(if gnu.isextended == [0] { Form::Known(map) } else { Form::Blocks(map) })
}

/// Adds the regions of an extension block; says whether one more follows.
pub(super) fn extend_old_gnu(map: &mut Map, block: &[u8; super::BLOCK], most: usize) -> Result<bool, Refusal> {
    let mut extension = tar::GnuExtSparseHeader::new();
    extension.as_mut_bytes().copy_from_slice(block);
    push_old_gnu(map, extension.sparse(), most)?;
    Ok(extension.is_extended())
}

fn push_old_gnu(map: &mut Map, slots: &[tar::GnuSparseHeader], most: usize) -> Result<(), Refusal> {
    for slot in slots.iter().filter(|slot| !slot.is_empty()) {
        let number = |field| super::header::number(field).and_then(|number| u64::try_from(number).ok());
        let (offset, length) = number(&slot.offset).zip(number(&slot.numbytes)).ok_or("has a malformed sparse map")?;
        map.push(offset, length, most)?;
    }
    Ok(())
}

/// The map that extended headers hold: versions 0.0, 0.1 and 1.0; `None` for a file that is not sparse.
pub(super) fn from_pax(records: &[Record], most: usize) -> Result<Option<Form>, Refusal> {
    let mut map = Map::default();
    let (mut size, mut version, mut offset) = (None, (None, None), None);
    let mut found = false;
    for (keyword, value) in records {
        let Some(keyword) = keyword.strip_prefix(b"GNU.sparse.") else { continue };
        if keyword == b"name" {
            continue;
        }
        found = true;
        let number = |text| pax::number(text).ok_or("has a malformed sparse map");
        match keyword {
            b"size" | b"realsize" => size = Some(number(value)?),
            b"major" => version.0 = Some(number(value)?),
            b"minor" => version.1 = Some(number(value)?),
            b"offset" => offset = Some(number(value)?),
            b"numbytes" => map.push(offset.take().ok_or("has a malformed sparse map")?, number(value)?, most)?,
            b"map" if value.is_empty() => {}
            b"map" => {
                let mut numbers = value.split(|byte| *byte == b',');
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or("has a malformed sparse map")?;
                    map.push(number(offset)?, number(length)?, most)?;
                }
            }
            _ => {}
        }
    }
    if !found {
        return Ok(None);
    }
    map.size = size.ok_or("is sparse and does not say its size")?;
    match version {
        (None, None) | (Some(0), _) => Ok(Some(Form::Known(map))),
        (Some(1), None | Some(0)) if map.regions.is_empty() => Ok(Some(Form::InData(map.size))),
        _ => Err("is sparse in an unknown way".into()),
    }
}

/// Reads the map of version 1.0: decimal numbers on lines, the count of regions first.
#[derive(Debug, Default)]
pub(super) struct TextMap {
    pub(super) map: Map,
    count: Option<u64>,
    offset: Option<u64>,
    digits: Vec<u8>,
}

impl TextMap {
    /// Takes one block of the member's data; says whether the map ends in it.
    pub(super) fn block(&mut self, block: &[u8], most: usize) -> Result<bool, Refusal> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err("has a malformed sparse map".into());
                }
                continue;
            }
            let number = pax::number(&self.digits).ok_or("has a malformed sparse map")?;
            self.digits.clear();
            match (self.count, self.offset.take()) {
                (None, _) => self.count = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => self.map.push(offset, number, most)?,
            }
            if self.count == Some(self.map.regions.len() as u64) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_in_order_inside_the_file_and_as_long_as_the_data() {
        let map = |size, regions: &[(u64, u64)]| Map { size, regions: regions.to_vec() };
        let whole = map(100, &[(0, 10), (20, 0), (50, 50), (100, 0)]);
        assert_eq!(whole.checked(60), Ok(map(100, &[(0, 10), (50, 50)])));
        for (regions, data) in [
            (&[(0, 10), (5, 10)][..], 20),
            (&[(50, 10), (0, 10)], 20),
            (&[(95, 10)], 10),
            (&[(0, 10)], 11),
            (&[(u64::MAX, 2)], 2),
            (&[(0, u64::MAX)], 1),
        ] {
            assert!(map(100, regions).checked(data).is_err(), "{regions:?}");
        }
    }

    #[test]
    fn all_versions_give_the_same_map() {
        let records = |text: &[(&str, &str)]| {
            text.iter()
                .map(|(key, value)| (format!("GNU.sparse.{key}").into_bytes(), value.as_bytes().to_vec()))
                .collect::<Vec<_>>()
        };
        let known = |form| match form {
            Ok(Some(Form::Known(map))) => map,
            other => panic!("{other:?}"),
        };
        let zero = [
            ("size", "100"),
            ("numblocks", "2"),
            ("offset", "0"),
            ("numbytes", "1"),
            ("offset", "50"),
            ("numbytes", "3"),
        ];
        let one = [("major", "0"), ("minor", "1"), ("size", "100"), ("map", "0,1,50,3"), ("name", "x")];
        let expected = Map { size: 100, regions: vec![(0, 1), (50, 3)] };
        assert_eq!(known(from_pax(&records(&zero), 99)), expected);
        assert_eq!(known(from_pax(&records(&one), 99)), expected);
        let mut text = TextMap::default();
        assert_eq!(text.block(b"2\n0\n1\n5", 99), Ok(false));
        assert_eq!(text.block(b"0\n3\n\0\0\0", 99), Ok(true));
        assert_eq!(text.map.regions, expected.regions);
        assert!(TextMap::default().block(b"1\nx\n", 99).is_err());
        assert!(TextMap::default().block(&[b'1'; 30], 99).is_err());
        assert!(from_pax(&records(&[("map", "1,2,3"), ("size", "9")]), 99).is_err());
        assert!(from_pax(&records(&[("major", "2"), ("realsize", "9")]), 99).is_err());
    }
}
