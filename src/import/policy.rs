//! Reports what is odd about the layers of an archive, and applies the policy that refuses some of it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::archive::{Plan, PlannedLayer, Plans};
use crate::error::{Error, Result};
use crate::id::{DiffId, Digest, ImageId};
use crate::import::Import;
use crate::import::redundant_whiteouts::{Below, Indexes, Room, find_redundant_whiteouts};
use crate::index::Index;
use crate::output_file::OutputFile;
use crate::store::{LayerRecord, StagedLayer};
use crate::tarball::{Odd, Oddities, Oddity, audit};

/// What is done with what the formats forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// It is taken where Docker takes it.
    #[default]
    Compat,
    /// It is refused.
    Strict,
}

/// A layer, wherever it is.
struct Layer {
    record: LayerRecord,
    /// Whether the store had it, so that it was not unpacked.
    is_present: bool,
    oddities: Oddities,
}

/// Why there is no report.
enum Failed {
    Report(std::io::Error),
    Store(Error),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Report(error)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Import<'_> {
    /// Opens the report, before anything is done.
    pub(super) fn open_report(report: Option<&PathBuf>) -> Result<Option<OutputFile>> {
        report.map(|path| OutputFile::open(path)).transpose()
    }

    /// Writes the report, and applies the policy.
    ///
    /// # Errors
    /// [`Error::BadArchive`] for what the policy refuses.
    pub(super) fn apply_policy(
        &mut self,
        plans: &Plans,
        staged: &[StagedLayer],
        is_root_file_system: bool,
    ) -> Result<()> {
        let policy = self.options.policy;
        let report = self.report.take();
        if report.is_none() && policy == Policy::Compat {
            return Ok(());
        }
        let refusal = match policy {
            Policy::Compat => None,
            Policy::Strict => self.forbidden(plans, staged)?,
        };
        if let Some(mut report) = report {
            let name = report.name().to_owned();
            let head = self.report_head(plans, refusal.is_some(), is_root_file_system);
            self.write_report(&mut report, &head, &plans.images, staged).map_err(|failure| match failure {
                Failed::Report(source) => Error::Io { doing: "write", path: name, source },
                Failed::Store(error) => error,
            })?;
            report.commit()?;
        }
        refusal.map_or(Ok(()), Err)
    }

    /// What is refused of the first layer that has something the formats forbid.
    fn forbidden(&self, plans: &Plans, staged: &[StagedLayer]) -> Result<Option<Error>> {
        if let Some(name) = plans.images.iter().find_map(|plan| plan.config_name.clone()) {
            let why = "is a config that is not named by its digest, as the format demands (`--policy compat` takes it)";
            return Ok(Some(self.bad(name, why)));
        }
        let mut seen = BTreeSet::new();
        for planned in plans.images.iter().flat_map(|plan| &plan.layers) {
            if !seen.insert(planned.diff_id) {
                continue;
            }
            if let Some(oddity) = self.oddities(planned.diff_id, staged)?.forbidden() {
                return Ok(Some(self.refusal(&planned.member, oddity)));
            }
        }
        Ok(None)
    }

    /// Layer by layer, so that of no more than one all that is told of is in memory as text: a layer may be in an image,
    /// and in images, very often.
    fn write_report(
        &self,
        report: &mut OutputFile,
        head: &str,
        plans: &[Plan],
        staged: &[StagedLayer],
    ) -> std::result::Result<(), Failed> {
        let mut layers: BTreeMap<DiffId, Layer> = BTreeMap::new();
        let (mut is_told, mut room) = (BTreeSet::new(), Room::default());
        let read = |diff_id| self.index(diff_id, staged);
        let mut indexes = Indexes::new(&read);
        write!(report, "{{\n{head},\n\"images\": [")?;
        for (number, plan) in plans.iter().enumerate() {
            let (id, names) = (json!(ImageId(Digest::of(&plan.config))), json!(self.names_of(plan)));
            let comma = if number == 0 { "" } else { "," };
            write!(report, "{comma}{{\n\"id\": {id},\n\"names\": {names},\n\"layers\": [")?;
            for planned in &plan.layers {
                if let Entry::Vacant(place) = layers.entry(planned.diff_id) {
                    place.insert(self.layer(planned.diff_id, staged).map_err(Failed::Store)?);
                }
            }
            let mut below = Below::default();
            for (number, planned) in plan.layers.iter().enumerate() {
                let Some(layer) = layers.get(&planned.diff_id) else { continue };
                let is_known = is_told.contains(&planned.diff_id);
                let shown = shown(planned, layer, &below, &mut indexes, is_known, &mut room).map_err(Failed::Store)?;
                below.push(number, planned.diff_id);
                is_told.insert(planned.diff_id);
                report.write_all(if number == 0 { b"\n" } else { b",\n" })?;
                serde_json::to_writer_pretty(&mut *report, &shown).map_err(std::io::Error::from)?;
            }
            report.write_all(b"]}")?;
        }
        report.write_all(b"]\n}\n")?;
        Ok(())
    }

    fn names_of<'p>(&'p self, plan: &'p Plan) -> &'p [crate::id::ImageName] {
        if self.options.names.is_empty() { &plan.names } else { &self.options.names }
    }

    fn refusal(&self, member: &str, oddity: &Oddity) -> Error {
        let path = text(&oddity.path);
        let names: Vec<&str> = [member, &path].into_iter().filter(|name| !name.is_empty()).collect();
        let (word, detail) = (oddity.odd.word(), &oddity.detail);
        let why = format!("{word}, which the format forbids: {detail} (`--policy compat` takes it)");
        self.bad(Some(names.join(": ")).filter(|names| !names.is_empty()), why)
    }

    fn layer(&self, diff_id: DiffId, staged: &[StagedLayer]) -> Result<Layer> {
        let new = staged.iter().find(|layer| layer.record().diff_id == diff_id);
        let record = new.map_or_else(|| self.store.layer(diff_id), |layer| Ok(layer.record().clone()))?;
        Ok(Layer { record, is_present: new.is_none(), oddities: self.oddities(diff_id, staged)? })
    }

    fn index(&self, diff_id: DiffId, staged: &[StagedLayer]) -> Result<Index> {
        if let Some(layer) = staged.iter().find(|layer| layer.record().diff_id == diff_id) {
            return layer.index();
        }
        let corrupt = |why: String| Error::corrupt(self.store.layer_path(diff_id, "index"), why);
        let bytes = self.store.index_bytes(diff_id)?.ok_or_else(|| corrupt("is missing".into()))?;
        Index::decode(bytes).map_err(|error| corrupt(error.to_string()))
    }

    fn oddities(&self, diff_id: DiffId, staged: &[StagedLayer]) -> Result<Oddities> {
        let mut split = match staged.iter().find(|layer| layer.record().diff_id == diff_id) {
            Some(layer) => layer.open_split()?,
            None => self.store.open_split(diff_id)?,
        };
        self.audit(diff_id, &mut split)
    }

    fn audit(&self, diff_id: DiffId, split: &mut File) -> Result<Oddities> {
        audit(split).map_err(|failure| Error::corrupt(self.store.layer_path(diff_id, "split"), failure.to_string()))
    }
}

/// What is told of a layer. Of one that was told of before, it may be less.
fn shown(
    planned: &PlannedLayer,
    layer: &Layer,
    below: &Below,
    indexes: &mut Indexes<'_>,
    is_told: bool,
    room: &mut Room,
) -> Result<Value> {
    let mut redundant = Oddities::default();
    let is_whole = find_redundant_whiteouts(planned.diff_id, below, indexes, room, &mut redundant)?;
    let oddities = [&layer.oddities, &redundant];
    let has_room = !is_told || room.take_repeated(oddities.map(|oddities| oddities.found.len()).iter().sum());
    let mut shown = layer_json(&planned.member, layer, oddities, has_room);
    if let Some(fields) = shown.as_object_mut().filter(|_| !is_whole || !has_room) {
        fields.insert("abridged".into(), true.into());
    }
    Ok(shown)
}

/// Each kind of oddity is in one of `oddities` only.
fn layer_json(member: &str, layer: &Layer, oddities: [&Oddities; 2], with_findings: bool) -> Value {
    let count = |odd| oddities.iter().find_map(|oddities| oddities.counts.get(odd));
    let counts = Odd::all().iter().filter_map(|odd| Some((odd.word().to_owned(), (*count(odd)?).into())));
    let finding = |oddity: &Oddity| {
        json!({
            "kind": oddity.odd.word(),
            "entry": text(&oddity.path),
            "detail": oddity.detail,
            "forbidden": oddity.odd.is_forbidden(),
        })
    };
    let findings = oddities.iter().filter(|_| with_findings).flat_map(|oddities| &oddities.found).map(finding);
    json!({
        "diffId": layer.record.diff_id,
        "member": member,
        "present": layer.is_present,
        "size": layer.record.size,
        "entries": layer.record.entries,
        "counts": counts.collect::<Map<String, Value>>(),
        "findings": findings.collect::<Vec<_>>(),
    })
}
