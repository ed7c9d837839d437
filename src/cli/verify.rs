//! `layerctl verify`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Context;
use super::bars::Bars;
use super::output::{short, visible};
use crate::commands::{self, Finding, Repaired};
use crate::error::Result;

/// The exit status when there is damage.
const DAMAGED: u8 = 3;

/// Check that layers and records are what they were
///
/// Every layer's files are compared with its index, and with its split they must give the tar of its diffID again.
/// Without names all of the store is looked at: also for records of what is not there, and for what belongs to
/// nothing. One line for each finding; the exit status is 3 when there is damage. What processes that died have left
/// (`leftover`, `orphan`) is no damage: `prune` takes it.
///
/// Nothing is changed, and nothing waits for it, unless `--repair` says so. Then each file that is not what it was is
/// put into its place anew, and the layer is proven again. What modes, owners, times, attributes, links and the index
/// were is known of the layer's own parts; content comes from a SOURCE. Nothing is taken of one that does not give the
/// layer's digest. A container that is mounted meanwhile may show the old content until it is mounted again.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Compare sizes, times, modes and owners only, and read no content
    #[arg(long)]
    quick: bool,
    /// Mend what is damaged; the exit status is 0 when all of it was
    #[arg(long, conflicts_with = "quick")]
    repair: bool,
    /// Where to take content from: any archive that `import` takes, an OCI layout, or the directory of another store
    #[arg(long, value_name = "SOURCE", requires = "repair")]
    from: Vec<PathBuf>,
    /// Images or layers: names, ids, or beginnings of ids [default: all of the store]
    #[arg(value_name = "IMAGE|LAYER")]
    names: Vec<String>,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        if self.repair {
            let options = commands::Repair { names: self.names, sources: self.from };
            let repaired = commands::repair(&context.store, &options, &Bars::new(context.quiet))?;
            show_repaired(context, &repaired)?;
            let is_damaged = repaired.iter().any(|one| one.left.is_some() && !one.finding.is_garbage);
            return Ok(if is_damaged { DAMAGED } else { 0 });
        }
        let options = commands::Verify { names: self.names, quick: self.quick };
        let findings = commands::verify(&context.store, &options, &Bars::new(context.quiet))?;
        show(context, &findings)?;
        Ok(if findings.iter().any(|finding| !finding.is_garbage) { DAMAGED } else { 0 })
    }
}

fn show(context: &Context, findings: &[Finding]) -> Result<()> {
    if context.output.is_json() {
        return context.output.json(&findings.iter().map(value).collect());
    }
    if findings.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 5]> = findings.iter().map(row).collect();
    context.output.table(["KIND", "ID", "PROBLEM", "PATH", "DETAIL"], &rows)
}

fn show_repaired(context: &Context, repaired: &[Repaired]) -> Result<()> {
    if context.output.is_json() {
        let values = repaired.iter().map(|one| {
            let mut value = value(&one.finding);
            if let Some(fields) = value.as_object_mut() {
                fields.insert("Repaired".into(), one.left.is_none().into());
                fields.insert("Left".into(), one.left.clone().unwrap_or_default().into());
            }
            value
        });
        return context.output.json(&values.collect());
    }
    if repaired.is_empty() {
        return Ok(());
    }
    let rows = repaired.iter().map(|one| {
        let [kind, id, problem, path, _] = row(&one.finding);
        let result = one.left.as_ref().map_or_else(|| "mended".into(), |why| format!("left: {why}"));
        [kind, id, problem, path, visible(&result)]
    });
    context.output.table(["KIND", "ID", "PROBLEM", "PATH", "RESULT"], &rows.collect::<Vec<_>>())
}

fn value(finding: &Finding) -> Value {
    json!({
        "Kind": finding.kind, "Id": finding.id, "Path": finding.path, "Problem": finding.problem,
        "Detail": finding.detail, "Damage": !finding.is_garbage,
    })
}

fn row(finding: &Finding) -> [String; 5] {
    let id = short(finding.id.strip_prefix("sha256:").unwrap_or(&finding.id));
    let id = if matches!(finding.kind, "name") { finding.id.clone() } else { id };
    [finding.kind, &id, finding.problem, &finding.path, &finding.detail].map(visible)
}
