//! A layer that is made here: its tar is unpacked while it is written, and so never on the disk. As any layer, it is
//! named by its tar.

use std::fs::File;
use std::io::{BufWriter, Read, Write, pipe};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread::Builder;

use crate::error::{Context as _, Error, Result};
use crate::store::{LayerRecord, StagedLayer};
use crate::sys::fs;
use crate::tarball::{Failure, Limits, Unpacked, unpack};

/// Bytes that are written to a pipe at once.
const BUFFER: usize = 1 << 18;

/// Makes a layer in the directory `dir` of what `write` writes, which is called `what` in messages.
///
/// # Errors
/// What `write` answers; what keeps the tar from being unpacked.
pub(crate) fn packed_layer<T: Send>(
    dir: PathBuf,
    what: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<T> + Send,
) -> Result<(StagedLayer, T)> {
    let (reader, writer) = pipe().doing("make", "a pipe")?;
    let (written, unpacked) = std::thread::scope(|scope| {
        let writing = move || {
            let mut writer = BufWriter::with_capacity(BUFFER, writer);
            let written = write(&mut writer)?;
            writer.flush().doing("write", "a layer's tar")?;
            Ok::<_, Error>(written)
        };
        let writing = Builder::new().spawn_scoped(scope, writing).doing("start", "a thread")?;
        // The call drops the reader, so that the writing thread does not wait for a reader that has given up.
        let unpacked = unpacked_layer(dir, what, reader);
        Ok::<_, Error>((writing.join(), unpacked))
    })?;
    match (written, unpacked) {
        (Ok(Ok(written)), Ok(layer)) => Ok((layer, written)),
        // The writer's own failure cuts the tar short; any other breaks its pipe.
        (Ok(Err(error)), _) if !is_broken_pipe(&error) => Err(error),
        (_, Err(error)) | (Ok(Err(error)), _) => Err(error),
        (Err(_), _) => Err(Error::Unsupported(format!("{what} could not be packed"))),
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Makes a layer in the directory `dir` of a tar, which comes from us and is called `what` in messages.
///
/// # Errors
/// [`Error::Io`] when the disk refuses; what is wrong with the tar.
pub(crate) fn unpacked_layer(dir: PathBuf, what: &str, mut tar: impl Read) -> Result<StagedLayer> {
    let diff = dir.join(StagedLayer::DIFF);
    fs::create_dir_all(&diff).doing("create", &diff)?;
    let into = File::open(&diff).doing("open", &diff)?;
    let path = dir.join(StagedLayer::SPLIT);
    let mut split = BufWriter::new(fs::create(&path).doing("create", &path)?);
    let unpacked = unpack(&mut tar, into.as_fd(), &mut split, &Limits::of_own());
    let Unpacked { diff_id, size, content_bytes, entries, index } =
        unpacked.map_err(|failure| failed(&diff, what, failure))?;
    split.flush().doing("write", &path)?;
    let record = LayerRecord { diff_id, size, content_bytes, entries, blob: None, created: 0 };
    StagedLayer::new(dir, record, &index)
}

fn failed(diff: &Path, what: &str, failure: Failure) -> Error {
    match failure {
        Failure::Write { doing, path, source } => Error::Io { doing, path: diff.join(path), source },
        failure => Error::Unsupported(format!("{what} cannot be packed: {failure}")),
    }
}
