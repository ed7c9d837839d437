//! `layerctl exists`.

use clap::Args;

use super::Context;
use crate::commands::{self, Kind};
use crate::error::Result;

/// Say by the exit status whether there is a container, image or layer: 0 yes, 1 no
///
/// Nothing is printed. A store that cannot be read, and something damaged, is neither: that is 125, and the beginning of
/// several ids 2, with a sentence on standard error.
#[derive(Debug, Args)]
pub(super) struct Exists {
    /// Only a container
    #[arg(long, conflicts_with_all = ["image", "layer"])]
    container: bool,
    /// Only an image
    #[arg(long, conflicts_with = "layer")]
    image: bool,
    /// Only a layer
    #[arg(long)]
    layer: bool,
    /// A name, an id, or the beginning of one
    name: String,
}

impl Exists {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let asked = [(self.container, Kind::Container), (self.image, Kind::Image), (self.layer, Kind::Layer)];
        let any = !asked.iter().any(|(is_asked, _)| *is_asked);
        let kinds: Vec<Kind> = asked.iter().filter(|(is_asked, _)| *is_asked || any).map(|(_, kind)| *kind).collect();
        Ok(u8::from(!commands::exists(&context.store, &kinds, &self.name)?))
    }
}
