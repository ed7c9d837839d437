//! A layer's tar, compressed: the same bytes each time.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use zstd::stream::write::Encoder;

/// How a layer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// As it is.
    #[default]
    None,
    /// RFC 1952, with neither a time nor a name in its header.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Compresses what is written to it. To be ended by [`Compress::finish`].
pub enum Compress<W: Write> {
    /// [`Codec::None`].
    None(W),
    /// [`Codec::Gzip`].
    Gzip(GzEncoder<W>),
    /// [`Codec::Zstd`].
    Zstd(Encoder<'static, W>),
}

impl<W: Write> std::fmt::Debug for Compress<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compress").finish_non_exhaustive()
    }
}

/// What gzip takes when nothing is said.
const GZIP_LEVEL: u32 = 6;
/// What zstd takes when nothing is said.
const ZSTD_LEVEL: i32 = 3;

impl<W: Write> Compress<W> {
    /// Writes to `out`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(codec: Codec, out: W) -> io::Result<Self> {
        Ok(match codec {
            Codec::None => Self::None(out),
            Codec::Gzip => Self::Gzip(GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL))),
            Codec::Zstd => {
                let mut encoder = Encoder::new(out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Writes the end.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compress<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Nothing is gained by a block that ends before it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_says_nothing_of_when_and_what() {
        let mut gzip = Compress::new(Codec::Gzip, Vec::new()).unwrap();
        gzip.write_all(b"x").unwrap();
        let bytes = gzip.finish().unwrap();
        // RFC 1952: magic, deflate, no flags, no time.
        assert_eq!(bytes[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    }
}
