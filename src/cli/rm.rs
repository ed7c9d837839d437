//! `layerctl rm`.

use clap::Args;

use super::{Context, for_each};
use crate::error::Result;
use crate::ops;

/// Remove containers with all that was written in them
#[derive(Debug, Args)]
pub(super) struct Rm {
    /// Unmount them first, also when they are in use; a command that runs in one is killed
    #[arg(long, short)]
    force: bool,
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Rm {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        Ok(for_each(&self.containers, |name| {
            let removed = ops::remove(&context.store, name, self.force)?;
            context.output.line(&removed)
        }))
    }
}
