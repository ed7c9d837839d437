//! One layer: its record, its index, its split and its files, which together must give its diffID.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::id::{DiffId, Digest};
use crate::index::{Index, Node};
use crate::progress::{Progress, Task};
use crate::store::{LayerRecord, Staging, Store};
use crate::sys::{call, fs};
use crate::tarball::{
    Assembled, Change, Difference, Failure, Modes, assemble_counted, compare, compare_content, is_sparse,
};
use crate::verify::Finding;

/// Takes the tar, and tells how far it is.
struct Watched<'a>(&'a dyn Task);

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.advance(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was found in a layer, and what is needed to mend it.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) findings: Vec<Finding>,
    /// Paths in the layer at which content is, or may be, another one or missing.
    pub(super) places: BTreeSet<Vec<u8>>,
    /// The record, if it is one of this layer.
    pub(super) record: Option<LayerRecord>,
    /// The index, if it is one.
    pub(super) index: Option<Index>,
    /// Whether there is a directory for its files.
    pub(super) has_dir: bool,
    /// Whether split and files give the tar.
    pub(super) is_proven: bool,
    /// Whether the split is damaged.
    pub(super) has_bad_split: bool,
    /// Whether the tar has another digest, and no finding says why.
    pub(super) is_unexplained: bool,
}

struct Check<'a> {
    store: &'a Store,
    layer: DiffId,
    checked: Checked,
}

/// Opens the directory of a layer's files; `None` when there is none. A link in its place is not followed.
pub(super) fn open_dir(path: &Path) -> rustix::io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match call::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        opened => opened.map(|dir| Some(dir.into())),
    }
}

/// Looks at one layer. One that goes meanwhile has nothing wrong with it.
///
/// # Errors
/// When the store's own directories cannot be read.
pub(super) fn check(store: &Store, layer: DiffId, quick: bool, progress: &dyn Progress) -> Result<Checked> {
    let kept = match store.keep(layer) {
        Ok(None) => return Ok(Checked::default()),
        // The record is no regular file, so it cannot be locked to keep the layer; the check of the record reports that.
        Err(Error::Corrupt { .. }) => None,
        kept => kept?,
    };
    let mut check = Check { store, layer, checked: Checked::default() };
    match check.run(quick, progress) {
        // The disk has lost it.
        Err(error @ Error::Io { .. }) if error.is_damage() => {
            let Error::Io { path, source, .. } = error else { return Err(error) };
            check.tell(path.display().to_string(), "unreadable", format!("cannot be read: {source}"));
        }
        checked => checked?,
    }
    drop(kept);
    Ok(check.checked)
}

impl Check<'_> {
    fn tell(&mut self, path: impl Into<String>, problem: &'static str, detail: impl Into<String>) {
        let (id, path, detail) = (self.layer.to_string(), path.into(), detail.into());
        self.checked.findings.push(Finding { kind: "layer", id, path, problem, detail, is_garbage: false });
    }

    /// Tells of one of the layer's files under `layers/`.
    fn tell_file(&mut self, extension: &'static str, problem: &'static str, detail: impl Into<String>) {
        let path = self.store.layer_path(self.layer, extension).display().to_string();
        self.tell(path, problem, detail);
    }

    fn tell_split(&mut self, problem: &'static str, detail: impl Into<String>) {
        self.checked.has_bad_split = true;
        self.tell_file("split", problem, detail);
    }

    fn run(&mut self, quick: bool, progress: &dyn Progress) -> Result<()> {
        let record = self.record()?;
        let task = progress.start(&self.layer.hex(), record.as_ref().filter(|_| !quick).map(|record| record.size));
        let index = self.index()?;
        let path = self.store.diff_dir(&self.layer.hex());
        let dir = match open_dir(&path) {
            Ok(None) => {
                self.tell(path.display().to_string(), "missing", "is missing: the files of the layer");
                None
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                self.tell(path.display().to_string(), "type", "is no directory: the files of the layer");
                None
            }
            opened => opened.doing("open", &path)?,
        };
        self.checked.has_dir = dir.is_some();
        if let (Some(index), Some(dir)) = (&index, &dir) {
            self.files(index, dir, quick)?;
        }
        let split = match self.store.open_split(self.layer) {
            Err(Error::Corrupt { why, .. }) => {
                self.tell_split("split", why);
                None
            }
            opened => Some(opened?),
        };
        if quick {
            let path = self.store.layer_path(self.layer, "split");
            let size = split.map(|split| fs::metadata_of(&split).doing("read", &path)).transpose()?;
            if size.is_some_and(|metadata| metadata.len() == 0) {
                self.tell_split("split", "is empty");
            }
        } else if let Some(dir) = &dir {
            self.content(record.as_ref(), index.as_ref(), dir, split, &*task)?;
        }
        (self.checked.record, self.checked.index) = (record, index);
        task.finish(if self.checked.findings.is_empty() { "well" } else { "damaged" });
        Ok(())
    }

    fn record(&mut self) -> Result<Option<LayerRecord>> {
        match self.store.layer(self.layer) {
            Ok(record) if record.diff_id != self.layer => {
                self.tell_file("json", "record", format!("is of the layer {}", record.diff_id));
                Ok(None)
            }
            Ok(record) => Ok(Some(record)),
            Err(Error::Corrupt { why, .. }) => {
                self.tell_file("json", "record", why);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn index(&mut self) -> Result<Option<Index>> {
        let bytes = match self.store.index_bytes(self.layer) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                self.tell_file("index", "index", "is missing");
                return Ok(None);
            }
            Err(Error::Corrupt { why, .. }) => {
                self.tell_file("index", "index", why);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match Index::decode(bytes) {
            Ok(index) if !index.has_its_key() => {
                self.tell_file("index", "index", "does not have the digest that it gives");
                Ok(None)
            }
            Ok(index) => Ok(Some(index)),
            Err(error) => {
                self.tell_file("index", "index", error.to_string());
                Ok(None)
            }
        }
    }

    fn files(&mut self, index: &Index, dir: &File, quick: bool) -> Result<()> {
        let mut differences = Vec::new();
        let store = self.store;
        let mut staging: Option<Option<Staging>> = None;
        let mut scratch = || -> io::Result<Option<OwnedFd>> {
            // Made when it is needed, which it is not where all is well.
            let staging = match &staging {
                Some(staging) => staging,
                None => staging.insert(match store.stage() {
                    Ok(staging) => Some(staging),
                    // Nothing is ever made in this store: it is read-only.
                    Err(Error::Unsupported(_)) => None,
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => None,
                    Err(Error::Io { source, .. }) => return Err(source),
                    Err(error) => return Err(io::Error::other(error.to_string())),
                }),
            };
            staging.as_ref().map(|staging| File::open(staging.dir()).map(OwnedFd::from)).transpose()
        };
        let modes = Modes::of(store.has_layer_modes());
        compare(index, dir.as_fd(), (quick, modes), &mut scratch, &mut |difference| differences.push(difference))
            .map_err(|failure| self.failed(failure))?;
        for difference in differences {
            self.difference(&difference);
        }
        Ok(())
    }

    fn difference(&mut self, difference: &Difference) {
        let path = if difference.path.is_empty() { "." } else { &String::from_utf8_lossy(&difference.path) };
        self.tell(path, difference.change.word(), difference.detail.clone());
        if difference.change.is_of_content() {
            self.checked.places.insert(difference.path.clone());
        }
    }

    /// The disk failed under us: that is no finding.
    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Write { doing, path, source } => {
                Error::Io { doing, path: self.store.diff_dir(&self.layer.hex()).join(path), source }
            }
            Failure::Read(source) => {
                Error::Io { doing: "read", path: self.store.layer_path(self.layer, "split"), source }
            }
            Failure::Bad { entry, why, .. } => {
                Error::corrupt(self.store.layer_path(self.layer, "split"), [entry.unwrap_or_default(), why].join(" "))
            }
        }
    }

    /// Whether split and files give the tar; if not, what of them is to blame.
    fn content(
        &mut self,
        record: Option<&LayerRecord>,
        index: Option<&Index>,
        dir: &File,
        split: Option<File>,
        task: &dyn Task,
    ) -> Result<()> {
        let assembled =
            split.map(|split| assemble_counted(&mut BufReader::new(split), dir.as_fd(), &mut Watched(task)));
        let has_size = |finding: &Finding| finding.problem == Change::Size.word();
        let shorter: BTreeSet<String> =
            self.checked.findings.iter().filter(|one| has_size(one)).map(|one| one.path.clone()).collect();
        if let Some(Ok(Assembled { digest, size, content_bytes })) = &assembled
            && *digest == self.layer.0
        {
            self.checked.is_proven = true;
            if let Some(index) = index {
                // What is read in a hole is in no tar.
                self.contents(index, dir, is_sparse, &shorter)?;
            }
            if record.is_some_and(|record| (record.size, record.content_bytes) != (*size, *content_bytes)) {
                self.tell_file("json", "record", format!("has sizes other than {size} and {content_bytes}"));
            }
            return Ok(());
        }
        let known = self.checked.findings.len();
        if let Some(index) = index {
            self.contents(index, dir, |_| true, &shorter)?;
        }
        let is_explained = self.checked.findings.len() > known || !shorter.is_empty();
        match assembled {
            // The files were to be compared all the same.
            None => {}
            Some(Err(Failure::Bad { entry: None, why, .. })) => self.tell_split("split", why),
            Some(Err(Failure::Bad { entry: Some(entry), why, .. })) if !self.has_told_of(&entry) => {
                self.checked.is_unexplained = true;
                self.tell(entry, "content", why);
            }
            Some(Err(Failure::Read(error))) => {
                self.tell_split("unreadable", format!("cannot be read: {error}"));
            }
            Some(Err(Failure::Write { path, source, .. })) if !self.has_told_of(&path.to_string_lossy()) => {
                self.checked.is_unexplained = true;
                self.tell(path.to_string_lossy(), "unreadable", format!("cannot be read: {source}"));
            }
            Some(Ok(Assembled { digest, .. })) if !is_explained => self.tell_tar(digest),
            Some(Ok(_) | Err(Failure::Bad { .. } | Failure::Write { .. })) => {}
        }
        Ok(())
    }

    /// Compares the digests of files, but for those of which more is known.
    fn contents(
        &mut self,
        index: &Index,
        dir: &File,
        asked: fn(&Node<'_>) -> bool,
        known: &BTreeSet<String>,
    ) -> Result<()> {
        let mut differences = Vec::new();
        compare_content(index, dir.as_fd(), asked, &mut |difference| differences.push(difference))
            .map_err(|failure| self.failed(failure))?;
        for difference in differences {
            if !known.contains(&*String::from_utf8_lossy(&difference.path)) {
                self.difference(&difference);
            }
        }
        Ok(())
    }

    /// Whether something was found at `path`, or at a directory on the way to it.
    fn has_told_of(&self, path: &str) -> bool {
        let at = |known: &str| path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.checked.findings.iter().any(|finding| at(&finding.path))
    }

    fn tell_tar(&mut self, digest: Digest) {
        self.checked.is_unexplained = true;
        let what = "gives a tar with the digest";
        self.tell_file("split", "content", format!("{what} {digest}: it, or a file without a digest, is damaged"));
    }
}
