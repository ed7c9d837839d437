//! A layer's tar, given back bit for bit and proven while it is written.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use crate::error::{Context as _, Error, Result};
use crate::progress::Task;
use crate::store::{LayerRecord, Store};
use crate::tarball::{Failure, assemble};

/// Writes no more bytes than were announced, and keeps the error of the output apart: it is no damage of the layer.
struct Sink<'a> {
    out: &'a mut dyn Write,
    task: &'a dyn Task,
    left: u64,
    failure: Option<io::Error>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        self.left = self.left.checked_sub(length).ok_or(io::ErrorKind::InvalidData)?;
        match self.out.write_all(bytes) {
            Ok(()) => {
                self.task.advance(length);
                Ok(bytes.len())
            }
            Err(error) => {
                self.failure = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the tar of a layer to `out`, which is called `name` in messages. Exactly as many bytes as the record says
/// are written, or it fails.
///
/// # Errors
/// [`Error::Corrupt`] when the layer is not what it was, which may only be known when all of it has been written.
pub(crate) fn write_layer_tar(
    store: &Store,
    layer: &LayerRecord,
    out: &mut dyn Write,
    name: &Path,
    task: &dyn Task,
) -> Result<()> {
    let damaged = |why: String| Error::corrupt(format!("layer {}", layer.diff_id), why);
    let mut split = store.open_split(layer.diff_id)?;
    let dir = store.diff_dir(&layer.diff_id.hex());
    let files = match File::open(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(format!("its files are missing from {}", dir.display())));
        }
        opened => opened.doing("open", &dir)?,
    };
    let mut sink = Sink { out, task, left: layer.size, failure: None };
    let result = assemble(&mut split, files.as_fd(), &mut sink);
    if let Some(error) = sink.failure {
        return Err(error).doing("write", name);
    }
    let digest = match result {
        Ok(digest) => digest,
        Err(Failure::Write { source, .. }) if source.kind() == io::ErrorKind::InvalidData => {
            return Err(damaged("its tar comes out longer than it was".into()));
        }
        Err(Failure::Write { doing, path, source }) => return Err(Error::Io { doing, path: dir.join(path), source }),
        Err(Failure::Read(error)) => return Err(error).doing("read", format!("the split of layer {}", layer.diff_id)),
        Err(Failure::Bad { entry: Some(entry), why, .. }) => return Err(damaged(format!("{entry}: {why}"))),
        Err(Failure::Bad { entry: None, why, .. }) => return Err(damaged(format!("its split {why}"))),
    };
    if sink.left != 0 {
        return Err(damaged("its tar comes out shorter than it was".into()));
    }
    if digest != layer.diff_id.0 {
        return Err(damaged(format!("its tar comes out with the digest {digest}")));
    }
    Ok(())
}
