//! `layerctl verify`.

use clap::Args;
use serde_json::json;

use super::Context;
use super::bars::Bars;
use super::output::{short, visible};
use crate::error::Result;
use crate::ops::{self, Finding};

/// The exit status when there is damage.
const DAMAGED: u8 = 3;

/// Check that layers and records are what they were
///
/// Every layer's files are compared with its index, and with its split they must give the tar of its diffID again.
/// Without names all of the store is looked at: also for records of what is not there, and for what belongs to
/// nothing. One line for each finding; the exit status is 3 when there is damage. What processes that died have left
/// (`leftover`, `orphan`) is no damage: `prune` takes it.
///
/// Nothing is changed, and nothing waits for it.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Compare sizes, times, modes and owners only, and read no content
    #[arg(long)]
    quick: bool,
    /// Images or layers: names, ids, or beginnings of ids [default: all of the store]
    #[arg(value_name = "IMAGE|LAYER")]
    names: Vec<String>,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let options = ops::Verify { names: self.names, quick: self.quick };
        let findings = ops::verify(&context.store, &options, &Bars::new(context.quiet))?;
        show(context, &findings)?;
        Ok(if findings.iter().any(|finding| !finding.is_debris) { DAMAGED } else { 0 })
    }
}

fn show(context: &Context, findings: &[Finding]) -> Result<()> {
    if context.output.is_json() {
        let values = findings.iter().map(|one| {
            json!({
                "Kind": one.kind, "Id": one.id, "Path": one.path, "Problem": one.problem, "Detail": one.detail,
                "Damage": !one.is_debris,
            })
        });
        return context.output.json(&values.collect());
    }
    if findings.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 5]> = findings.iter().map(row).collect();
    context.output.table(["KIND", "ID", "PROBLEM", "PATH", "DETAIL"], &rows)
}

fn row(finding: &Finding) -> [String; 5] {
    let id = short(finding.id.strip_prefix("sha256:").unwrap_or(&finding.id));
    let id = if matches!(finding.kind, "name") { finding.id.clone() } else { id };
    [finding.kind, &id, finding.problem, &finding.path, &finding.detail].map(visible)
}
