//! What the user names as a layer: a tar in a file or on standard input, or a directory.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use crate::archive::{Algorithm, CancellableReader, Stop, read_failure, standard_input};
use crate::error::{Context as _, Error, Result};
use crate::id::{DiffId, Digest, Digester};
use crate::import::{self, Archive};
use crate::index::Time;
use crate::pack::dir::DirTar;
use crate::pack::staged::packed_layer;
use crate::progress::{Progress, Task};
use crate::store::{Lease, StagedLayer, Store};
use crate::sys::fs;
use crate::tarball::{Limits, Modes, looks_like_layer};

/// Bytes by which a tar is known.
const SNIFF: usize = 512;
const BUFFER: usize = 1 << 18;

/// A layer, new or not.
pub(super) enum Layer {
    /// The store has it, and keeps it as long as this is there.
    Kept(Lease),
    /// It was unpacked.
    Staged(StagedLayer),
}

impl Layer {
    pub(super) const fn diff_id(&self) -> DiffId {
        match self {
            Self::Kept(lease) => lease.record.diff_id,
            Self::Staged(layer) => layer.record().diff_id,
        }
    }
}

/// What was named, opened.
pub(super) enum Source {
    Directory(PathBuf),
    /// A file that can be read twice.
    File(PathBuf, File),
    Stream(PathBuf, File),
}

impl Source {
    /// Opens it; `-` is standard input.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::BadArchive`] when it is seen at once that it is no layer.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stream(path.to_owned(), standard_input()?));
        }
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound { kind: "file", name: path.display().to_string() });
            }
            opened => opened.doing("open", path)?,
        };
        let kind = fs::metadata_of(&file).doing("read", path)?.file_type();
        if kind.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        if !kind.is_file() {
            return Ok(Self::Stream(path.to_owned(), file));
        }
        let mut start = Vec::new();
        (&mut file).take(SNIFF as u64).read_to_end(&mut start).doing("read", path)?;
        check_start(path, &start)?;
        file.rewind().doing("read", path)?;
        Ok(Self::File(path.to_owned(), file))
    }

    /// The layer that it is: unpacked in `dir`, which is there only then, unless the store has it.
    ///
    /// # Errors
    /// [`Error::BadArchive`] for what is no layer; what keeps it from being read or written.
    pub(super) fn layer(
        self,
        store: &Store,
        dir: PathBuf,
        latest: Option<Time>,
        limits: &Limits,
        progress: &dyn Progress,
    ) -> Result<Layer> {
        match self {
            Self::Directory(path) => directory(store, &path, dir, latest, progress),
            Self::Stream(path, file) => {
                let mut file = CancellableReader::new(file);
                let stop = file.stop();
                let task = progress.start(&path.display().to_string(), None);
                let mut start = Vec::new();
                Read::by_ref(&mut file)
                    .take(SNIFF as u64)
                    .read_to_end(&mut start)
                    .map_err(|error| failed(&path, error))?;
                check_start(&path, &start)?;
                unpacked(store, &path, dir, limits, Box::new(io::Cursor::new(start).chain(file)), stop, &*task)
            }
            Self::File(path, mut file) => {
                let total = fs::metadata_of(&file).doing("read", &path)?.len();
                let task = progress.start(&path.display().to_string(), Some(total));
                // A plain tar's digest is the layer's name, and a compressed one is known if it came before.
                let blob = digest(&mut file).map_err(|error| failed(&path, error))?;
                if let Some(lease) = store.lease_blob(blob)? {
                    task.finish("exists");
                    return Ok(Layer::Kept(lease));
                }
                file.rewind().doing("read", &path)?;
                unpacked(store, &path, dir, limits, Box::new(file), Stop::default(), &*task)
            }
        }
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    read_failure(&path.display().to_string(), None, error)
}

fn check_start(path: &Path, start: &[u8]) -> Result<()> {
    if start.is_empty() {
        return Err(Error::bad_archive(path.display().to_string(), "is empty"));
    }
    if !looks_like_layer(start) {
        return Err(Error::bad_archive(path.display().to_string(), "is neither a tar nor a directory"));
    }
    Ok(())
}

fn unpacked(
    store: &Store,
    path: &Path,
    dir: PathBuf,
    limits: &Limits,
    source: Box<dyn Read>,
    stop: Stop,
    task: &dyn Task,
) -> Result<Layer> {
    let archive = Archive {
        name: path.display().to_string(),
        member: None,
        is_durable: store.is_durable(),
        modes: Modes::of(store.has_layer_modes()),
        stop,
    };
    let layer = import::unpack_layer(&archive, limits, dir, Algorithm::Sha256, source, task)?.staged;
    task.finish("done");
    Ok(Layer::Staged(layer))
}

fn directory(store: &Store, path: &Path, dir: PathBuf, latest: Option<Time>, progress: &dyn Progress) -> Result<Layer> {
    let name = path.display().to_string();
    let task = progress.start(&name, None);
    let tar = DirTar::new(path, latest)?;
    // To read it once more costs less than to write what is not needed.
    let mut hashed = Hashed(Digester::new());
    tar.write(&mut hashed)?;
    if let Some(lease) = store.lease(DiffId(hashed.0.finish()))? {
        task.finish("exists");
        return Ok(Layer::Kept(lease));
    }
    let write = |out: &mut dyn Write| tar.write(&mut Watched { out, task: &*task }).map(|()| task);
    let (layer, task) = packed_layer(dir, &name, write)?;
    task.finish("done");
    Ok(Layer::Staged(layer))
}

/// The digest of all bytes of a file.
fn digest(file: &mut File) -> io::Result<Digest> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digester.finish()),
            Ok(read) => digester.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes a tar for its digest only.
struct Hashed(Digester);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells how far writing has come.
struct Watched<'a> {
    out: &'a mut dyn Write,
    task: &'a dyn Task,
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.task.advance(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
