//! `layerctl prune`.

use clap::Args;
use serde_json::json;

use super::Context;
use super::output::size;
use crate::commands;
use crate::error::Result;
use crate::store::{PruneScope, Usage};

/// Remove unreferenced images, layers, and leftovers of dead processes
///
/// Removes images without a name of which no container is made, layers to which no image or container refers, and what
/// processes that died have left. Damaged objects are removed like others. Objects in use stay.
#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Also images with names of which no container is made
    #[arg(long, short)]
    all: bool,
    /// Also containers that are not mounted, with all that was written in them
    #[arg(long)]
    containers: bool,
    /// Docker's: nothing is asked here
    #[arg(long, short, hide = true)]
    force: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let scope = PruneScope { all: self.all, containers: self.containers };
        let commands::Prune { pruned, failure } = commands::prune(&context.store, scope, self.dry_run)?;
        let total: Usage = pruned.iter().map(|one| one.usage).sum();
        if context.output.is_json() {
            let things = pruned.iter().map(
                |one| json!({ "Kind": one.kind, "Id": one.id, "Bytes": one.usage.bytes, "Inodes": one.usage.inodes }),
            );
            context.output.json(&json!({
                "DryRun": self.dry_run, "Removed": things.collect::<Vec<_>>(), "Bytes": total.bytes,
                "Inodes": total.inodes,
            }))?;
            return failure.map_or(Ok(0), Err);
        }
        let word = if self.dry_run { "Would delete" } else { "Deleted" };
        for one in &pruned {
            context.output.line(&format!("{word}: {} {}", one.kind, one.id.escape_debug()))?;
        }
        let word = if self.dry_run { "Reclaimable" } else { "Reclaimed" };
        context.output.line(&format!("{word}: {} in {} inodes", size(total.bytes), total.inodes))?;
        failure.map_or(Ok(0), Err)
    }
}
