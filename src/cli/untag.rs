//! `layerctl untag`.

use clap::Args;

use super::{Context, for_each};
use crate::error::Result;

/// Take names off images, and keep the images
///
/// An image without a name is found by its id, and goes with the next `prune` unless a container is made from it.
#[derive(Debug, Args)]
pub(super) struct Untag {
    /// The names; an id is none
    #[arg(required = true, value_name = "NAME[:TAG]")]
    names: Vec<String>,
}

impl Untag {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        Ok(for_each(&self.names, |name| context.store.remove_image_name(name).map(drop)))
    }
}
