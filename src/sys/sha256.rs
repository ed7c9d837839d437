//! The processor's own instructions for sha256, for several digests of the same bytes.

/// What has become of a digest: the words a to h (FIPS 180-4, 6.2).
pub type State = [u32; 8];

/// Bytes that are hashed at once.
pub type Block = [u8; 64];

/// Goes on with each of `states` over the same blocks.
///
/// Of two states it takes a third less time than one after the other: a processor with these instructions waits for the
/// result of each, and has another digest's to compute meanwhile; and the message schedule is the same for both.
pub fn compress<const N: usize>(states: &mut [State; N], blocks: &[Block]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1") {
        #[allow(unsafe_code, reason = "instructions that not every processor has")]
        // SAFETY: this one has them.
        unsafe {
            x86::compress(states, blocks);
        }
        return;
    }
    for state in states {
        sha2::block_api::compress256(state, blocks);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi8, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::{Block, State};

    /// The constants (FIPS 180-4, 4.2.2), four for each step.
    const K: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    /// A state as the instructions want it: the words a, b, e, f and c, d, g, h, the last of them lowest.
    type Halves = (__m128i, __m128i);

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub(super) fn compress<const N: usize>(states: &mut [State; N], blocks: &[Block]) {
        let mut halves = [(_mm_set_epi32(0, 0, 0, 0), _mm_set_epi32(0, 0, 0, 0)); N];
        for (halves, state) in halves.iter_mut().zip(&*states) {
            *halves = packed(state);
        }
        for block in blocks {
            let before = halves;
            let (quarters, _) = block.as_chunks::<16>();
            let [a, b, c, d] = *quarters else { continue };
            let mut words = [words(&a), words(&b), words(&c), words(&d)];
            for (step, k) in K.iter().enumerate() {
                // The four words that are the oldest become those that come next, from the fifth step on.
                let [a, b, c, d] = words;
                let next = if step < 4 { a } else { scheduled(a, b, c, d) };
                words = [b, c, d, next];
                rounds(&mut halves, _mm_add_epi32(next, four(k)));
            }
            for (now, before) in halves.iter_mut().zip(&before) {
                *now = (_mm_add_epi32(now.0, before.0), _mm_add_epi32(now.1, before.1));
            }
        }
        for (halves, state) in halves.iter().zip(states) {
            *state = unpacked(*halves);
        }
    }

    /// Four rounds, of words to which their constants were added.
    #[target_feature(enable = "sha,sse2")]
    fn rounds<const N: usize>(halves: &mut [Halves; N], words: __m128i) {
        for (abef, cdgh) in halves.iter_mut() {
            *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, words);
        }
        let upper = _mm_shuffle_epi32::<0b00_00_11_10>(words);
        for (abef, cdgh) in halves.iter_mut() {
            *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, upper);
        }
    }

    /// The next four words of the message schedule, from the sixteen before them.
    #[target_feature(enable = "sha,sse2,ssse3")]
    fn scheduled(a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> __m128i {
        _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8::<4>(d, c)), d)
    }

    /// Four words of a message, whose bytes stand the other way round.
    #[target_feature(enable = "sse2,ssse3")]
    fn words(bytes: &[u8; 16]) -> __m128i {
        let both = u128::from_le_bytes(*bytes);
        #[allow(clippy::cast_possible_truncation, reason = "the lower and the upper half of it")]
        let loaded = _mm_set_epi64x((both >> 64) as i64, both as i64);
        _mm_shuffle_epi8(loaded, _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3))
    }

    #[target_feature(enable = "sse2")]
    fn four([a, b, c, d]: &[u32; 4]) -> __m128i {
        _mm_set_epi32(d.cast_signed(), c.cast_signed(), b.cast_signed(), a.cast_signed())
    }

    #[target_feature(enable = "sse2,ssse3,sse4.1")]
    fn packed([a, b, c, d, e, f, g, h]: &State) -> Halves {
        (four(&[*f, *e, *b, *a]), four(&[*h, *g, *d, *c]))
    }

    #[target_feature(enable = "sse2,ssse3,sse4.1")]
    fn unpacked((abef, cdgh): Halves) -> State {
        let word = i32::cast_unsigned;
        [
            word(_mm_extract_epi32::<3>(abef)),
            word(_mm_extract_epi32::<2>(abef)),
            word(_mm_extract_epi32::<3>(cdgh)),
            word(_mm_extract_epi32::<2>(cdgh)),
            word(_mm_extract_epi32::<1>(abef)),
            word(_mm_extract_epi32::<0>(abef)),
            word(_mm_extract_epi32::<1>(cdgh)),
            word(_mm_extract_epi32::<0>(cdgh)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_states_becomes_what_it_becomes_alone() {
        let blocks: Vec<Block> = (0u8..9).map(|n| std::array::from_fn(|at| n.wrapping_mul(151) ^ at as u8)).collect();
        let others: State = std::array::from_fn(|at| 0x9e37_79b9u32.wrapping_mul(at as u32 + 1));
        for count in 0..blocks.len() {
            let mut states = [[0; 8], others, [u32::MAX; 8]];
            let mut alone = states;
            compress(&mut states, &blocks[..count]);
            for state in &mut alone {
                sha2::block_api::compress256(state, &blocks[..count]);
            }
            assert_eq!(states, alone, "{count} blocks");
        }
    }
}
