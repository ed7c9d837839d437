//! The verdict on an archive: what is odd about its layers, for a report and for a policy that refuses some of it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::Import;
use crate::archive::Plan;
use crate::error::{Error, Result};
use crate::id::{DiffId, Digest, ImageId};
use crate::index::{Child, Index, Kind, NodeId};
use crate::ops::output_file::OutputFile;
use crate::store::{LayerRecord, StagedLayer};
use crate::tarball::{Odd, Oddities, Oddity, audit};
use crate::whiteout;

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
    index: Index,
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
    pub(super) fn judge(&mut self, plans: &[Plan], staged: &[StagedLayer]) -> Result<()> {
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
            self.write_report(&mut report, plans, staged, refusal.is_some()).map_err(|failure| match failure {
                Failed::Report(source) => Error::Io { doing: "write", path: name, source },
                Failed::Store(error) => error,
            })?;
            report.commit()?;
        }
        refusal.map_or(Ok(()), Err)
    }

    /// What is refused of the first layer that has something the formats forbid.
    fn forbidden(&self, plans: &[Plan], staged: &[StagedLayer]) -> Result<Option<Error>> {
        let mut seen = BTreeSet::new();
        for planned in plans.iter().flat_map(|plan| &plan.layers) {
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
        plans: &[Plan],
        staged: &[StagedLayer],
        is_refused: bool,
    ) -> std::result::Result<(), Failed> {
        let policy = if self.options.policy == Policy::Strict { "strict" } else { "compat" };
        let mut layers: BTreeMap<DiffId, Layer> = BTreeMap::new();
        let (archive, policy) = (json!(self.archive), json!(policy));
        write!(report, "{{\n\"archive\": {archive}, \"policy\": {policy}, \"refused\": {is_refused},\n\"images\": [")?;
        for (number, plan) in plans.iter().enumerate() {
            let (id, names) = (json!(ImageId(Digest::of(&plan.config))), json!(self.names_of(plan)));
            let comma = if number == 0 { "" } else { "," };
            write!(report, "{comma}{{\n\"id\": {id},\n\"names\": {names},\n\"layers\": [")?;
            for planned in &plan.layers {
                if let Entry::Vacant(place) = layers.entry(planned.diff_id) {
                    place.insert(self.layer(planned.diff_id, staged).map_err(Failed::Store)?);
                }
            }
            let chain: Vec<&Layer> = plan.layers.iter().filter_map(|planned| layers.get(&planned.diff_id)).collect();
            let below: Vec<&Index> = chain.iter().map(|layer| &layer.index).collect();
            for (number, (layer, planned)) in chain.iter().zip(&plan.layers).enumerate() {
                let mut of_nothing = Oddities::default();
                whiteouts_of_nothing(&layer.index, below.get(..number).unwrap_or_default(), &mut of_nothing);
                report.write_all(if number == 0 { b"\n" } else { b",\n" })?;
                let shown = layer_json(&planned.member, layer, [&layer.oddities, &of_nothing]);
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
        let (record, index, mut split) = match new {
            Some(layer) => (layer.record().clone(), layer.index()?, layer.open_split()?),
            None => {
                let lower = self.store.lower(diff_id)?;
                let index = Index::decode(lower.index.as_bytes().to_vec());
                let index = index.map_err(|error| Error::corrupt(&lower.dir, error.to_string()))?;
                (self.store.layer(diff_id)?, index, self.store.open_split(diff_id)?)
            }
        };
        let oddities = self.audit(diff_id, &mut split)?;
        Ok(Layer { record, is_present: new.is_none(), index, oddities })
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

/// Each kind of oddity is in one of `oddities` only.
fn layer_json(member: &str, layer: &Layer, oddities: [&Oddities; 2]) -> Value {
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
    json!({
        "diffId": layer.record.diff_id,
        "member": member,
        "present": layer.is_present,
        "size": layer.record.size,
        "entries": layer.record.entries,
        "counts": counts.collect::<Map<String, Value>>(),
        "findings": oddities.iter().flat_map(|oddities| &oddities.found).map(finding).collect::<Vec<_>>(),
    })
}

/// Adds the whiteouts and opaque directories of a layer that hide nothing of those below, lowest first.
fn whiteouts_of_nothing(index: &Index, below: &[&Index], oddities: &mut Oddities) {
    let mut todo: Vec<(NodeId, usize, &[u8])> = vec![(NodeId::ROOT, 0, b"")];
    // The names on the way to where it is.
    let mut path: Vec<&[u8]> = Vec::new();
    while let Some((dir, depth, name)) = todo.pop() {
        path.truncate(depth.saturating_sub(1));
        path.extend(Some(name).filter(|_| depth > 0));
        let mut dirs = Vec::new();
        for child in index.children(dir) {
            path.push(child.name);
            match child.target {
                Child::Whiteout if !shows(below, &path) => {
                    let name = [whiteout::PREFIX, child.name].concat();
                    path.pop();
                    let whole = path.iter().copied().chain([&*name]).collect::<Vec<_>>().join(&b'/');
                    oddities.add(Odd::WhiteoutOfNothing, &whole, "no layer below has what it hides");
                    continue;
                }
                Child::Node(id) if index.node(id).and_then(|node| node.kind()) == Some(Kind::Directory) => {
                    let is_opaque = index.node(id).is_some_and(|node| node.is_opaque());
                    if is_opaque && !shows(below, &path) {
                        let detail = "is opaque, and no layer below has it";
                        oddities.add(Odd::WhiteoutOfNothing, &path.join(&b'/'), detail);
                    }
                    dirs.push((id, depth.saturating_add(1), child.name));
                }
                Child::Whiteout | Child::Node(_) => {}
            }
            path.pop();
        }
        todo.extend(dirs.into_iter().rev());
    }
}

/// Whether layers, lowest first, together show something at `path`.
fn shows(layers: &[&Index], path: &[&[u8]]) -> bool {
    'layers: for index in layers.iter().rev() {
        let (mut at, mut is_opaque) = (NodeId::ROOT, false);
        for (depth, name) in path.iter().enumerate() {
            is_opaque |= index.node(at).is_some_and(|node| node.is_opaque());
            match index.lookup(at, name) {
                Some(Child::Node(_)) if depth.saturating_add(1) == path.len() => return true,
                Some(Child::Node(id)) if index.node(id).and_then(|node| node.kind()) == Some(Kind::Directory) => {
                    at = id;
                }
                Some(_) => return false,
                None if is_opaque => return false,
                None => continue 'layers,
            }
        }
    }
    false
}
