//! One layer: from the bytes of its blob to files, index and split in the staging directory.

use std::fs::File;
use std::io::{BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::archive::{Algorithm, BlobDigest, HashingReader, Seen, Stop};
use crate::error::{Context as _, Error, Result};
use crate::import::Import;
use crate::import::limits::with_hint;
use crate::progress::Task;
use crate::store::{LayerRecord, StagedLayer};
use crate::sys::fs;
use crate::tarball::{Compression, Failure, Limits, Modes, UnpackOptions, decompress_within, unpack_as};

/// Tells how far reading has come.
struct Watched<'a, R> {
    source: R,
    task: &'a dyn Task,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.task.advance(read as u64);
        Ok(read)
    }
}

/// A layer that was unpacked, and what it came as.
pub(crate) struct Unpacked {
    pub(crate) staged: StagedLayer,
    pub(super) blob: BlobDigest,
    pub(super) blob_size: u64,
}

/// Whose layer it is, for messages.
pub(crate) struct Archive {
    /// The archive as the user named it.
    pub(crate) name: String,
    /// Where in it the layer stands, if it is not the whole of it.
    pub(crate) member: Option<String>,
    /// Whether the import waits until the layer is on the disk before it publishes it.
    pub(crate) is_durable: bool,
    /// Which modes the layer's files have on disk.
    pub(crate) modes: Modes,
    /// Ends the reading of what it is in, if that may keep us waiting.
    pub(crate) stop: Stop,
}

impl Import<'_> {
    /// Where the layer of this number is made.
    pub(super) fn layer_dir(&self, number: usize) -> PathBuf {
        self.staging.dir().join(format!("layer-{}-{number}", self.round.load(Ordering::Relaxed)))
    }

    /// Unpacks the layer that `source` is. `number` is its own among this import's; `member` is where it
    /// stands in the archive, if it is not the whole of it; `algorithm` is that of its blob's digest.
    pub(super) fn unpack(
        &self,
        number: usize,
        member: Option<&str>,
        algorithm: Algorithm,
        source: Box<dyn Read + '_>,
        task: &dyn Task,
    ) -> Result<Unpacked> {
        let dir = self.layer_dir(number);
        let archive = Archive {
            name: self.archive.clone(),
            member: member.map(str::to_owned),
            is_durable: self.store.is_durable(),
            modes: Modes::of(self.store.has_layer_modes()),
            // A member that is no layer may be one that no image has: then the rest is read all the same.
            stop: if member.is_none() { self.stop.clone() } else { Stop::default() },
        };
        unpack_layer(&archive, &self.options.limits.layers, dir, algorithm, source, task)
    }

    pub(super) fn read_failed(&self, member: Option<&str>, error: std::io::Error) -> Error {
        crate::archive::read_failure(&self.archive, member, error)
    }
}

/// Unpacks a layer into the directory `dir`.
///
/// # Errors
/// [`Error::BadArchive`] when it is none; what keeps it from being read or written.
pub(crate) fn unpack_layer(
    archive: &Archive,
    limits: &Limits,
    dir: PathBuf,
    algorithm: Algorithm,
    source: Box<dyn Read + '_>,
    task: &dyn Task,
) -> Result<Unpacked> {
    use std::os::fd::AsFd as _;
    let read_failed = |error| archive.read_failed(error);
    let diff = dir.join(StagedLayer::DIFF);
    fs::create_dir_all(&diff).doing("create", &diff)?;
    let into = File::open(&diff).doing("open", &diff)?;
    let path = dir.join(StagedLayer::SPLIT);
    let mut split = BufWriter::new(fs::create(&path).doing("create", &path)?);

    let (source, seen) = HashingReader::new(Watched { source, task }, algorithm);
    let (compression, mut tar) = decompress_within(Box::new(source), limits.ratio).map_err(read_failed)?;
    let is_diff_id = compression == Compression::None && algorithm == Algorithm::Sha256;
    if is_diff_id {
        Seen::stop(&seen);
    }
    let stop = || archive.stop.now();
    let is_dear = compression != Compression::None;
    let options = UnpackOptions {
        is_dear,
        write_back: archive.is_durable,
        modes: archive.modes,
        failed: &stop,
        ..UnpackOptions::new(limits)
    };
    let unpacked = unpack_as(&options, &mut *tar, into.as_fd(), &mut split);
    let unpacked = unpacked.map_err(|failure| archive.failed(&diff, failure))?;
    archive.is_not_nothing(unpacked.size)?;
    // A blob's digest is that of all its bytes, also of those that no decoder asked for.
    std::io::copy(&mut tar, &mut std::io::sink()).map_err(read_failed)?;
    drop(tar);
    split.flush().doing("write", &path)?;

    let (blob, blob_size) = match is_diff_id {
        true => (unpacked.diff_id.0.into(), unpacked.size),
        false => Seen::finish(&seen),
    };
    let record = LayerRecord {
        diff_id: unpacked.diff_id,
        size: unpacked.size,
        content_bytes: unpacked.content_bytes,
        entries: unpacked.entries,
        blob: blob.sha256().filter(|_| compression != Compression::None),
        created: 0,
    };
    Ok(Unpacked { staged: StagedLayer::new(dir, record, &unpacked.index)?, blob, blob_size })
}

impl Archive {
    pub(crate) fn failed(&self, diff: &Path, failure: Failure) -> Error {
        match failure {
            Failure::Bad { entry, why, limit } => {
                let names: Vec<&str> = self.member.as_deref().into_iter().chain(entry.as_deref()).collect();
                let entry = Some(names.join(": ")).filter(|names| !names.is_empty());
                let why = with_hint(why, limit);
                Error::BadArchive { archive: self.name.clone(), entry, why }
            }
            Failure::Read(error) => self.read_failed(error),
            // By its whole path, which says which disk it is.
            Failure::Write { doing, path, source } => Error::Io { doing, path: diff.join(path), source },
        }
    }

    /// That what was named by itself has any bytes. A layer of an image may have none.
    pub(crate) fn is_not_nothing(&self, size: u64) -> Result<()> {
        match (size, &self.member) {
            (0, None) => Err(Error::bad_archive(self.name.clone(), "is empty")),
            _ => Ok(()),
        }
    }

    pub(crate) fn read_failed(&self, error: std::io::Error) -> Error {
        crate::archive::read_failure(&self.name, self.member.as_deref(), error)
    }
}
