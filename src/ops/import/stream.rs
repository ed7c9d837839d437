//! Archives that come as a stream: one pass, members in any order, documents first or last.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};

use super::Import;
use crate::archive::{
    Checked, DocumentLimits, Documents, Exact, MemberKind, Meter, Metered, PlannedLayer, Seen, member_kind,
    named_digest, normal_name,
};
use crate::error::{Error, Result};
use crate::id::{DiffId, Digest, ImageId};
use crate::store::{Lease, StagedLayer};
use crate::tarball::{decompress_within, looks_like_layer};

/// Bytes by which a layer is told from a document.
const SNIFF: u64 = 512;
const LINKS: usize = 16;
/// Bytes that a member costs beside its name and content.
const PER_MEMBER: u64 = 100;
/// Bytes that a layer takes until the documents can be understood.
const PER_LAYER: u64 = 500;

/// What has come.
struct Arrived {
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
    /// The store's layers by what they came as, once somebody has asked.
    known: Option<BTreeMap<Digest, DiffId>>,
}

struct Layer {
    diff_id: DiffId,
    blob: Digest,
    blob_size: u64,
    /// Nothing when the store has it: then the lease keeps it there.
    staged: Option<StagedLayer>,
    _lease: Option<Lease>,
}

impl Arrived {
    fn new(archive: String, limits: DocumentLimits) -> Self {
        let (documents, links, layers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            archive,
            limits,
            documents,
            kept: 0,
            large: BTreeSet::new(),
            links,
            layers,
            known: None,
            has_lost: false,
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
        Ok(self.documents.get(name).cloned())
    }
}

impl Import<'_> {
    pub(super) fn stream(self, source: Box<dyn Read>) -> Result<Vec<ImageId>> {
        let mut arrived = Arrived::new(self.archive.clone(), self.options.limits.documents);
        let failed = |error| self.read_failed(None, error);
        let meter = Meter::default();
        let mut tar = tar::Archive::new(Metered { source, meter: &meter });
        let mut members = 0usize;
        for (number, entry) in tar.entries().map_err(failed)?.enumerate() {
            let mut entry = entry.map_err(failed)?;
            members = number.saturating_add(1);
            meter.content();
            let name = normal_name(&entry.path_bytes());
            match member_kind(&name, &entry) {
                Some(MemberKind::File { size, .. }) => {
                    self.member(&mut arrived, number, &name, size, Box::new(Exact::new(&mut entry, size)))?;
                }
                Some(MemberKind::Link(target)) => arrived.link(name, target),
                None => {}
            }
            std::io::copy(&mut entry, &mut std::io::sink()).map_err(failed)?;
            meter.headers();
        }
        // Who writes the stream must not be cut off while it still writes padding.
        std::io::copy(&mut tar.into_inner().source, &mut std::io::sink()).map_err(failed)?;

        let no_documents = || match arrived.has_lost {
            true => self.bad("manifest.json".to_owned(), arrived.why_missing()),
            false => self.no_documents(),
        };
        let plans = self.plans(&arrived)?.ok_or_else(no_documents)?;
        let mut needed: Vec<StagedLayer> = Vec::new();
        let mut leases = Vec::new();
        for layer in plans.iter().flat_map(|plan| &plan.layers) {
            let place = arrived.resolve(&layer.member).to_owned();
            // Nothing tells a layer of no bytes from a document before the documents are understood.
            if !arrived.layers.contains_key(&place) && arrived.documents.get(&place).is_some_and(Vec::is_empty) {
                let empty = self.arriving_layer(&mut arrived, members, &place, 0, Box::new(std::io::empty()))?;
                arrived.layers.insert(place.clone(), empty);
                members = members.saturating_add(1);
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
        let ids = self.publish(plans, &needed)?;
        drop((arrived, leases));
        Ok(ids)
    }

    fn member(
        &self,
        arrived: &mut Arrived,
        number: usize,
        name: &str,
        size: u64,
        mut source: Box<dyn Read + '_>,
    ) -> Result<()> {
        let failed = |error| self.read_failed(Some(name), error);
        let mut start = Vec::new();
        (&mut source).take(SNIFF).read_to_end(&mut start).map_err(failed)?;
        if looks_like_layer(&start) {
            let source = Box::new(Cursor::new(start).chain(source));
            if !arrived.has_room((name.len() as u64).saturating_add(PER_LAYER)) {
                let why = "is one layer more than can be kept in mind (`--limit documents=` allows more)";
                return Err(self.bad(name.to_owned(), why));
            }
            let layer = self.arriving_layer(arrived, number, name, size, source)?;
            arrived.layers.insert(name.to_owned(), layer);
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
            let (source, seen) = Checked::new(source);
            let source: Box<dyn Read + '_> = Box::new(source);
            // Elsewhere than in `blobs/` a layer may be named by its diffID, however it is compressed.
            let plain = if name.starts_with("blobs/") {
                source
            } else {
                decompress_within(source, self.options.limits.layers.ratio).map_err(failed)?.1
            };
            let (mut plain, seen_plain) = Checked::new(plain);
            std::io::copy(&mut plain, &mut std::io::sink()).map_err(failed)?;
            let (blob, blob_size) = Seen::finish(&seen);
            let (tar, _) = Seen::finish(&seen_plain);
            if ![blob, tar].contains(&promised) {
                return Err(self.bad(name.to_owned(), format!("has the digest {tar} and not {promised}")));
            }
            task.finish("exists");
            return Ok(Layer { diff_id: lease.record.diff_id, blob, blob_size, staged: None, _lease: Some(lease) });
        }
        let unpacked = self.unpack(number, Some(name), source, &*task)?;
        task.finish("done");
        let (blob, blob_size) = (unpacked.blob, unpacked.blob_size);
        let diff_id = unpacked.staged.record().diff_id;
        Ok(Layer { diff_id, blob, blob_size, staged: Some(unpacked.staged), _lease: None })
    }

    /// Compares what came with what was announced.
    pub(super) fn check(&self, layer: &PlannedLayer, diff_id: DiffId, blob: Digest, blob_size: u64) -> Result<()> {
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
