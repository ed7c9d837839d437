//! What a layer should be: its tar, unpacked anew beside it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use crate::archive::{Algorithm, HashingReader, Seen};
use crate::error::{Context as _, Error, Result, readable};
use crate::id::{DiffId, Digest};
use crate::index::Index;
use crate::progress::Progress;
use crate::store::{LayerRecord, Staging, Store};
use crate::sys::fs;
use crate::tarball::{
    Compression, Failure, Limits, Modes, PathFilter, UnpackOptions, assemble, assemble_headers, decompress_within,
    unpack_as,
};
use crate::verify::layer::{Checked, open_dir};
use crate::verify::source::{Source, through_pipe};
use rustix::io::Errno;

/// An unpacked layer.
pub(super) struct Reference {
    /// Where: with `diff` and `split` in it.
    pub(super) dir: PathBuf,
    pub(super) index: Index,
    /// Whether it came from its very tar.
    pub(super) is_proven: bool,
    /// Whether it came from elsewhere, so that its split is another file.
    pub(super) is_foreign: bool,
    pub(super) size: u64,
    pub(super) content_bytes: u64,
    pub(super) entries: u64,
    /// The digest of what it came as, when that was compressed.
    pub(super) blob: Option<Digest>,
    /// The files whose content it has.
    pub(super) wanted: PathFilter,
}

/// Makes references.
pub(super) struct Unpacking<'a> {
    pub(super) store: &'a Store,
    pub(super) staging: &'a Staging,
    pub(super) layer: DiffId,
    /// What the store says of the layer, if it does.
    pub(super) record: Option<&'a LayerRecord>,
    pub(super) progress: &'a dyn Progress,
}

impl Unpacking<'_> {
    /// From the layer's own split and files. When these do not give the tar, then without any content, and only if
    /// index, split and record all say the same: damaged ones do not agree.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn own(&self, checked: &Checked, wanted: &PathFilter) -> Result<Option<Reference>> {
        let dir = match open_dir(&self.store.diff_dir(&self.layer.hex())) {
            Ok(Some(dir)) if !checked.has_bad_split => dir,
            Ok(_) | Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error).doing("open", self.store.diff_dir(&self.layer.hex())),
        };
        let size = checked.record.as_ref().map(|record| record.size);
        let Some(split) = readable(self.store.open_split(self.layer))? else { return Ok(None) };
        let is_proven = checked.is_proven;
        let write = move |out: &mut dyn io::Write| {
            let (mut split, dir) = (BufReader::new(split), dir.as_fd());
            if is_proven {
                assemble(&mut split, dir, out).map(drop)
            } else {
                assemble_headers(&mut split, dir, out, size.unwrap_or_default()).map(drop)
            }
        };
        // Where the tar is right all content is, but for what is in holes.
        let wanted =
            if is_proven && *wanted != PathFilter::Everything { wanted.clone() } else { PathFilter::nothing() };
        let unpacked = through_pipe(write, |mut tar| self.unpack("own", &mut tar, wanted, &Limits::of_own()))?;
        let Ok(reference) = unpacked? else { return Ok(None) };
        let size = |record: &LayerRecord| (record.size, record.content_bytes, record.entries);
        let agrees = || {
            checked.record.as_ref().map(size) == Some((reference.size, reference.content_bytes, reference.entries))
                && checked.index.as_ref().is_some_and(|index| index.has_the_tree_of(&reference.index))
        };
        Ok(if reference.is_proven || (!is_proven && agrees()) { Some(reference) } else { None })
    }

    /// From the first source that has it. What stands against the others is added to `against`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn foreign(
        &self,
        sources: &[Source],
        wanted: &PathFilter,
        against: &mut Vec<String>,
    ) -> Result<Option<Reference>> {
        for (number, source) in sources.iter().enumerate() {
            // Several layers may be unpacked in one staging.
            let place = format!("from-{number}-{}", self.layer.hex());
            match source.layer(self.layer, |blob| self.unpack_foreign(&place, blob, wanted.clone())) {
                Ok(None) => {}
                Err(error) => against.push(error.to_string()),
                Ok(Some(Err(error))) if !is_of_the_disk(&error) => against.push(format!("{}: {error}", source.name())),
                Ok(Some(unpacked)) => match unpacked? {
                    Ok(reference) if reference.is_proven => return Ok(Some(reference)),
                    Ok(_) => against.push(format!("{}: has something else for it", source.name())),
                    Err(why) => against.push(format!("{}: {why}", source.name())),
                },
            }
        }
        Ok(None)
    }

    /// Unpacks an untrusted blob, perhaps compressed.
    fn unpack_foreign(
        &self,
        place: &str,
        blob: Box<dyn Read + '_>,
        wanted: PathFilter,
    ) -> Result<Result<Reference, String>> {
        let known = |record: &LayerRecord| (record.size.saturating_add(record.content_bytes), record.entries);
        let (bytes, entries) = self.record.map(known).unwrap_or_default();
        let limits = Limits::of_copy(bytes, entries);
        let (blob, seen) = HashingReader::new(blob, Algorithm::Sha256);
        let (compression, mut tar) = match decompress_within(Box::new(blob), limits.ratio) {
            Ok(decompressed) => decompressed,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let reference = match self.unpack(place, &mut *tar, wanted, &limits)? {
            Ok(reference) => reference,
            Err(why) => return Ok(Err(why)),
        };
        drop(tar);
        let blob = Seen::finish(&seen).0.sha256().filter(|_| compression != Compression::None);
        Ok(Ok(Reference { is_foreign: true, blob, ..reference }))
    }

    /// Gives what is wrong with `tar`, if something is.
    fn unpack(
        &self,
        place: &str,
        mut tar: &mut dyn Read,
        wanted: PathFilter,
        limits: &Limits,
    ) -> Result<Result<Reference, String>> {
        let dir = self.staging.dir().join(place);
        let (diff, path) = (dir.join("diff"), dir.join("split"));
        fs::create_dir_all(&diff).doing("create", &diff)?;
        let into = File::open(&diff).doing("open", &diff)?;
        let mut split = BufWriter::new(fs::create(&path).doing("create", &path)?);
        let task = self.progress.start(&self.layer.hex(), None);
        let modes = Modes::of(self.store.has_layer_modes());
        let options = UnpackOptions { wanted: &wanted, is_dear: true, modes, ..UnpackOptions::new(limits) };
        let unpacked = match unpack_as(&options, tar, into.as_fd(), &mut split) {
            Err(Failure::Write { doing, path, source }) => {
                return Err(Error::Io { doing, path: diff.join(path), source });
            }
            Err(bad) => return Ok(Err(bad.to_string())),
            Ok(unpacked) => unpacked,
        };
        // A blob's digest is that of all its bytes.
        if let Err(error) = io::copy(&mut tar, &mut io::sink()) {
            return Ok(Err(error.to_string()));
        }
        split.flush().doing("write", &path)?;
        task.finish("unpacked");
        Ok(Ok(Reference {
            dir,
            is_proven: unpacked.diff_id == self.layer,
            is_foreign: false,
            size: unpacked.size,
            content_bytes: unpacked.content_bytes,
            entries: unpacked.entries,
            blob: None,
            index: unpacked.index,
            wanted,
        }))
    }
}

/// Whether no other source would fare better: anything else that is refused, a hostile tar may have asked for.
fn is_of_the_disk(error: &Error) -> bool {
    const DISK: [i32; 4] = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EROFS];
    let errno = if let Error::Io { source, .. } = error { source.raw_os_error() } else { None };
    errno.is_some_and(|errno| DISK.contains(&errno))
}
