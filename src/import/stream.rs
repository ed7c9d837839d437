//! Archives that come as a stream: one pass, members in any order, documents first or last.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};

use crate::archive::{
    Algorithm, BlobDigest, Budget, BudgetedReader, DocumentLimits, Documents, ExactReader, HashingReader, MemberKind,
    NameTells, PlannedLayer, Plans, Replay, Seen, Stream, member, named_digest,
};
use crate::error::{Error, Result};
use crate::id::{DiffId, Digest};
use crate::import::layer::Unpacked;
use crate::import::{Import, Imported};
use crate::store::{Lease, StagedLayer};
use crate::tarball::{BLOCK, Filled, decompress_within, looks_like_layer};

/// Bytes by which a layer is told from a document.
const SNIFF: u64 = 512;
const LINKS: usize = 16;
/// Bytes that a member costs beside its name and content.
const PER_MEMBER: u64 = 100;
/// Bytes that a layer takes until the documents can be understood.
const PER_LAYER: u64 = 500;

/// What has come.
pub(super) struct Arrived {
    archive: String,
    limits: DocumentLimits,
    documents: BTreeMap<String, Vec<u8>>,
    /// Bytes of the documents, the links and their names.
    kept: u64,
    /// Whether there was no room for some of them.
    has_lost: bool,
    /// Members that are too large for a document, and no layers.
    large: BTreeSet<String>,
    links: BTreeMap<String, String>,
    layers: BTreeMap<String, Layer>,
    /// Members that begin as layers do and are none, and sparse ones that cannot be read, each with why, which is
    /// always an [`Error::BadArchive`]: that matters if an image has them.
    broken: BTreeMap<String, Error>,
    /// Whether all names are those of an archive of images.
    look_like_image: bool,
    /// The store's layers by the digest of the blob they came as; read at the first lookup.
    known: Option<BTreeMap<Digest, DiffId>>,
}

/// What a stream was.
pub(super) enum Came {
    /// An archive of images.
    Images(Plans, Arrived),
    /// It cannot be told in one pass; what to say if there can be no other.
    Unsure(Error),
}

struct Layer {
    diff_id: DiffId,
    blob: BlobDigest,
    blob_size: u64,
    /// Nothing when the store has it: then the lease keeps it there.
    staged: Option<StagedLayer>,
    _lease: Option<Lease>,
}

impl From<Unpacked> for Layer {
    fn from(unpacked: Unpacked) -> Self {
        let (blob, blob_size) = (unpacked.blob, unpacked.blob_size);
        let diff_id = unpacked.staged.record().diff_id;
        Self { diff_id, blob, blob_size, staged: Some(unpacked.staged), _lease: None }
    }
}

impl Arrived {
    fn new(archive: String, limits: DocumentLimits) -> Self {
        Self {
            archive,
            limits,
            documents: BTreeMap::new(),
            kept: 0,
            has_lost: false,
            large: BTreeSet::new(),
            links: BTreeMap::new(),
            layers: BTreeMap::new(),
            broken: BTreeMap::new(),
            look_like_image: true,
            known: None,
        }
    }

    /// Whether so many bytes more can be kept until the documents can be understood, which they are then.
    fn has_room(&mut self, bytes: u64) -> bool {
        let kept = self.kept.saturating_add(bytes).saturating_add(PER_MEMBER);
        let has_room = kept <= self.limits.all / 2;
        if has_room {
            self.kept = kept;
        }
        self.has_lost |= !has_room;
        has_room
    }

    fn link(&mut self, name: String, target: String) {
        if self.has_room((name.len() as u64).saturating_add(target.len() as u64)) {
            self.links.insert(name, target);
        }
    }

    /// Keeps why a sparse member cannot be read.
    fn broken(&mut self, name: &str, error: Error) {
        if self.has_room((name.len() as u64).saturating_add(PER_LAYER)) {
            self.broken.insert(name.to_owned(), error);
        }
    }

    /// Fails if the member of this name, which is no link, is broken.
    fn is_whole(&self, name: &str) -> Result<()> {
        match self.broken.get(name) {
            Some(Error::BadArchive { archive, entry, why }) => {
                Err(Error::BadArchive { archive: archive.clone(), entry: entry.clone(), why: why.clone() })
            }
            _ => Ok(()),
        }
    }

    fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        let mut name = name;
        for _ in 0..LINKS {
            match self.links.get(name) {
                Some(target) => name = target,
                None => break,
            }
        }
        name
    }
}

impl Documents for Arrived {
    fn why_missing(&self) -> &'static str {
        if self.has_lost {
            return "is missing, or came after more documents and links than are kept of a stream (`--limit documents=` \
                    allows more)";
        }
        "is missing"
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = self.resolve(name);
        if self.large.contains(name) {
            let (archive, entry) = (self.archive.clone(), Some(name.to_owned()));
            return Err(Error::BadArchive { archive, entry, why: self.limits.too_large() });
        }
        self.is_whole(name)?;
        Ok(self.documents.get(name).cloned())
    }

    fn has(&self, name: &str) -> Result<bool> {
        let name = self.resolve(name);
        let is_other = self.large.contains(name) || self.broken.contains_key(name);
        Ok(is_other || self.layers.contains_key(name) || self.documents.contains_key(name))
    }

    fn diff_id(&self, name: &str) -> Result<Option<DiffId>> {
        let name = self.resolve(name);
        self.is_whole(name)?;
        Ok(self.layers.get(name).map(|layer| layer.diff_id))
    }
}

impl Import<'_> {
    /// Reads what comes, until it is over or begins to look like something else.
    pub(super) fn stream(&self, stream: &mut Stream) -> Result<Came> {
        let mut arrived = Arrived::new(self.archive.clone(), self.options.limits.documents);
        let is_file = stream.is_file();
        let budget = Budget::default();
        let failed = |error| self.read_failed(None, budget.failure().unwrap_or(error));
        let mut tar = tar::Archive::new(BudgetedReader { source: &mut stream.tar, budget: &budget });
        for (number, entry) in tar.entries().map_err(failed)?.enumerate() {
            let mut entry = entry.map_err(failed)?;
            budget.content();
            let (name, member) = member(&mut entry);
            let kind = entry.header().entry_type();
            let is_global = kind.is_pax_global_extensions();
            let can_begin_again = is_file || entry.raw_file_position() <= Replay::MOST as u64;
            if !is_global && NameTells::of(&name) == NameTells::Other {
                arrived.look_like_image = false;
                if can_begin_again {
                    return Ok(Came::Unsure(self.not_told()));
                }
            }
            let size = entry.size();
            match member {
                _ if is_global => {}
                // Its own reader fills the holes, which are not to be read for nothing.
                Some(MemberKind::OldSparse { .. }) => {
                    let archived = entry.header().entry_size().map_err(failed)?;
                    match self.options.limits.layers.sparse_member(size, archived) {
                        Ok(()) => self.member(&mut arrived, number, &name, ExactReader::new(&mut entry, size), size)?,
                        Err(refusal) => arrived.broken(&name, self.read_failed(Some(&name), refusal.into())),
                    }
                    budget.headers_after(archived.saturating_add(2 * BLOCK as u64));
                    continue;
                }
                Some(MemberKind::Sparse { size, records, .. }) => {
                    match Filled::pax(&records, &mut entry, size, &self.options.limits.layers) {
                        Ok(filled) => {
                            let size = filled.size();
                            self.member(&mut arrived, number, &name, ExactReader::new(filled, size), size)?;
                        }
                        Err(error) => self.bad_map(&mut arrived, &name, error, &mut entry, &budget)?,
                    }
                }
                Some(MemberKind::File { .. }) => {
                    self.member(&mut arrived, number, &name, ExactReader::new(&mut entry, size), size)?;
                }
                Some(MemberKind::Link(target)) => arrived.link(name, target),
                None => {}
            }
            std::io::copy(&mut entry, &mut std::io::sink()).map_err(failed)?;
            budget.headers();
        }
        // Padding is read to its end: otherwise the writer of the stream would get a broken pipe.
        std::io::copy(tar.into_inner().source, &mut std::io::sink()).map_err(failed)?;
        Ok(match self.plans(&arrived, arrived.look_like_image)? {
            Some(plans) => Came::Images(plans, arrived),
            None => Came::Unsure(self.not_told()),
        })
    }

    fn not_told(&self) -> Error {
        let why = "begins as an archive of images does and has other members, but neither a manifest.json nor an \
                   index.json: it cannot be read twice to find out what it is (`--as rootfs` takes it for a root file \
                   system, and a file can be read twice)";
        self.bad(None, why)
    }

    /// Publishes what has come.
    pub(super) fn arrived(self, mut plans: Plans, mut arrived: Arrived) -> Result<Imported> {
        self.pass_over_absent(&mut plans, &arrived)?;
        let mut needed: Vec<StagedLayer> = Vec::new();
        let mut leases = Vec::new();
        for layer in plans.images.iter().flat_map(|plan| &plan.layers) {
            let place = arrived.resolve(&layer.member).to_owned();
            if let Some(error) = arrived.broken.remove(&place) {
                return Err(error);
            }
            if arrived.documents.get(&place).is_some_and(Vec::is_empty) {
                // A layer of no bytes at all.
                let task = self.progress.start(&place, Some(0));
                let algorithm = Algorithm::of_member(&place);
                let unpacked = self.unpack(usize::MAX, Some(&place), algorithm, Box::new(std::io::empty()), &*task)?;
                arrived.documents.remove(&place);
                arrived.layers.insert(place.clone(), unpacked.into());
            }
            let Some(came) = arrived.layers.get_mut(&place) else {
                if leases.iter().any(|lease: &Lease| lease.record.diff_id == layer.diff_id) {
                    continue;
                }
                match self.store.lease(layer.diff_id)? {
                    Some(lease) => leases.push(lease),
                    None => return Err(self.bad(layer.member.clone(), arrived.why_missing())),
                }
                continue;
            };
            self.check(layer, came.diff_id, came.blob, came.blob_size)?;
            let is_new = !needed.iter().any(|other| other.record().diff_id == layer.diff_id);
            needed.extend(came.staged.take().filter(|_| is_new));
        }
        let imported = self.publish(plans, &needed, false)?;
        drop((arrived, leases));
        Ok(imported)
    }

    /// A sparse member that cannot be read, or may not be: that matters only if an image has it.
    fn bad_map(
        &self,
        arrived: &mut Arrived,
        name: &str,
        error: std::io::Error,
        rest: &mut dyn Read,
        budget: &Budget,
    ) -> Result<()> {
        // The map may be good, and the archive not come whole.
        let is_cut = error.kind() == std::io::ErrorKind::UnexpectedEof;
        let error = self.read_failed(Some(name), budget.failure().unwrap_or(error));
        // error: what was wrong before is said
        if is_cut || budget.failure().is_some() || std::io::copy(rest, &mut std::io::sink()).is_err() {
            return Err(error);
        }
        arrived.broken(name, error);
        Ok(())
    }

    fn member(
        &self,
        arrived: &mut Arrived,
        number: usize,
        name: &str,
        mut source: ExactReader<impl Read>,
        size: u64,
    ) -> Result<()> {
        let failed = |error| self.read_failed(Some(name), error);
        let mut start = Vec::new();
        (&mut source).take(SNIFF).read_to_end(&mut start).map_err(failed)?;
        if looks_like_layer(&start) {
            if !arrived.has_room((name.len() as u64).saturating_add(PER_LAYER)) {
                let why = "is one layer more than can be kept in mind (`--limit documents=` allows more)";
                return Err(self.bad(name.to_owned(), why));
            }
            let layer = Box::new(Cursor::new(start).chain(&mut source));
            match self.arriving_layer(arrived, number, name, size, layer) {
                Ok(layer) => {
                    arrived.layers.insert(name.to_owned(), layer);
                }
                // It may be something that no image has, but it must be whole.
                Err(error @ Error::BadArchive { .. }) => {
                    // error: what was wrong before is said
                    if std::io::copy(&mut source, &mut std::io::sink()).is_err() {
                        return Err(error);
                    }
                    arrived.broken.insert(name.to_owned(), error);
                }
                Err(error) => return Err(error),
            }
            return Ok(());
        }
        // What is too large for a document, and no layer, is none of what the format knows.
        if size > arrived.limits.one {
            if arrived.has_room(name.len() as u64) {
                arrived.large.insert(name.to_owned());
            }
        } else if arrived.has_room(size.saturating_add(name.len() as u64)) {
            source.read_to_end(&mut start).map_err(failed)?;
            arrived.documents.insert(name.to_owned(), start);
        }
        Ok(())
    }

    /// As [`crate::store::Store::lease_blob`], but reads the store's records once, however many members come.
    fn lease_blob(&self, arrived: &mut Arrived, promised: Digest) -> Result<Option<Lease>> {
        if let Some(lease) = self.store.lease(DiffId(promised))? {
            return Ok(Some(lease));
        }
        let known = match &mut arrived.known {
            Some(known) => known,
            none => none.insert(self.store.blobs()?),
        };
        known.get(&promised).map_or(Ok(None), |layer| self.store.lease(*layer))
    }

    fn arriving_layer(
        &self,
        arrived: &mut Arrived,
        number: usize,
        name: &str,
        size: u64,
        source: Box<dyn Read + '_>,
    ) -> Result<Layer> {
        let task = self.progress.start(name, Some(size));
        if let Some(promised) = named_digest(name)
            && let Some(lease) = self.lease_blob(arrived, promised)?
        {
            let failed = |error| self.read_failed(Some(name), error);
            let (source, seen) = HashingReader::new(source, Algorithm::Sha256);
            let source: Box<dyn Read + '_> = Box::new(source);
            // Elsewhere than in `blobs/` a layer may be named by its diffID, however it is compressed.
            let plain = if name.starts_with("blobs/") {
                source
            } else {
                decompress_within(source, self.options.limits.layers.ratio).map_err(failed)?.1
            };
            let (mut plain, seen_plain) = HashingReader::new(plain, Algorithm::Sha256);
            std::io::copy(&mut plain, &mut std::io::sink()).map_err(failed)?;
            let (blob, blob_size) = Seen::finish(&seen);
            let (tar, _) = Seen::finish(&seen_plain);
            if ![blob, tar].contains(&promised.into()) {
                return Err(self.bad(name.to_owned(), format!("has the digest {tar} and not {promised}")));
            }
            task.finish("exists");
            return Ok(Layer { diff_id: lease.record.diff_id, blob, blob_size, staged: None, _lease: Some(lease) });
        }
        let unpacked = self.unpack(number, Some(name), Algorithm::of_member(name), source, &*task)?;
        task.finish("done");
        Ok(unpacked.into())
    }

    /// Compares what came with what was announced.
    pub(super) fn check(&self, layer: &PlannedLayer, diff_id: DiffId, blob: BlobDigest, blob_size: u64) -> Result<()> {
        let wrong = |why: String| self.bad(layer.member.clone(), why);
        if let Some(announced) = &layer.blob {
            announced.check(blob, blob_size).map_err(wrong)?;
        }
        if diff_id != layer.diff_id {
            return Err(wrong(format!("has the diffID {diff_id} and not {}", layer.diff_id)));
        }
        Ok(())
    }
}
