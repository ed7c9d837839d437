//! Writing a layer's tar: the same entries always become the same bytes.
//!
//! ustar headers, with a PAX header before each entry that has something they cannot say (POSIX `pax`,
//! "pax Extended Header"; extended attributes as `SCHILY.xattr.*`).

use std::io::{self, Read, Write};

use super::BLOCK;
use crate::index::{Kind, Meta, Time, Xattrs};
use crate::sys::retry;
use crate::whiteout;

/// Bytes that a name and a link's target may have in a ustar header.
const NAME: usize = 100;
/// The largest id that seven octal digits can say.
const MAX_ID: u32 = 0o777_7777;
/// The largest number that eleven octal digits can say.
const MAX_NUMBER: u64 = 0o777_7777_7777;
const BUFFER: usize = 256 << 10;

/// One entry to be written.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// Where, relative to the root; the root's own is empty.
    pub path: &'a [u8],
    /// Type, owner, times and the like.
    pub meta: &'a Meta,
    /// The target of a symbolic link.
    pub target: &'a [u8],
    /// Extended attributes.
    pub xattrs: &'a Xattrs,
}

/// Writes a layer's tar.
pub struct Pack<W: Write> {
    out: tar::Builder<W>,
    latest: Option<Time>,
}

impl<W: Write> std::fmt::Debug for Pack<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack").finish_non_exhaustive()
    }
}

impl<W: Write> Pack<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out: tar::Builder::new(out), latest: None }
    }

    /// Lets no entry be of a later time.
    #[must_use]
    pub fn not_after(self, latest: Option<Time>) -> Self {
        Self { latest, ..self }
    }

    /// Writes one entry, with the content that `content` gives for a regular file. A socket is left out: no
    /// tar can hold one.
    ///
    /// # Errors
    /// When writing or reading fails, or the content is shorter than `meta` says.
    pub fn entry(&mut self, entry: Packed<'_>, content: &mut dyn Read) -> io::Result<()> {
        let Packed { path, meta, target, xattrs } = entry;
        let kind = match meta.kind {
            Kind::Directory => tar::EntryType::Directory,
            Kind::File => tar::EntryType::Regular,
            Kind::Symlink => tar::EntryType::Symlink,
            Kind::CharDevice => tar::EntryType::Char,
            Kind::BlockDevice => tar::EntryType::Block,
            Kind::Fifo => tar::EntryType::Fifo,
            Kind::Socket => return Ok(()),
        };
        let size = if meta.kind == Kind::File { meta.size } else { 0 };
        self.header(kind, path, target, meta, size, xattrs)?;
        self.content(size, content)
    }

    /// Writes one more name of a file that was written as `target`.
    ///
    /// # Errors
    /// When writing fails.
    pub fn link(&mut self, path: &[u8], target: &[u8], meta: &Meta) -> io::Result<()> {
        self.header(tar::EntryType::Link, path, target, meta, 0, &Xattrs::new())
    }

    /// Writes that the layers below do not show `name` in `dir`.
    ///
    /// # Errors
    /// When writing fails.
    pub fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> io::Result<()> {
        self.marker(dir, &[whiteout::PREFIX, name].concat())
    }

    /// Writes that `dir` shows nothing of the layers below.
    ///
    /// # Errors
    /// When writing fails.
    pub fn opaque(&mut self, dir: &[u8]) -> io::Result<()> {
        self.marker(dir, whiteout::OPAQUE)
    }

    /// Ends the tar.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(self) -> io::Result<W> {
        self.out.into_inner()
    }

    fn marker(&mut self, dir: &[u8], name: &[u8]) -> io::Result<()> {
        let path = if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() };
        let meta = Meta { kind: Kind::File, mode: 0, ..Meta::implied_directory() };
        self.header(tar::EntryType::Regular, &path, b"", &meta, 0, &Xattrs::new())
    }

    fn header(
        &mut self,
        kind: tar::EntryType,
        path: &[u8],
        target: &[u8],
        meta: &Meta,
        size: u64,
        xattrs: &Xattrs,
    ) -> io::Result<()> {
        let mut name = path.to_vec();
        if name.is_empty() {
            name.push(b'.');
        }
        if kind == tar::EntryType::Directory {
            name.push(b'/');
        }
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut say = |key: &[u8], value: &[u8]| records.push((key.to_vec(), value.to_vec()));
        let is_plain = |text: &[u8]| text.len() <= NAME && text.is_ascii();
        if !is_plain(&name) {
            say(b"path", &name);
        }
        if !is_plain(target) {
            say(b"linkpath", target);
        }
        if size > MAX_NUMBER {
            say(b"size", size.to_string().as_bytes());
        }
        for (key, id) in [(&b"uid"[..], meta.uid), (b"gid", meta.gid)] {
            if id > MAX_ID {
                say(key, id.to_string().as_bytes());
            }
        }
        let mtime = self.latest.map_or(meta.mtime, |latest| latest.min(meta.mtime));
        let seconds = u64::try_from(mtime.sec).ok().filter(|seconds| *seconds <= MAX_NUMBER);
        if seconds.is_none() || mtime.nsec != 0 {
            say(b"mtime", decimal(mtime).as_bytes());
        }
        let mut sorted: Vec<_> = xattrs.iter().collect();
        sorted.sort_unstable();
        for (key, value) in sorted {
            say(&[b"SCHILY.xattr.", key.as_slice()].concat(), value);
        }
        if !records.is_empty() {
            self.records(&records)?;
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(meta.mode);
        header.set_uid(meta.uid.min(MAX_ID).into());
        header.set_gid(meta.gid.min(MAX_ID).into());
        header.set_mtime(seconds.unwrap_or_default());
        header.set_size(size.min(MAX_NUMBER));
        let (major, minor) = meta.rdev;
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        let fields = header.as_old_mut();
        copy(&mut fields.name, &name);
        copy(&mut fields.linkname, target);
        header.set_cksum();
        self.out.get_mut().write_all(header.as_bytes())
    }

    /// Writes a PAX header.
    fn records(&mut self, records: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
        let mut body = Vec::new();
        for (key, value) in records {
            body.extend_from_slice(&record(key, value));
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        copy(&mut header.as_old_mut().name, b"PaxHeaders/entry");
        header.set_cksum();
        self.out.get_mut().write_all(header.as_bytes())?;
        self.content(body.len() as u64, &mut body.as_slice())
    }

    fn content(&mut self, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let out = self.out.get_mut();
        let mut left = size;
        let mut buffer = vec![0; usize::try_from(size).map_or(BUFFER, |size| size.min(BUFFER))];
        while left > 0 {
            let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = retry(|| content.read(buffer.get_mut(..wanted).unwrap_or_default()))?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.write_all(buffer.get(..read).unwrap_or_default())?;
            left = left.saturating_sub(read as u64);
        }
        let padding = usize::try_from(super::padding(size)).unwrap_or_default();
        out.write_all([0; BLOCK].get(..padding).unwrap_or_default())
    }
}

/// A record of a PAX header: its length, which counts its own digits, then the key and the value.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    // A space, an equals sign and a newline.
    let fixed = key.len() + value.len() + 3;
    let mut length = fixed;
    while fixed + length.to_string().len() != length {
        length = fixed + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Seconds since 1970 with their fraction; a time before 1970 counts back from there.
fn decimal(Time { sec, nsec }: Time) -> String {
    let (sign, sec, nsec) = match (sec, nsec) {
        (0.., _) => ("", sec.unsigned_abs(), nsec),
        (_, 0) => ("-", sec.unsigned_abs(), 0),
        _ => ("-", sec.unsigned_abs().saturating_sub(1), 1_000_000_000u32.saturating_sub(nsec)),
    };
    if nsec == 0 {
        return format!("{sign}{sec}");
    }
    format!("{sign}{sec}.{nsec:09}").trim_end_matches('0').to_owned()
}

/// As much as fits; what does not is in a PAX header.
fn copy(field: &mut [u8; NAME], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        assert_eq!(record(b"a", b"b"), b"6 a=b\n");
        for length in 80..120 {
            let whole = record(b"path", &vec![b'x'; length]);
            assert_eq!(whole.split(|byte| *byte == b' ').next().unwrap(), whole.len().to_string().as_bytes());
        }
    }

    #[test]
    fn times_before_1970_count_back() {
        for (sec, nsec, text) in
            [(1, 0, "1"), (1, 500_000_000, "1.5"), (-1, 0, "-1"), (-1, 500_000_000, "-0.5"), (-2, 1, "-1.999999999")]
        {
            assert_eq!(decimal(Time { sec, nsec }), text);
        }
    }
}
