//! Tars that a fuzzer can write: it makes the fields, this makes the checksums.

pub(crate) const BLOCK: usize = 512;

/// The fields of a header that a target chooses itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    at: usize,
    length: usize,
}

pub(crate) const NAME: Field = Field { at: 0, length: 100 };
pub(crate) const MODE: Field = Field { at: 100, length: 8 };
pub(crate) const SIZE: Field = Field { at: 124, length: 12 };
pub(crate) const LINK: Field = Field { at: 157, length: 100 };

const CHECKSUM: Field = Field { at: 148, length: 8 };
const KIND: usize = 156;

/// A header of ustar: root's, 0644, of 1970.
pub(crate) fn header(kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (at, text) in [
        (100, &b"0000644\0"[..]),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (136, b"00000000000\0"),
        (257, b"ustar\x0000"),
    ] {
        block[at..at + text.len()].copy_from_slice(text);
    }
    block[KIND] = kind;
    block
}

/// Writes as much of `text` as the field takes.
pub(crate) fn set(block: &mut [u8; BLOCK], field: Field, text: &[u8]) {
    let length = text.len().min(field.length);
    block[field.at..field.at + length].copy_from_slice(&text[..length]);
}

/// Ends a header, and adds it and its data to a tar.
pub(crate) fn push(tar: &mut Vec<u8>, mut block: [u8; BLOCK], data: &[u8]) {
    set(&mut block, SIZE, format!("{:011o}\0", data.len()).as_bytes());
    sign(&mut block);
    tar.extend(block);
    tar.extend(data);
    fill(tar);
}

/// Ends a tar.
pub(crate) fn finish(mut tar: Vec<u8>) -> Vec<u8> {
    fill(&mut tar);
    tar.extend([0; 2 * BLOCK]);
    tar
}

fn fill(tar: &mut Vec<u8>) {
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

fn sign(block: &mut [u8]) {
    set_sum(block, b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    set_sum(block, format!("{sum:06o}\0 ").as_bytes());
}

fn set_sum(block: &mut [u8], text: &[u8]) {
    block[CHECKSUM.at..CHECKSUM.at + CHECKSUM.length].copy_from_slice(text);
}

/// What a size field says, as far as it is needed to find the next header.
fn size(field: &[u8]) -> usize {
    if field[0] & 0x80 != 0 {
        return field[4..].iter().fold(0, |size: usize, byte| (size << 8 | usize::from(*byte)) & 0xff_ffff);
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |size: usize, digit| (size * 8 + usize::from(digit - b'0') % 8) & 0xff_ffff)
}

/// The same tar with right checksums, with the data of its last entry and an end if they are missing.
pub(crate) fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut tar = bytes.to_vec();
    fill(&mut tar);
    let mut at = 0;
    while at < tar.len() && tar[at..at + BLOCK] != [0; BLOCK] {
        let block = &mut tar[at..at + BLOCK];
        sign(block);
        let has_data = !matches!(block[KIND], b'1'..=b'6');
        let mut next = at + BLOCK;
        if block[KIND] == b'S' && block[482] != 0 {
            // Blocks with more of a sparse map, which have no checksum.
            while next < tar.len() && tar[next + 504] != 0 {
                next += BLOCK;
            }
            next += BLOCK;
        }
        let data = if has_data { size(&tar[at + SIZE.at..at + SIZE.at + SIZE.length]) } else { 0 };
        at = next.saturating_add(data.next_multiple_of(BLOCK));
    }
    if at >= tar.len() { finish(tar) } else { tar }
}

/// Whether it asks for holes, which take long where nobody limits them.
pub(crate) fn may_be_sparse(bytes: &[u8]) -> bool {
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    has(b"GNU.sparse") || bytes.chunks(BLOCK).any(|block| block.get(KIND) == Some(&b'S'))
}
