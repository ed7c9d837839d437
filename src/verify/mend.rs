//! One layer is mended: from its own parts as far as they prove what it was, else from a source.
//!
//! ```text
//! check ─► what is wrong ─► the tar unpacked beside it ─► single files, index, split, then the record ─► check
//!   ▲                                                                                                    │
//!   └────────────────────────── until nothing is wrong, or nothing more can be done ─────────────────────┘
//! ```
//!
//! What is unpacked is on the disk before anything of it is put into place, each file by one rename; whatever happens
//! meanwhile, the next check finds what is left. A mount that uses the layer keeps the files that it has open, and
//! may go on showing what was wrong in them until it is mounted again.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use crate::error::{Context as _, Error, Result};
use crate::id::DiffId;
use crate::index::{Child, Index, NodeId};
use crate::progress::Progress;
use crate::store::{LayerRecord, Staging, Store};
use crate::sys::fs;
use crate::tarball::{Difference, Failure, Mend, Modes, PathFilter, compare, compare_content, path_and_above};
use crate::verify::layer::{Checked, check, open_dir};
use crate::verify::reference::{Reference, Unpacking};
use crate::verify::source::Source;
use crate::verify::{Finding, needs};
use rustix::io::Errno;

/// What is mended may bring to light something else.
const ROUNDS: usize = 5;

/// What came of one layer.
#[derive(Default)]
pub(super) struct Mended {
    pub(super) found: Vec<Finding>,
    pub(super) left: Vec<Finding>,
    /// Why something is left.
    pub(super) why: String,
}

struct Round<'a> {
    store: &'a Store,
    layer: DiffId,
    staging: Staging,
    checked: &'a Checked,
}

/// Looks at a layer, and mends it as far as that can be done.
///
/// # Errors
/// When the store cannot be read or written.
pub(super) fn mend(store: &Store, layer: DiffId, sources: &[Source], progress: &dyn Progress) -> Result<Mended> {
    let mut checked = check(store, layer, false, progress)?;
    let found = checked.findings.clone();
    let mut against = Vec::new();
    for _ in 0..ROUNDS {
        if checked.findings.is_empty() {
            break;
        }
        let Some(kept) = keep(store, layer)? else { break };
        against.clear();
        let round = Round { store, layer, staging: store.stage()?, checked: &checked };
        let is_changed = round.run(&kept, sources, progress, &mut against)?;
        drop(kept);
        // Also when nothing was changed: another process may have mended it meanwhile.
        checked = check(store, layer, false, progress)?;
        if !is_changed {
            break;
        }
    }
    Ok(Mended { found, left: checked.findings, why: needs(sources, &against) })
}

/// Keeps the layer. Where its record should be and is no file, an empty one takes its place, by which it can be kept.
fn keep(store: &Store, layer: DiffId) -> Result<Option<File>> {
    match store.keep(layer) {
        Err(Error::Corrupt { .. }) => {}
        kept => return kept,
    }
    let staging = store.stage()?;
    let path = staging.dir().join("json");
    fs::write(&path, "").doing("write", &path)?;
    store.flush(&staging)?;
    store.replace_part(&staging, layer, Some("json"), &path)?;
    store.keep(layer)
}

impl Round<'_> {
    /// Gives whether something was changed.
    fn run(&self, kept: &File, sources: &[Source], progress: &dyn Progress, against: &mut Vec<String>) -> Result<bool> {
        let wanted = self.wanted();
        let Self { store, layer, staging, checked } = self;
        let unpacking = Unpacking { store, staging, layer: *layer, record: checked.record.as_ref(), progress };
        let own = unpacking.own(checked, &wanted)?;
        let reference = match own {
            Some(own) if own.is_proven => own,
            own => match unpacking.foreign(sources, &wanted, against)?.or(own) {
                Some(reference) => reference,
                None => return Ok(false),
            },
        };
        store.flush(staging)?;
        let is_changed = [self.files(&reference)?, self.parts(&reference)?];
        store.flush(staging)?;
        Ok(is_changed.contains(&true) | (reference.is_proven && self.record(kept, &reference, against)?))
    }

    /// The files whose content is needed: all names of those where something is wrong.
    fn wanted(&self) -> PathFilter {
        let Checked { index, places, has_dir, is_unexplained, .. } = self.checked;
        let Some(index) = index.as_ref().filter(|_| *has_dir && !is_unexplained) else { return PathFilter::Everything };
        let mut all = places.clone();
        for id in places.iter().filter_map(|place| node_at(index, place)).collect::<BTreeSet<_>>() {
            let names = index.names(id).filter_map(|(dir, name)| {
                let parts: Vec<&[u8]> = index.path(dir)?.into_iter().chain([name]).collect();
                Some(parts.join(&b'/'))
            });
            all.extend(names.collect::<BTreeSet<_>>());
        }
        PathFilter::Below(all)
    }

    fn files(&self, reference: &Reference) -> Result<bool> {
        let (store, diff) = (self.store, reference.dir.join("diff"));
        let place = store.diff_dir(&self.layer.hex());
        let there = match open_dir(&place) {
            // Something else stands there.
            Err(Errno::NOTDIR | Errno::LOOP) => None,
            opened => opened.doing("open", &place)?,
        };
        let Some(dir) = there else {
            let is_whole = reference.is_proven && reference.is_foreign && reference.wanted == PathFilter::Everything;
            if is_whole {
                store.replace_part(&self.staging, self.layer, None, &diff)?;
            }
            return Ok(is_whole);
        };
        let (staged, aside) = (File::open(&diff).doing("open", &diff)?, self.directory("aside")?);
        let failed = |failure| failed(failure, place.clone());
        let index = &reference.index;
        let mut mend = Mend::new(index, dir.as_fd(), staged.as_fd(), aside.as_fd(), &reference.wanted, self.modes())
            .map_err(failed)?;
        let mut differences = self.differences(index, &dir).map_err(failed)?;
        if reference.is_foreign {
            compare_content(index, dir.as_fd(), |_| true, &mut |difference| differences.push(difference))
                .map_err(failed)?;
        } else {
            let of_content = differences.iter().filter(|difference| difference.change.is_of_content());
            let known: BTreeSet<&[u8]> = of_content.map(|difference| &difference.path[..]).collect();
            let places = self.checked.places.iter().filter(|place| !known.contains(&place[..]));
            let more: Vec<Difference> = places.map(|place| Difference::of_content(place)).collect();
            differences.extend(more);
        }
        let done = mend.put(&differences).map_err(failed)?;
        let mut count = done.len();
        if reference.is_foreign && reference.wanted == PathFilter::Everything && self.checked.is_unexplained {
            mend.put_what_has_no_digest().map_err(failed)?;
            count = count.saturating_add(1);
        }
        // With its time set right, wrong content would pass for sound where only sizes and times are looked at.
        let is_wrong = |difference: &&Difference| {
            difference.change.is_of_content() && !path_and_above(&difference.path).any(|path| done.contains(path))
        };
        let wrong: BTreeSet<NodeId> =
            differences.iter().filter(is_wrong).filter_map(|difference| node_at(index, &difference.path)).collect();
        let mut differences = self.differences(index, &dir).map_err(failed)?;
        differences.retain(|one| wrong.is_empty() || node_at(index, &one.path).is_none_or(|id| !wrong.contains(&id)));
        count = count.saturating_add(mend.describe(&differences).map_err(failed)?);
        Ok(count > 0)
    }

    fn modes(&self) -> Modes {
        Modes::of(self.store.has_layer_modes())
    }

    fn differences(&self, index: &Index, dir: &File) -> Result<Vec<Difference>, Failure> {
        let mut differences = Vec::new();
        let mut scratch = || match self.directory("scratch") {
            Ok(scratch) => Ok(Some(OwnedFd::from(scratch))),
            Err(Error::Io { source, .. }) => Err(source),
            Err(error) => Err(std::io::Error::other(error.to_string())),
        };
        compare(index, dir.as_fd(), (false, self.modes()), &mut scratch, &mut |difference| {
            differences.push(difference);
        })?;
        Ok(differences)
    }

    fn directory(&self, name: &str) -> Result<File> {
        let path = self.staging.dir().join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.doing("create", &path)?,
        }
        File::open(&path).doing("open", &path)
    }

    fn parts(&self, reference: &Reference) -> Result<bool> {
        if !reference.is_proven {
            return Ok(false);
        }
        let mut is_changed = false;
        let bytes = reference.index.as_bytes();
        if self.checked.index.as_ref().is_none_or(|index| index.as_bytes() != bytes) {
            let path = self.staging.dir().join("index");
            fs::write(&path, bytes).doing("write", &path)?;
            self.store.flush(&self.staging)?;
            self.store.replace_part(&self.staging, self.layer, Some("index"), &path)?;
            is_changed = true;
        }
        if reference.is_foreign && (self.checked.has_bad_split || self.checked.is_unexplained) {
            self.store.replace_part(&self.staging, self.layer, Some("split"), &reference.dir.join("split"))?;
            is_changed = true;
        }
        Ok(is_changed)
    }

    fn record(&self, kept: &File, reference: &Reference, against: &mut Vec<String>) -> Result<bool> {
        let known = self.checked.record.as_ref();
        let record = LayerRecord {
            diff_id: self.layer,
            size: reference.size,
            content_bytes: reference.content_bytes,
            entries: reference.entries,
            blob: known.map_or(reference.blob, |known| known.blob),
            created: known.map_or(0, |known| known.created),
        };
        if known == Some(&record) {
            return Ok(false);
        }
        let is_written = self.store.replace_layer_record(kept, record)?;
        if !is_written {
            against.push("another process is reading the layer".into());
        }
        Ok(is_written)
    }
}

fn node_at(index: &Index, path: &[u8]) -> Option<NodeId> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).try_fold(NodeId::ROOT, |dir, part| {
        match index.lookup(dir, part)? {
            Child::Node(id) => Some(id),
            Child::Whiteout => None,
        }
    })
}

fn failed(failure: Failure, place: PathBuf) -> Error {
    match failure {
        Failure::Write { doing, path, source } => Error::Io { doing, path: place.join(path), source },
        other => Error::corrupt(place, other.to_string()),
    }
}
