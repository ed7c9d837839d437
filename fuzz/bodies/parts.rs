//! An archive that a fuzzer can write: members by name, into which the digests of others are put.
//!
//! ```text
//! NAME\nCONTENT\n%%\nNAME\nCONTENT...
//! ```
//!
//! In names and contents `{N}` is the digest of the content of member N, counted from 0, `{dN}` that of what it is
//! without its compression, and `{#N}` its length; N must stand before. A content that begins with `@link ` or
//! `@hard ` is a link to what follows, with `@gzip\n` or `@zstd\n` what follows is compressed. Tars get right checksums.

use std::io::{Read as _, Write as _};

use layerctl::id::Digest;
use layerctl::tarball::{Codec, Compress, decompress};

use super::tar;

const SEPARATOR: &[u8] = b"\n%%\n";
/// Bytes of all members together: members can name each other.
const MOST: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: Vec<u8>,
    pub(crate) content: Content,
}

#[derive(Default)]
struct Known {
    digest: String,
    plain: String,
    length: String,
}

pub(crate) fn parse(mut data: &[u8]) -> Vec<Part> {
    let (mut parts, mut known, mut total) = (Vec::new(), Vec::new(), 0);
    while !data.is_empty() && parts.len() < 40 {
        let end = data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let (part, rest) = data.split_at(end.unwrap_or(data.len()));
        data = rest.get(SEPARATOR.len()..).unwrap_or_default();
        let line = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let (name, content) = (&part[..line], part.get(line + 1..).unwrap_or_default());
        let content = content_of(content, &known);
        if let Content::File(bytes) = &content {
            total += bytes.len();
            if total > MOST {
                break;
            }
            known.push(Known { digest: Digest::of(bytes).hex(), plain: plain(bytes), length: bytes.len().to_string() });
        } else {
            known.push(Known::default());
        }
        parts.push(Part { name: filled(name, &known), content });
    }
    parts
}

/// The digest of what is in a compressed member.
fn plain(bytes: &[u8]) -> String {
    let mut plain = Vec::new();
    let source = decompress(Box::new(bytes)).expect("memory can be read").1;
    let read = source.take(MOST as u64).read_to_end(&mut plain);
    read.map_or_else(|_| String::new(), |_| Digest::of(&plain).hex())
}

fn content_of(content: &[u8], known: &[Known]) -> Content {
    let compressed = |codec: Codec, plain: &[u8]| {
        let mut out = Compress::new(codec, Vec::new()).expect("there is memory");
        out.write_all(&file(plain, known)).expect("memory takes all");
        Content::File(out.finish().expect("memory takes all"))
    };
    if let Some(target) = content.strip_prefix(b"@link ") {
        Content::Symlink(filled(target, known))
    } else if let Some(target) = content.strip_prefix(b"@hard ") {
        Content::Hardlink(filled(target, known))
    } else if let Some(plain) = content.strip_prefix(b"@gzip\n") {
        compressed(Codec::Gzip, plain)
    } else if let Some(plain) = content.strip_prefix(b"@zstd\n") {
        compressed(Codec::Zstd, plain)
    } else {
        Content::File(file(content, known))
    }
}

fn file(content: &[u8], known: &[Known]) -> Vec<u8> {
    if content.get(257..262) == Some(b"ustar") { tar::repaired(content) } else { filled(content, known) }
}

/// Puts the digests in.
fn filled(text: &[u8], known: &[Known]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'{') {
        out.extend(&rest[..at]);
        rest = &rest[at..];
        let value = match rest {
            [b'{', b'd', digit @ b'0'..=b'9', b'}', ..] => Some((4, digit, 'd')),
            [b'{', b'#', digit @ b'0'..=b'9', b'}', ..] => Some((4, digit, '#')),
            [b'{', digit @ b'0'..=b'9', b'}', ..] => Some((3, digit, ' ')),
            _ => None,
        };
        let found = value.and_then(|(length, digit, kind)| Some((length, known.get(usize::from(digit - b'0'))?, kind)));
        if let Some((length, known, kind)) = found {
            out.extend(match kind {
                'd' => known.plain.bytes(),
                '#' => known.length.bytes(),
                _ => known.digest.bytes(),
            });
            rest = &rest[length..];
        } else {
            out.push(b'{');
            rest = &rest[1..];
        }
    }
    out.extend(rest);
    out
}

/// The members as a tar.
pub(crate) fn as_tar(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        let (kind, link, data) = match &part.content {
            Content::File(content) => (b'0', &b""[..], &content[..]),
            Content::Symlink(target) => (b'2', &target[..], &b""[..]),
            Content::Hardlink(target) => (b'1', &target[..], &b""[..]),
        };
        for (kind, text) in [(b'L', &part.name[..]), (b'K', link)] {
            if text.len() > 100 {
                tar::push(&mut bytes, tar::header(kind), text);
            }
        }
        let mut header = tar::header(kind);
        tar::set(&mut header, tar::NAME, &part.name);
        tar::set(&mut header, tar::LINK, link);
        tar::push(&mut bytes, header, data);
    }
    tar::finish(bytes)
}
