//! The verdict on an archive: what is odd about its layers, for a report and for a policy that refuses some of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::Import;
use crate::archive::Plan;
use crate::error::{Context as _, Error, Result};
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
        let mut layers: BTreeMap<DiffId, Layer> = BTreeMap::new();
        let mut images = Vec::new();
        let mut refusal = None;
        for plan in plans {
            for planned in &plan.layers {
                if let Entry::Vacant(place) = layers.entry(planned.diff_id) {
                    place.insert(self.layer(planned.diff_id, staged)?);
                }
            }
            let chain: Vec<&Layer> = plan.layers.iter().filter_map(|planned| layers.get(&planned.diff_id)).collect();
            let mut shown = Vec::new();
            for (number, (layer, planned)) in chain.iter().zip(&plan.layers).enumerate() {
                let mut oddities = layer.oddities.clone();
                let below: Vec<&Index> = chain.iter().take(number).map(|layer| &layer.index).collect();
                whiteouts_of_nothing(&layer.index, &below, &mut oddities);
                if let Some(oddity) = oddities.forbidden().filter(|_| policy == Policy::Strict && refusal.is_none()) {
                    refusal = Some(self.refusal(&planned.member, oddity));
                }
                shown.push(layer_json(&planned.member, layer, &oddities));
            }
            let id = ImageId(Digest::of(&plan.config));
            images.push(json!({ "id": id, "names": self.names_of(plan), "layers": shown }));
        }
        if let Some(mut report) = report {
            let policy = if policy == Policy::Strict { "strict" } else { "compat" };
            let value = json!({
                "archive": self.archive, "policy": policy, "refused": refusal.is_some(), "images": images,
            });
            let name = report.name().to_owned();
            let write = serde_json::to_writer_pretty(&mut report, &value).map_err(std::io::Error::from);
            write.and_then(|()| report.write_all(b"\n")).doing("write", name)?;
            report.commit()?;
        }
        refusal.map_or(Ok(()), Err)
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
        let oddities = audit(&mut split)
            .map_err(|failure| Error::corrupt(self.store.layer_path(diff_id, "split"), failure.to_string()))?;
        Ok(Layer { record, is_present: new.is_none(), index, oddities })
    }
}

fn layer_json(member: &str, layer: &Layer, oddities: &Oddities) -> Value {
    let counts = Odd::all().iter().filter_map(|odd| Some((odd.word().to_owned(), (*oddities.counts.get(odd)?).into())));
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
        "findings": oddities.found.iter().map(finding).collect::<Vec<_>>(),
    })
}

/// Adds the whiteouts and opaque directories of a layer that hide nothing of those below, lowest first.
fn whiteouts_of_nothing(index: &Index, below: &[&Index], oddities: &mut Oddities) {
    let mut todo: Vec<(NodeId, Vec<Vec<u8>>)> = vec![(NodeId::ROOT, Vec::new())];
    while let Some((dir, path)) = todo.pop() {
        let mut dirs = Vec::new();
        for child in index.children(dir) {
            let mut path = path.clone();
            path.push(child.name.to_vec());
            match child.target {
                Child::Whiteout if !shows(below, &path) => {
                    let name = path.pop().unwrap_or_default();
                    path.push([whiteout::PREFIX, &name].concat());
                    oddities.add(Odd::WhiteoutOfNothing, &path.join(&b'/'), "no layer below has what it hides");
                }
                Child::Node(id) if index.node(id).and_then(|node| node.kind()) == Some(Kind::Directory) => {
                    let is_opaque = index.node(id).is_some_and(|node| node.is_opaque());
                    if is_opaque && !shows(below, &path) {
                        let detail = "is opaque, and no layer below has it";
                        oddities.add(Odd::WhiteoutOfNothing, &path.join(&b'/'), detail);
                    }
                    dirs.push((id, path));
                }
                Child::Whiteout | Child::Node(_) => {}
            }
        }
        todo.extend(dirs.into_iter().rev());
    }
}

/// Whether layers, lowest first, together show something at `path`.
fn shows(layers: &[&Index], path: &[Vec<u8>]) -> bool {
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
