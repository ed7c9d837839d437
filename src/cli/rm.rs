//! `layerctl rm`.

use clap::Args;

use super::{Context, for_each, forgive};
use crate::commands;
use crate::error::Result;

/// Remove containers with all that was written in them
///
/// With --force the exit status is 0 also when one of them is not there, as Docker and podman have it.
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
        Ok(for_each(&self.containers, |name| match commands::remove(&context.store, name, self.force) {
            Ok(removed) => context.output.line(&removed),
            Err(error) if self.force => forgive(error),
            Err(error) => Err(error),
        }))
    }
}
