//! Split and files give back the tar.

use std::collections::HashSet;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::disk::Walk;
use super::split::{self, Reader};
use super::{Failure, Limits, path};
use crate::id::{Digest, Digester};
use crate::sys::{Dir, call};
use crate::{sys, whiteout};

const BUFFER: usize = 256 << 10;

struct Output<'a> {
    out: &'a mut dyn Write,
    digester: Digester,
    size: u64,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.digester.update(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.out.write_all(bytes).map_err(|error| Failure::write("write", b"the tar", error))
    }
}

/// Writes the tar that `split` was made of, with the files' content from the layer's directory `dir`.
/// Neither is trusted: the caller compares the digest that is returned with the diffID.
///
/// # Errors
/// [`Failure::Bad`] when the split is damaged or does not fit the directory, else what failed.
pub fn assemble(split: &mut dyn io::Read, dir: BorrowedFd<'_>, out: &mut dyn Write) -> Result<Digest, Failure> {
    assemble_counted(split, dir, out).map(|assembled| assembled.digest)
}

/// What came out of a split and its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assembled {
    /// The digest of the tar.
    pub digest: Digest,
    /// Bytes of the tar.
    pub size: u64,
    /// Bytes of it that are file content.
    pub content_bytes: u64,
}

/// As [`assemble`], and counts.
///
/// # Errors
/// As [`assemble`].
pub fn assemble_counted(
    split: &mut dyn io::Read,
    dir: BorrowedFd<'_>,
    out: &mut dyn Write,
) -> Result<Assembled, Failure> {
    run(split, dir, out, None)
}

/// As [`assemble_counted`], with zeros for all content that is missing or cannot be read: what comes out has at least
/// the headers of the tar, if the split is not damaged. No more than `limit` bytes are made.
///
/// # Errors
/// [`Failure::Bad`] when the split is damaged or asks for more than `limit`.
pub fn assemble_headers(
    split: &mut dyn io::Read,
    dir: BorrowedFd<'_>,
    out: &mut dyn Write,
    limit: u64,
) -> Result<Assembled, Failure> {
    run(split, dir, out, Some(limit))
}

/// With a `limit`, zeros take the place of what is missing.
fn run(
    split: &mut dyn io::Read,
    dir: BorrowedFd<'_>,
    out: &mut dyn Write,
    limit: Option<u64>,
) -> Result<Assembled, Failure> {
    let mut split = Reader::new(split)?;
    let mut out = Output { out, digester: Digester::new(), size: 0 };
    let mut walk = Walk::new(dir).map_err(|error| Failure::write("open", b"", error))?;
    let kept = match Kept::open(&mut walk) {
        Err(_) if limit.is_some() => Kept { dir: None, names: HashSet::new() },
        kept => kept?,
    };
    let mut buffer = vec![0; BUFFER];
    let (mut content, mut content_bytes) = (0u64, 0u64);
    loop {
        match split.byte()? {
            split::LITERAL => {
                let mut left = split.number()?;
                while left > 0 {
                    left = left.saturating_sub(split.take(left, |bytes| out.write(bytes))?);
                }
            }
            split::CONTENT => {
                let path = split.path()?;
                let file = match kept.get(content) {
                    Ok(Some(file)) => Ok(file),
                    Ok(None) => open(&mut walk, &path),
                    Err(failure) => Err(failure),
                };
                let file = match file {
                    Err(_) if limit.is_some() => None,
                    file => Some(file?),
                };
                content = content.saturating_add(1);
                for _ in 0..split.number()? {
                    let (offset, length) = (split.number()?, split.number()?);
                    let end = out.size.saturating_add(length);
                    if limit.is_some_and(|limit| end > limit) {
                        return Err(Failure::bad("is damaged: it gives more than the tar had"));
                    }
                    let copied =
                        file.as_ref().map_or(Ok(()), |file| copy(file, &path, offset, length, &mut buffer, &mut out));
                    match limit {
                        None => copied?,
                        Some(_) => zeros(end, &mut buffer, &mut out)?,
                    }
                    content_bytes = content_bytes.saturating_add(length);
                }
            }
            split::END => {
                if split.number()? != out.size || !split.is_at_end()? {
                    return Err(Failure::bad("is damaged: its end is wrong"));
                }
                out.out.flush().map_err(|error| Failure::write("write", b"the tar", error))?;
                return Ok(Assembled { digest: out.digester.finish(), size: out.size, content_bytes });
            }
            _ => return Err(Failure::bad("is damaged: it has an unknown record")),
        }
    }
}

/// The contents of replaced files.
struct Kept {
    dir: Option<std::rc::Rc<OwnedFd>>,
    names: HashSet<String>,
}

impl Kept {
    fn open(walk: &mut Walk) -> Result<Self, Failure> {
        let failed = |error: Errno| Failure::write("read", whiteout::DUPLICATES, error);
        let dir = match walk.open(&[whiteout::DUPLICATES]) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Self { dir: None, names: HashSet::new() }),
            Err(error) => return Err(failed(error)),
        };
        let entries = Dir::read_from(&*dir).map_err(failed)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        Ok(Self { names: names.collect::<Result<_, _>>().map_err(failed)?, dir: Some(dir) })
    }

    fn get(&self, content: u64) -> Result<Option<OwnedFd>, Failure> {
        let name = split::kept_name(content);
        match &self.dir {
            Some(dir) if self.names.contains(&name) => open_file(dir, name.as_bytes(), name.as_bytes()).map(Some),
            _ => Ok(None),
        }
    }
}

fn open(walk: &mut Walk, path: &[u8]) -> Result<OwnedFd, Failure> {
    let components = path::components(path, &Limits::of_own()).map_err(|why| Failure::entry(path, why))?;
    let (name, dirs) = components.split_last().ok_or_else(|| Failure::entry(path, "is no file"))?;
    match walk.open(dirs) {
        Ok(dir) => open_file(&dir, name, path),
        Err(error) => Err(missing(path, error)),
    }
}

fn missing(path: &[u8], error: Errno) -> Failure {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::XDEV => {
            Failure::entry(path, "is missing from the layer")
        }
        error => Failure::write("open", path, error),
    }
}

fn open_file(dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<OwnedFd, Failure> {
    // What stands there may be a fifo by now: it must neither block nor be read.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = sys::open_in(dir, name, flags, Mode::empty()).map_err(|error| missing(path, error))?;
    let stat = call::fstat(&file).map_err(|error| Failure::write("read", path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Failure::entry(path, "is no regular file in the layer"));
    }
    Ok(file)
}

/// Fills up to the end of what should have been copied.
fn zeros(end: u64, buffer: &mut [u8], out: &mut Output<'_>) -> Result<(), Failure> {
    buffer.fill(0);
    while out.size < end {
        let most = buffer.len().min(usize::try_from(end.saturating_sub(out.size)).unwrap_or(usize::MAX));
        out.write(buffer.get(..most).unwrap_or_default())?;
    }
    Ok(())
}

fn copy(
    file: &OwnedFd,
    path: &[u8],
    mut offset: u64,
    mut length: u64,
    buffer: &mut [u8],
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    while length > 0 {
        let most = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let bytes = buffer.get_mut(..most).unwrap_or_default();
        let count = match call::pread(file, &mut *bytes, offset) {
            Ok(0) | Err(Errno::INVAL) => return Err(Failure::entry(path, "is shorter than in the tar")),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Failure::write("read", path, error)),
        };
        out.write(bytes.get(..count).unwrap_or_default())?;
        offset = offset.saturating_add(count as u64);
        length = length.saturating_sub(count as u64);
    }
    Ok(())
}
