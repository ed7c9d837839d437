//! Layer tars: one comes in as a stream and is unpacked, and can be given back bit for bit.
//!
//! A tar is hostile input. It is parsed block by block, never wholly held in memory, and its tree is
//! made from directory descriptors, so that no name and no link in it leads out of the directory.
//!
//! - [`decompress()`]: gzip, zstd, xz, bzip2, by their magic
//! - [`unpack()`]: tar → files, an [`Index`](crate::index::Index), and the split: all bytes that are no file content
//! - [`assemble()`]: split and files → the same tar
//! - [`audit()`]: what is odd about a tar, from its split
//! - [`Compress`]: a tar → the same compressed bytes each time
//! - [`compare()`]: whether the files are still what the index says
//! - [`Mend`]: they are so again, with what was unpacked anew
//!
//! The format is POSIX `pax` (with `ustar` and v7 below it) and GNU tar's extensions (`tar(5)`).

mod acl;
mod assemble;
mod audit;
mod chunk;
mod compare;
mod compress;
mod content;
mod decompress;
mod difference;
mod disk;
mod entry;
mod failure;
mod filled;
mod hard_link;
mod hashing;
mod header;
mod input;
mod limits;
mod links;
mod mend;
mod modes;
mod oddity;
mod pack;
mod path;
mod path_filter;
mod pax;
mod place;
mod sha256;
mod sparse;
mod split;
mod tree;
mod unpack;
mod unpack_options;
mod way;
mod write_back;

#[cfg(test)]
mod tests;

pub use assemble::{Assembled, assemble, assemble_counted, assemble_headers};
pub use audit::audit;
pub use compare::{Scratch, compare};
pub use compress::{Codec, Compress};
pub use content::{compare_content, is_sparse};
pub use decompress::{Compression, decompress, decompress_within};
pub use difference::{Change, Difference};
pub use disk::is_label;
pub use failure::Failure;
pub use filled::Filled;
pub use limits::{Limits, Refusal, refusal_of, size_text};
pub use mend::Mend;
pub use modes::Modes;
pub use oddity::{Odd, Oddities, Oddity};
pub use pack::{Pack, Packed};
pub use path_filter::{PathFilter, path_and_above};
pub use unpack::{Unpacked, unpack, unpack_as};
pub use unpack_options::UnpackOptions;

/// Bytes of a tar's block.
pub const BLOCK: usize = 512;

/// Whether a block is the header of a tar's entry: whether its checksum is right.
#[must_use]
pub fn is_header(block: &[u8; BLOCK]) -> bool {
    header::Header::parse(block).is_some()
}

/// Whether bytes that begin so can be a layer: a tar, or something compressed.
#[must_use]
pub fn looks_like_layer(start: &[u8]) -> bool {
    let block = start.first_chunk();
    Compression::of(start) != Compression::None || block.is_some_and(|block| *block == [0; BLOCK] || is_header(block))
}

/// How many bytes fill the last block of `size` bytes.
const fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
