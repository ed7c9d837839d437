//! What the user named, opened and looked at.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _};
use std::path::{Path, PathBuf};

use super::incoming::{Incoming, Stop};
use super::members::{is_archive_member, normal_name};
use crate::error::{Context as _, Error, Result};
use crate::sys::{fs, retry};
use crate::tarball::{BLOCK, Compression, Refusal, decompress_within, is_header, refusal_of};

/// Bytes that are looked at to find out what a stream is.
const SNIFF_LIMIT: u64 = 4 << 20;

/// An archive, by how it can be read.
pub enum Input {
    /// A directory, which must be an OCI layout.
    Directory(PathBuf),
    /// A plain tar in a file.
    Seekable(File),
    /// Anything else: bytes in the order in which they come.
    Stream(Stream),
}

/// A plain tar that can be read once.
pub struct Stream {
    /// The tar, from its first byte.
    pub tar: Box<dyn Read>,
    /// Whether its first member is one of an archive of images.
    pub is_archive: bool,
    /// Ends a read of it that waits for more to come.
    pub stop: Stop,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(dir) => f.debug_tuple("Directory").field(dir).finish(),
            Self::Seekable(file) => f.debug_tuple("Seekable").field(file).finish(),
            Self::Stream(stream) => stream.fmt(f),
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("is_archive", &self.is_archive).finish_non_exhaustive()
    }
}

/// Standard input, which nobody types an archive to.
///
/// # Errors
/// [`Error::Usage`] when it is a terminal.
pub fn standard_input() -> Result<File> {
    // A copy of the descriptor: a file on standard input can be seeked in as any other.
    use std::os::fd::AsFd as _;
    let file = File::from(io::stdin().as_fd().try_clone_to_owned().doing("read", "-")?);
    if rustix::termios::isatty(&file) {
        return Err(Error::Usage("standard input is a terminal: name a file, or redirect standard input".into()));
    }
    Ok(file)
}

impl Input {
    /// Opens `source`; `-` is standard input. `ratio` is how many times as large as it came it may become.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a file; [`Error::BadArchive`] when it is empty or no tar.
    pub fn open(source: &Path, ratio: u64) -> Result<Self> {
        let archive = source.display().to_string();
        let file = if source == Path::new("-") {
            standard_input()?
        } else {
            match File::open(source) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::NotFound { kind: "file", name: archive });
                }
                opened => opened.doing("open", source)?,
            }
        };
        let kind = fs::metadata_of(&file).doing("read", source)?.file_type();
        if kind.is_dir() {
            let index = source.join("index.json");
            if fs::absent(fs::metadata(&index)).doing("read", &index)?.is_none() {
                return Err(Error::bad_archive(archive, "is a directory, but no OCI layout: it has no index.json"));
            }
            return Ok(Self::Directory(source.to_owned()));
        }
        if kind.is_file() && is_at_start(&file).doing("read", source)? && is_plain(&file).doing("read", source)? {
            return Ok(Self::Seekable(file));
        }
        let incoming = Incoming::new(file);
        let stop = incoming.stop();
        let mut input = Self::stream(&archive, Box::new(incoming), ratio)?;
        if let Self::Stream(stream) = &mut input {
            stream.stop = stop;
        }
        Ok(input)
    }

    /// Finds out what comes.
    ///
    /// # Errors
    /// As [`Input::open`].
    pub fn stream(archive: &str, source: Box<dyn Read + Send>, ratio: u64) -> Result<Self> {
        let (compression, tar) =
            decompress_within(source, ratio).map_err(|error| read_failure(archive, None, error))?;
        let mut sniffed = Sniffed { source: tar, seen: Vec::new(), failed: false };
        let first = match first_member(&mut sniffed) {
            // error: what is wrong with a tar that is no archive of images, a layer's own reader says better
            Err(_) if !sniffed.failed => First::Nothing,
            first => first.map_err(|error| read_failure(archive, None, error))?,
        };
        let is_archive = match first {
            First::Member(name) => is_archive_member(&name),
            // A tar of nothing is a layer of nothing.
            First::Nothing => false,
            First::NoTar if sniffed.seen.is_empty() && compression == Compression::None => {
                return Err(Error::bad_archive(archive, "is empty"));
            }
            First::NoTar => return Err(Error::bad_archive(archive, "is neither an image archive nor a tar")),
        };
        let tar = Box::new(Cursor::new(sniffed.seen).chain(sniffed.source));
        Ok(Self::Stream(Stream { tar, is_archive, stop: Stop::default() }))
    }
}

/// The error for a source that could not be read: its end, or damage that a decoder or the tar's reader has
/// found, is the archive's fault; anything else is the system's.
#[must_use]
pub fn read_failure(archive: &str, member: Option<&str>, error: io::Error) -> Error {
    let bad = |why: String| Error::BadArchive { archive: archive.to_owned(), entry: member.map(str::to_owned), why };
    if let Some(Refusal { why, limit }) = refusal_of(&error) {
        let hint = limit.map(|limit| format!(" (`--limit {limit}=` allows more)"));
        return bad(format!("{why}{}", hint.unwrap_or_default()));
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => bad("is cut short".into()),
        _ if error.raw_os_error().is_none() => bad(format!("is damaged: {error}")),
        _ => Error::Io { doing: "read", path: archive.into(), source: error },
    }
}

fn is_at_start(mut file: &File) -> io::Result<bool> {
    Ok(file.stream_position()? == 0)
}

/// Whether the file begins with a tar's header.
fn is_plain(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut block = [0; BLOCK];
    match file.read_exact_at(&mut block, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| is_header(&block)),
    }
}

struct Sniffed {
    source: Box<dyn Read>,
    seen: Vec<u8>,
    /// Whether the source failed, and not who reads it.
    failed: bool,
}

impl Read for Sniffed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.seen.len() as u64 >= SNIFF_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its first headers do not end"));
        }
        let read = retry(|| self.source.read(buffer)).inspect_err(|_| self.failed = true)?;
        self.seen.extend_from_slice(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

enum First {
    Member(String),
    Nothing,
    NoTar,
}

/// The name of the first member that has one: `.` is none.
fn first_member(source: &mut Sniffed) -> io::Result<First> {
    let mut start = Vec::new();
    source.by_ref().take(BLOCK as u64).read_to_end(&mut start)?;
    let Ok(block) = <[u8; BLOCK]>::try_from(start) else { return Ok(First::NoTar) };
    if block == [0; BLOCK] {
        return Ok(First::Nothing);
    }
    if !is_header(&block) {
        return Ok(First::NoTar);
    }
    let mut tar = tar::Archive::new(Cursor::new(block).chain(source));
    for entry in tar.entries()? {
        let name = normal_name(&entry?.path_bytes());
        if !name.is_empty() {
            return Ok(First::Member(name));
        }
    }
    Ok(First::Nothing)
}
