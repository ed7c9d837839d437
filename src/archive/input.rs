//! What the user named, opened and looked at.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _};
use std::path::{Path, PathBuf};

use super::cancellable::{CancellableReader, Stop};
use super::members::{NameTells, member};
use super::replay::Replay;
use crate::error::{Context as _, Error, Result};
use crate::sys::fs;
use crate::tarball::{BLOCK, Compression, Refusal, decompress_within, is_header, refusal_of};

/// Bytes that are looked at to find out what a stream is.
const SNIFF_LIMIT: u64 = 3 << 20;

/// An archive, by how it can be read.
pub enum Input {
    /// A directory, which must be an OCI layout.
    Directory(PathBuf),
    /// A plain tar in a file.
    Seekable(File),
    /// Anything else: bytes in the order in which they come.
    Stream(Stream),
}

/// A plain tar that comes from its beginning to its end.
#[derive(Debug)]
pub struct Stream {
    /// The tar, from its first byte.
    pub tar: Replay,
    /// Whether its first member is one of an archive of images.
    pub is_archive: bool,
    /// Ends a read of it that waits for more to come.
    pub stop: Stop,
    /// Where it comes from, if that can be read again: a file, and where in it.
    again: Option<(File, u64)>,
}

impl Stream {
    /// Whether it comes from a file, which can be read again.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        self.again.is_some()
    }

    /// Reads the tar from its first byte again; `None` when too much of it has come. `ratio` is how many times as large
    /// as it came it may become.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn begin_again(self, archive: &str, ratio: u64) -> Result<Option<Replay>> {
        if self.tar.can_begin_again() {
            return Ok(Some(self.tar.for_the_last_time()));
        }
        let Some((mut file, start)) = self.again else { return Ok(None) };
        file.seek(io::SeekFrom::Start(start)).doing("read", archive)?;
        let source = Box::new(CancellableReader::new(file));
        let (_, tar) = decompress_within(source, ratio).map_err(|error| read_failure(archive, None, error))?;
        Ok(Some(Replay::new(tar).for_the_last_time()))
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(dir) => f.debug_tuple("Directory").field(dir).finish(),
            Self::Seekable(file) => f.debug_tuple("Seekable").field(file).finish(),
            Self::Stream(stream) => f.debug_tuple("Stream").field(stream).finish(),
        }
    }
}

/// Opens standard input as an archive; refuses a terminal.
///
/// # Errors
/// [`Error::Usage`] when it is a terminal.
pub fn standard_input() -> Result<File> {
    // A copy of the descriptor: a file on standard input can be seeked in as any other.
    use std::os::fd::AsFd as _;
    let file = File::from(io::stdin().as_fd().try_clone_to_owned().doing("copy the descriptor of", "-")?);
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
        let again = if kind.is_file() {
            let start = (&file).stream_position().doing("read", source)?;
            Some((file.try_clone().doing("read", source)?, start))
        } else {
            None
        };
        let incoming = CancellableReader::new(file);
        let stop = incoming.stop();
        let stream = Self::stream(&archive, Box::new(incoming), ratio)?;
        Ok(Self::Stream(Stream { stop, again, ..stream }))
    }

    /// Finds out what comes.
    fn stream(archive: &str, source: Box<dyn Read + Send>, ratio: u64) -> Result<Stream> {
        let (compression, tar) =
            decompress_within(source, ratio).map_err(|error| read_failure(archive, None, error))?;
        let mut tar = Replay::new(tar);
        let first = match first_member(&mut tar) {
            // error: what is wrong with a tar that is no archive of images, a layer's own reader says better
            Err(_) if !tar.has_failed() => First::Nothing,
            first => first.map_err(|error| read_failure(archive, None, tar.failure().unwrap_or(error)))?,
        };
        let is_archive = match first {
            First::Member(name) => NameTells::of(&name) == NameTells::Image,
            // A tar of nothing is a layer of nothing.
            First::Nothing => false,
            First::NoTar if tar.is_empty() && compression == Compression::None => {
                return Err(Error::bad_archive(archive, "is empty"));
            }
            First::NoTar => return Err(Error::bad_archive(archive, "is neither an image archive nor a tar")),
        };
        tar.begin_again();
        Ok(Stream { tar, is_archive, stop: Stop::default(), again: None })
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

enum First {
    Member(String),
    Nothing,
    NoTar,
}

/// The name of the first member that tells something.
fn first_member(source: &mut Replay) -> io::Result<First> {
    let mut start = Vec::new();
    source.by_ref().take(BLOCK as u64).read_to_end(&mut start)?;
    let Ok(block) = <[u8; BLOCK]>::try_from(start) else { return Ok(First::NoTar) };
    if block == [0; BLOCK] {
        return Ok(First::Nothing);
    }
    if !is_header(&block) {
        return Ok(First::NoTar);
    }
    let source = source.take(SNIFF_LIMIT);
    let mut tar = tar::Archive::new(Cursor::new(block).chain(source));
    for entry in tar.entries()? {
        let mut entry = entry?;
        let (name, _) = member(&mut entry);
        if !entry.header().entry_type().is_pax_global_extensions() && NameTells::of(&name) != NameTells::Nothing {
            return Ok(First::Member(name));
        }
    }
    Ok(First::Nothing)
}
