//! Compressed streams become plain ones, told apart by their first bytes.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::rc::Rc;

use flate2::bufread::GzDecoder;

use super::{BLOCK, Refusal, is_header, refusal_of};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz format.
    Xz,
    /// Burrows-Wheeler, as bzip2 does it.
    Bzip2,
}

impl Compression {
    /// By the first block, or as much as there is of it. A tar may begin with a name that looks like a magic, but
    /// nothing compressed begins with a header whose checksum is right.
    pub(super) fn of(start: &[u8]) -> Self {
        match start {
            _ if start.first_chunk::<BLOCK>().is_some_and(is_header) => Self::None,
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            // A frame, or one to be skipped in front of it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

const BUFFER: usize = 128 << 10;
/// What is no larger needs no compression to be a nuisance. Real layers have some files of nothing but zeros.
const SMALL: u64 = 256 << 20;
/// What a decoder may take: xz -9 needs 65 MiB, zstd --ultra -22 needs 128 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// Finds out how `source` is compressed, and reads its plain bytes.
///
/// Streams of several members are read to their end. Reading fails with `UnexpectedEof` when the stream is
/// cut short, and with `InvalidData` when it is damaged or followed by something else (zeros after a gzip
/// member are not minded). An empty source is an empty stream of [`Compression::None`].
///
/// # Errors
/// When the first bytes cannot be read.
pub fn decompress<'a>(source: Box<dyn Read + 'a>) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    decompress_within(source, u64::MAX)
}

/// The same for an untrusted source: reading fails with a [`Refusal`] when what comes out is more than
/// `ratio` times as large as what went in, and large enough to matter.
///
/// # Errors
/// As [`decompress`].
pub fn decompress_within<'a>(
    mut source: Box<dyn Read + 'a>,
    ratio: u64,
) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    let mut magic = Vec::new();
    source.by_ref().take(BLOCK as u64).read_to_end(&mut magic)?;
    let compression = Compression::of(&magic);
    let source = Cursor::new(magic).chain(source);
    if compression == Compression::None {
        return Ok((compression, Box::new(source)));
    }
    let taken = Rc::new(Cell::new(0));
    let source = BufReader::with_capacity(BUFFER, Counted { source, taken: taken.clone() });
    let plain: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(Gzip::Member(Box::new(GzDecoder::new(source)))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
    };
    Ok((compression, Box::new(Decoder { plain, failed: false, taken, given: 0, ratio })))
}

/// Gives the decoders' errors one form, and stays failed.
struct Decoder<'a> {
    plain: Box<dyn Read + 'a>,
    failed: bool,
    /// Bytes that went in.
    taken: Rc<Cell<u64>>,
    /// Bytes that came out.
    given: u64,
    ratio: u64,
}

/// Counts what is read.
struct Counted<R> {
    source: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.taken.set(self.taken.get().saturating_add(length as u64));
        Ok(length)
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = self.plain.read(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            self.failed = true;
            // An error of the source has an errno; those of the decoders have none.
            let is_plain = error.raw_os_error().is_some() || error.kind() == io::ErrorKind::UnexpectedEof;
            if is_plain || refusal_of(&error).is_some() {
                error
            } else {
                io::Error::new(io::ErrorKind::InvalidData, error.to_string())
            }
        });
        // error: nothing was given then, and it is returned below
        self.given = self.given.saturating_add(read.as_ref().map_or(0, |length| *length as u64));
        if self.given > SMALL && self.given.checked_div(self.ratio).is_none_or(|least| least > self.taken.get()) {
            self.failed = true;
            let why = format!("is more than {} times as large as it came compressed", self.ratio);
            return Err(io::Error::new(io::ErrorKind::InvalidData, Refusal::limit("ratio", why)));
        }
        read
    }
}

/// Members of gzip, one after the other: flate2's own multi-member reader does not take padding.
enum Gzip<R> {
    Member(Box<GzDecoder<R>>),
    End,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Self::Member(member) = self {
            let length = member.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let Self::Member(member) = std::mem::replace(self, Self::End) else { break };
            let mut source = member.into_inner();
            let mut padded = false;
            loop {
                let rest = source.fill_buf()?;
                let zeros = rest.iter().take_while(|byte| **byte == 0).count();
                if rest.is_empty() {
                    return Ok(0);
                }
                padded |= zeros > 0;
                if zeros < rest.len() {
                    if padded {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "garbage after the end of the gzip data",
                        ));
                    }
                    break;
                }
                source.consume(zeros);
            }
            *self = Self::Member(Box::new(GzDecoder::new(source)));
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn compress(compression: Compression, plain: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => plain.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(plain, 3).unwrap(),
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn read(bytes: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (compression, mut plain) = decompress(Box::new(bytes))?;
        let mut out = Vec::new();
        plain.read_to_end(&mut out)?;
        Ok((compression, out))
    }

    const ALL: [Compression; 4] = [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2];

    #[test]
    fn members_are_joined_and_cuts_are_seen() {
        let (one, two) = (b"first ".repeat(9000), b"second".repeat(9000));
        let both = [&one[..], &two[..]].concat();
        for compression in ALL {
            let (first, second) = (compress(compression, &one), compress(compression, &two));
            let joined = [&first[..], &second[..]].concat();
            assert_eq!(read(&joined).unwrap(), (compression, both.clone()));
            assert_eq!(read(&compress(compression, b"")).unwrap(), (compression, Vec::new()));
            for cut in (11..joined.len()).filter(|cut| *cut != first.len()) {
                let error = read(&joined[..cut]).expect_err(&format!("{compression:?} cut at {cut}"));
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{compression:?} cut at {cut}: {error}");
            }
        }
    }

    #[test]
    fn damage_and_garbage_are_errors() {
        for compression in ALL {
            let whole = compress(compression, &b"text ".repeat(1000));
            let error = read(&[&whole[..], b"this is no member"].concat()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{compression:?}: {error}");
        }
        let gzip = compress(Compression::Gzip, b"text");
        assert_eq!(read(&[&gzip[..], &[0; 1000]].concat()).unwrap().1, b"text");
        assert!(read(&[&gzip[..], &[0; 1000], b"x"].concat()).is_err());
        let mut broken = gzip;
        let crc = broken.len() - 6;
        broken[crc] ^= 1;
        assert_eq!(read(&broken).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_tar_whose_first_name_is_a_magic_is_a_tar() {
        for magic in [&b"\x1f\x8b\x08"[..], b"BZh91AY&SY", &[0x28, 0xb5, 0x2f, 0xfd]] {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..magic.len()].copy_from_slice(magic);
            header.set_size(0);
            header.set_cksum();
            let tar = [&header.as_bytes()[..], &[0; 1024]].concat();
            assert_eq!(read(&tar).unwrap(), (Compression::None, tar));
        }
    }

    #[test]
    fn what_is_not_compressed_passes() {
        for plain in [&b""[..], b"B", b"BZh", &[0; 2000]] {
            assert_eq!(read(plain).unwrap(), (Compression::None, plain.to_vec()));
        }
    }
}
