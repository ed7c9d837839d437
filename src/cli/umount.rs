//! `layerctl umount`.

use std::time::Duration;

use clap::Args;

use super::{Context, for_each};
use crate::commands;
use crate::error::Result;

/// End mounts, and keep the containers
///
/// Returns when all changes are on the disk and the server is gone. It ends the mount also for other mount namespaces that have
/// a copy of it. Something that was written and found no room is named, and the exit status is 125.
#[derive(Debug, Args)]
pub(super) struct Umount {
    /// Unmount also what is in use: it vanishes at once, and ends when its last user does
    #[arg(long, short, conflicts_with = "force")]
    lazy: bool,
    /// End it also while it is used, and when its server does not answer: what was not written then is lost, and said to be
    #[arg(long, short)]
    force: bool,
    /// How long to wait for a server that shows no progress; then it stays mounted, or with --force is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// Containers, or mountpoints
    #[arg(required = true, value_name = "CONTAINER|MOUNTPOINT")]
    targets: Vec<String>,
}

impl Umount {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let patience = Duration::from_secs(self.timeout);
        let how = commands::Umount { lazy: self.lazy, force: self.force, patience };
        Ok(for_each(&self.targets, |target| commands::umount(&context.store, target, how)))
    }
}
