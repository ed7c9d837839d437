//! The text of mount options: where one ends and the next begins, and what backslashes and quotes mean in it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// Options of security modules, whose values may be quoted and have a `,` in them.
pub(crate) const LABELS: [&[u8]; 4] = [b"context=", b"fscontext=", b"defcontext=", b"rootcontext="];

/// Splits at `separator` where no backslash is before it. Backslashes stay.
pub(crate) fn split(bytes: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == separator && !escaped {
            parts.push(bytes.get(start..at).unwrap_or_default());
            start = at + 1;
        }
        escaped = *byte == b'\\' && !escaped;
    }
    parts.push(bytes.get(start..).unwrap_or_default());
    parts
}

pub(crate) fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// The label at the beginning of `options`, up to its closing quote; `None` where there is none in quotes.
pub(crate) fn quoted_label(options: &[u8]) -> Option<&[u8]> {
    let name = LABELS.iter().find(|label| options.starts_with(label))?.len();
    let value = options.get(name..)?.strip_prefix(b"\"")?;
    let length = value.iter().position(|byte| *byte == b'"')?;
    options.get(..name + length + 2)
}

/// A directory whose name is taken as it is, but for the `,` that would end the option.
pub(crate) fn one_path(escaped: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter().peekable();
    while let Some(byte) = rest.next() {
        if *byte != b'\\' || rest.peek() != Some(&&b',') {
            bytes.push(*byte);
        }
    }
    OsString::from_vec(bytes).into()
}

/// A directory as it was meant: without the backslashes.
pub(crate) fn path(escaped: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter();
    while let Some(byte) = rest.next() {
        bytes.push(if *byte == b'\\' { *rest.next().unwrap_or(byte) } else { *byte });
    }
    OsString::from_vec(bytes).into()
}
