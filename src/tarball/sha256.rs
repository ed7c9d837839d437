//! sha256 of bytes that belong to a tar and to a file in it: both digests in one go.

use crate::id::Digest;
use crate::sys::sha256::{Block, State, compress};

/// Computes a [`Digest`], together with another one where the bytes are the same.
pub(super) struct Sha256 {
    state: State,
    /// Bytes that make no block yet.
    rest: Block,
    length: u64,
}

/// The words before the first block (FIPS 180-4, 5.3.3).
const START: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

const BLOCK: usize = size_of::<Block>();

impl Default for Sha256 {
    fn default() -> Self {
        Self { state: START, rest: [0; BLOCK], length: 0 }
    }
}

impl Sha256 {
    /// How many bytes there are of the block that is not whole yet.
    fn filled(&self) -> usize {
        usize::try_from(self.length % BLOCK as u64).unwrap_or_default()
    }

    /// Hashes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let bytes = self.fill(bytes);
        let (blocks, rest) = bytes.as_chunks();
        one(&mut self.state, blocks);
        self.length = self.length.saturating_add(size_of_val(blocks) as u64);
        self.fill(rest);
    }

    /// Completes the block that is not whole, if there is one or the bytes make none, and gives what it did not need.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let filled = self.filled();
        if filled == 0 && bytes.len() >= BLOCK {
            return bytes;
        }
        let (taken, left) = bytes.split_at(bytes.len().min(BLOCK.saturating_sub(filled)));
        if let Some(space) = self.rest.get_mut(filled..).and_then(|space| space.get_mut(..taken.len())) {
            space.copy_from_slice(taken);
        }
        self.length = self.length.saturating_add(taken.len() as u64);
        if !taken.is_empty() && self.filled() == 0 {
            one(&mut self.state, &[self.rest]);
        }
        left
    }

    /// Hashes the next bytes, which are those of `other` too.
    pub(super) fn update_both(&mut self, other: &mut Self, bytes: &[u8]) {
        if self.filled() != 0 || other.filled() != 0 {
            self.update(bytes);
            other.update(bytes);
            return;
        }
        let (blocks, rest) = bytes.as_chunks();
        let mut states = [self.state, other.state];
        compress(&mut states, blocks);
        [self.state, other.state] = states;
        for digest in [self, other] {
            digest.length = digest.length.saturating_add(size_of_val(blocks) as u64);
            digest.update(rest);
        }
    }

    /// The digest of all bytes given.
    pub(super) fn finish(mut self) -> Digest {
        let bits = self.length.wrapping_mul(8);
        // A one, zeros, and the length in the last eight bytes of a block.
        let zeros = (2 * BLOCK - 1 - 8).saturating_sub(self.filled()) % BLOCK;
        let end = [0x80].into_iter().chain(std::iter::repeat_n(0, zeros)).chain(bits.to_be_bytes());
        self.update(&end.collect::<Vec<u8>>());
        let mut bytes = [0; 32];
        for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *to = word.to_be_bytes();
        }
        Digest::from_bytes(bytes)
    }
}

fn one(state: &mut State, blocks: &[Block]) {
    let mut states = [*state];
    compress(&mut states, blocks);
    [*state] = states;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sha256_of_any_length_in_any_pieces() {
        let bytes: Vec<u8> = (0u32..1000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in (0..260).chain([511, 512, 513, 1000]) {
            let bytes = &bytes[..length];
            for piece in [1, 7, 63, 64, 65, 128, 200, 1000] {
                let mut hasher = Sha256::default();
                bytes.chunks(piece).for_each(|piece| hasher.update(piece));
                assert_eq!(hasher.finish(), Digest::of(bytes), "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn two_at_once_are_what_each_is_alone_wherever_they_stand() {
        let bytes: Vec<u8> = (0u32..700).map(|n| (n.wrapping_mul(2_246_822_519) >> 24) as u8).collect();
        for (before, length) in [(0, 700), (64, 63), (512, 188), (1, 200), (63, 64), (65, 0), (128, 128)] {
            let (mut all, mut part) = (Sha256::default(), Sha256::default());
            all.update(&bytes[..before]);
            bytes[before..before + length].chunks(192).for_each(|piece| all.update_both(&mut part, piece));
            all.update(b"and then");
            part.update(b"more");
            let expected = |parts: &[&[u8]]| Digest::of(&parts.concat());
            assert_eq!(all.finish(), expected(&[&bytes[..before + length], b"and then"]), "{before}, {length}");
            assert_eq!(part.finish(), expected(&[&bytes[before..before + length], b"more"]), "{before}, {length}");
        }
    }
}
