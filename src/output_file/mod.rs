//! A file that a command writes: it appears whole, or not at all.

pub(crate) mod temporary;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};
use crate::sys::{call, fs};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use temporary::{Temporary, flush_name, link};

const BUFFER: usize = 256 << 10;

/// Where a command writes its data to.
pub(crate) struct OutputFile {
    /// As the user named it, for messages.
    name: PathBuf,
    out: BufWriter<Place>,
}

enum Place {
    /// Standard output, or a device or pipe: what was written is gone.
    Open(File),
    /// A file without a name. It goes with this process, however that ends.
    Nameless { file: File, target: PathBuf },
    /// Where the file system knows no files without names.
    Named { file: Temporary, target: PathBuf },
}

impl OutputFile {
    /// Opens `path`, or standard output for `-`. What is at `path` stays until [`OutputFile::commit`].
    ///
    /// # Errors
    /// [`Error::Usage`] when it is a terminal; when no file can be made there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (name, place) = if path == Path::new("-") {
            let stdout = io::stdout().as_fd().try_clone_to_owned().doing("write to", "standard output")?;
            (PathBuf::from("standard output"), Place::Open(stdout.into()))
        } else {
            (path.to_owned(), place(path)?)
        };
        if let Place::Open(file) = &place
            && rustix::termios::isatty(file)
        {
            return Err(Error::Usage(format!(
                "{} is a terminal: name a file with -o, or redirect standard output",
                name.display()
            )));
        }
        Ok(Self { name, out: BufWriter::with_capacity(BUFFER, place) })
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// The directory that the file will be in, if it will be in one.
    pub(crate) fn dir(&self) -> Option<PathBuf> {
        match self.out.get_ref() {
            Place::Open(_) => None,
            Place::Nameless { target, .. } | Place::Named { target, .. } => Some(directory_of(target)),
        }
    }

    /// Puts the file into its place, on the disk.
    ///
    /// # Errors
    /// When the disk refuses; then what was at its place still is.
    pub(crate) fn commit(self) -> Result<()> {
        let Self { name, out } = self;
        let place = out.into_inner().map_err(io::IntoInnerError::into_error).doing("write", &name)?;
        match place {
            Place::Open(_) => Ok(()),
            Place::Nameless { file, target } => {
                file.sync_data().doing("write", &name)?;
                match link(&file, &target) {
                    // No call replaces a name by a nameless file: another name comes first.
                    Err(Errno::EXIST) => {
                        let named = Temporary::named(&file, &target).doing("put into place", &name)?;
                        named.rename(&target).doing("put into place", &name)?;
                    }
                    linked => linked.doing("put into place", &name)?,
                }
                flush_name(&file, &target).doing("flush the directory of", &name)
            }
            Place::Named { file, target } => {
                file.file.sync_data().doing("write", &name)?;
                let file = file.rename(&target).doing("put into place", &name)?;
                flush_name(&file, &target).doing("flush the directory of", &name)
            }
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Write for Place {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Open(file) | Self::Nameless { file, .. } => file.write(bytes),
            Self::Named { file, .. } => file.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The place of a new file. Only a regular file can be replaced: `/dev/null`, `/dev/fd/5` or a named pipe is written to.
fn place(path: &Path) -> Result<Place> {
    match fs::absent(fs::metadata(path)).doing("open", path)? {
        Some(metadata) if metadata.is_dir() => {
            return Err(io::Error::from_raw_os_error(libc::EISDIR)).doing("write", path);
        }
        Some(metadata) if !metadata.is_file() => {
            return OpenOptions::new().write(true).open(path).doing("open", path).map(Place::Open);
        }
        _ => {}
    }
    // A link's target is replaced, not the link; one that leads nowhere is.
    let target = fs::absent(fs::canonicalize(path)).doing("open", path)?.unwrap_or_else(|| path.to_owned());
    let dir = directory_of(&target);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match call::open(&dir, flags, Mode::from_raw_mode(0o666)) {
        Ok(file) => Ok(Place::Nameless { file: file.into(), target }),
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            Ok(Place::Named { file: Temporary::file(&target).doing("create", path)?, target })
        }
        Err(error) => Err(error).doing("create", path),
    }
}

fn directory_of(file: &Path) -> PathBuf {
    file.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new(".")).to_owned()
}
