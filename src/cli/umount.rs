//! `layerctl umount`.

use clap::Args;

use super::{Context, for_each};
use crate::error::Result;
use crate::ops;

/// End mounts, and keep the containers
///
/// Returns when all changes are on the disk and the server is gone.
#[derive(Debug, Args)]
pub(super) struct Umount {
    /// Unmount also what is in use: it vanishes at once, and ends when its last user does
    #[arg(long, short)]
    lazy: bool,
    /// Containers, or mountpoints
    #[arg(required = true, value_name = "CONTAINER|MOUNTPOINT")]
    targets: Vec<String>,
}

impl Umount {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        Ok(for_each(&self.targets, |target| ops::umount(&context.store, target, self.lazy)))
    }
}
