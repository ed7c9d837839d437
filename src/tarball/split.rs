//! The split: all bytes of a tar that are no file content, and where the content is.
//!
//! ```text
//! "layerctl split 1\n", then zstd of:
//! 1  length, bytes                               bytes of the tar
//! 2  path length, path, count, (offset, length)* content: so many regions of the file at this path
//! 0  size                                        the end: how long the tar is
//! ```
//!
//! Numbers are LEB128. Content is numbered from 0 in the order of its records. When the file of content N
//! was replaced by a later entry, it is no longer at its path but at [`kept_name`]`(N)` in
//! [`DUPLICATES`](crate::whiteout::DUPLICATES): that name is looked for first. A split is untrusted
//! when it is read back.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::Failure;
use crate::sys::retry;

pub(super) const MAGIC: &[u8; 17] = b"layerctl split 1\n";
/// Literal bytes that are gathered before they are written.
const GATHERED: usize = 64 << 10;
const LEVEL: i32 = 3;

pub(super) const END: u8 = 0;
pub(super) const LITERAL: u8 = 1;
pub(super) const CONTENT: u8 = 2;

/// The name under which a replaced file's content is kept.
pub(super) fn kept_name(content: u64) -> String {
    content.to_string()
}

pub(super) struct Writer<'a> {
    out: zstd::stream::write::Encoder<'static, &'a mut (dyn Write + Send)>,
    literal: Vec<u8>,
    contents: u64,
}

fn failed(source: io::Error) -> Failure {
    Failure::write("write", b"the tar's split", source)
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Result<Self, Failure> {
        let start = |out: &'a mut (dyn Write + Send)| {
            out.write_all(MAGIC)?;
            let mut out = zstd::stream::write::Encoder::new(out, LEVEL)?;
            out.include_checksum(true)?;
            Ok(out)
        };
        Ok(Self { out: start(out).map_err(failed)?, literal: Vec::new(), contents: 0 })
    }

    /// Adds bytes of the tar.
    pub(super) fn literal(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.literal.extend_from_slice(bytes);
        if self.literal.len() >= GATHERED { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.literal.is_empty() {
            return Ok(());
        }
        let mut head = vec![LITERAL];
        push_number(&mut head, self.literal.len() as u64);
        self.out.write_all(&head).and_then(|()| self.out.write_all(&self.literal)).map_err(failed)?;
        self.literal.clear();
        Ok(())
    }

    /// Adds the content of the file at `path`, of which `regions` are in the tar; gives its number.
    pub(super) fn content(&mut self, path: &[u8], regions: &[(u64, u64)]) -> Result<u64, Failure> {
        self.flush()?;
        let mut record = vec![CONTENT];
        push_number(&mut record, path.len() as u64);
        record.extend_from_slice(path);
        push_number(&mut record, regions.len() as u64);
        for (offset, length) in regions {
            push_number(&mut record, *offset);
            push_number(&mut record, *length);
        }
        self.out.write_all(&record).map_err(failed)?;
        let number = self.contents;
        self.contents = number.saturating_add(1);
        Ok(number)
    }

    /// Ends the split of a tar of `size` bytes.
    pub(super) fn finish(mut self, size: u64) -> Result<(), Failure> {
        self.flush()?;
        let mut record = vec![END];
        push_number(&mut record, size);
        self.out.write_all(&record).map_err(failed)?;
        self.out.finish().and_then(Write::flush).map_err(failed)
    }
}

pub(super) struct Reader<'a> {
    plain: BufReader<zstd::stream::read::Decoder<'static, BufReader<&'a mut dyn Read>>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(split: &'a mut dyn Read) -> Result<Self, Failure> {
        let mut magic = [0; MAGIC.len()];
        split.read_exact(&mut magic).map_err(Self::failed)?;
        if magic != *MAGIC {
            return Err(Failure::bad("is no split of a layer"));
        }
        let plain = zstd::stream::read::Decoder::new(split).map_err(Self::failed)?;
        Ok(Self { plain: BufReader::with_capacity(GATHERED, plain) })
    }

    /// Errors without an errno are zstd's own: the split is damaged.
    fn failed(error: io::Error) -> Failure {
        if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::UnexpectedEof {
            return Failure::read(error);
        }
        Failure::bad(format!("is damaged: {error}"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Failure> {
        let mut byte = [0];
        self.plain.read_exact(&mut byte).map_err(Self::failed)?;
        let [byte] = byte;
        Ok(byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, Failure> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits != 0 && bits.leading_zeros() < shift {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Failure::bad("is damaged: a number is too large"))
    }

    /// The next bytes, at least one and at most `most`.
    pub(super) fn take(
        &mut self,
        most: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let bytes = self.filled()?;
        let length = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let bytes =
            bytes.get(..length).filter(|bytes| !bytes.is_empty()).ok_or_else(|| Failure::bad("is cut short"))?;
        each(bytes)?;
        self.plain.consume(length);
        Ok(length as u64)
    }

    pub(super) fn path(&mut self) -> Result<Vec<u8>, Failure> {
        let length = self.number()?;
        if length > u64::from(u16::MAX) {
            return Err(Failure::bad("is damaged: a path is too long"));
        }
        let mut path = vec![0; usize::from(length as u16)];
        self.plain.read_exact(&mut path).map_err(Self::failed)?;
        Ok(path)
    }

    /// Whether nothing follows.
    pub(super) fn is_at_end(&mut self) -> Result<bool, Failure> {
        Ok(self.filled()?.is_empty())
    }

    /// The bytes at hand; none at the end only.
    fn filled(&mut self) -> Result<&[u8], Failure> {
        // Of a buffer that has bytes the second call makes no system call.
        match retry(|| self.plain.fill_buf().map(<[u8]>::len)).map_err(Self::failed)? {
            0 => Ok(&[]),
            _ => self.plain.fill_buf().map_err(Self::failed),
        }
    }
}
