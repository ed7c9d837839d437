//! A sparse member. The first byte says how its map is spelt, and whether the rest is the map's own text or pairs
//! of numbers, of which a right map is made whose file is then read back.

use std::fs;

use super::{layer, pax, tar};

/// Larger files are not read back.
const READ: u64 = 1 << 20;

pub(crate) fn run(data: &[u8]) -> bool {
    let Some((first, rest)) = data.split_first() else { return false };
    if first & 4 != 0 {
        let (text, content) = rest.split_at(rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len()));
        return layer::unpacked(&member(first & 3, text, content.get(1..).unwrap_or_default())).is_some();
    }
    let mut regions: Vec<(u64, u64)> = Vec::new();
    let (mut at, mut total) = (0u64, 0u64);
    // Three bytes each: a gap in steps of 128, and a length.
    for triple in rest.chunks_exact(3).take(500) {
        let offset = at + u64::from(triple[0]) * 128;
        let length = u64::from(u16::from_le_bytes([triple[1], triple[2]]) % 6000);
        regions.push((offset, length));
        at = offset + length;
        total += length;
    }
    let size = at + u64::from(first >> 3) * 1000;
    let content: Vec<u8> = (0..total).map(|byte| (byte % 251) as u8).collect();
    let numbers: Vec<String> = regions.iter().map(|(offset, length)| format!("{offset},{length}")).collect();
    let tar = member(first & 3, format!("{size};{}", numbers.join(",")).as_bytes(), &content);
    let (sandbox, _) = layer::unpacked(&tar).expect("a right map is taken");
    if size <= READ {
        let mut wanted = vec![0; size as usize];
        let mut content = &*content;
        for (offset, length) in regions {
            let (data, rest) = content.split_at(length as usize);
            wanted[offset as usize..][..data.len()].copy_from_slice(data);
            content = rest;
        }
        assert!(fs::read(sandbox.path("layer/file")).expect("it is there") == wanted, "the data are elsewhere");
    }
    true
}

/// `SIZE;OFFSET,LENGTH,...` as a member in one of four spellings.
fn member(spelling: u8, map: &[u8], content: &[u8]) -> Vec<u8> {
    let (size, map) = map.split_at(map.iter().position(|byte| *byte == b';').unwrap_or(map.len()));
    let map = map.strip_prefix(b";").unwrap_or(map);
    let numbers: Vec<&[u8]> = map.split(|byte| *byte == b',').filter(|number| !number.is_empty()).collect();
    let (mut tar, mut records) = (Vec::new(), Vec::new());
    let mut header = tar::header(b'0');
    tar::set(&mut header, tar::NAME, b"file");
    let mut data = Vec::new();
    let mut say = |keyword: &str, value: &[u8]| {
        records.extend(pax::record(&[keyword.as_bytes(), b"=", value].concat()));
    };
    match spelling {
        // GNU's old one, with blocks that follow the header.
        0 => return old_gnu(header, size, &numbers, content),
        // 0.0
        1 => {
            say("GNU.sparse.size", size);
            say("GNU.sparse.numblocks", (numbers.len() / 2).to_string().as_bytes());
            for pair in numbers.chunks(2) {
                say("GNU.sparse.offset", pair[0]);
                pair.get(1).into_iter().for_each(|length| say("GNU.sparse.numbytes", length));
            }
        }
        // 0.1
        2 => {
            say("GNU.sparse.size", size);
            say("GNU.sparse.name", b"file");
            say("GNU.sparse.map", map);
        }
        // 1.0
        _ => {
            for (keyword, value) in [("major", &b"1"[..]), ("minor", b"0"), ("name", b"file"), ("realsize", size)] {
                say(&format!("GNU.sparse.{keyword}"), value);
            }
            data.extend(format!("{}\n", numbers.len() / 2).bytes());
            numbers.iter().for_each(|number| data.extend([number, &b"\n"[..]].concat()));
            data.resize(data.len().next_multiple_of(tar::BLOCK), 0);
        }
    }
    tar::push(&mut tar, tar::header(b'x'), &records);
    data.extend(content);
    tar::push(&mut tar, header, &data);
    tar::finish(tar)
}

fn old_gnu(mut header: [u8; tar::BLOCK], size: &[u8], numbers: &[&[u8]], content: &[u8]) -> Vec<u8> {
    // Decimal text where it is right, and else whatever it is.
    let field = |text: &[u8]| {
        let octal = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
        let mut field = octal.map_or_else(|| text.to_vec(), |number| format!("{number:011o}").into_bytes());
        field.resize(12, 0);
        field
    };
    header[156] = b'S';
    header[257..265].copy_from_slice(b"ustar  \0");
    header[483..495].copy_from_slice(&field(size));
    let mut slots = numbers.chunks(2).map(|pair| pair.iter().flat_map(|number| field(number)).collect::<Vec<u8>>());
    for (at, slot) in (386..).step_by(24).zip(slots.by_ref().take(4)) {
        header[at..at + slot.len()].copy_from_slice(&slot);
    }
    let slots: Vec<Vec<u8>> = slots.collect();
    header[482] = u8::from(!slots.is_empty());
    let blocks = slots.chunks(21).enumerate().map(|(number, slots)| {
        let mut block = [0; tar::BLOCK];
        for (at, slot) in (0..).step_by(24).zip(slots) {
            block[at..at + slot.len()].copy_from_slice(slot);
        }
        block[504] = u8::from((number + 1) * 21 < numbers.len().div_ceil(2).saturating_sub(4));
        block
    });
    // The size is that of the data alone: the blocks of the map come between.
    let mut tar = Vec::new();
    tar::push(&mut tar, header, content);
    let rest = tar.split_off(tar::BLOCK);
    blocks.for_each(|block| tar.extend(block));
    tar.extend(rest);
    tar::finish(tar)
}
