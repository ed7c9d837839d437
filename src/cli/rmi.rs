//! `layerctl rmi`.

use clap::Args;

use super::{Context, for_each, forgive};
use crate::error::Result;
use crate::store::Removed;

/// Remove images, or names of images that have several
///
/// With its last name goes the image, and with it the layers that nothing else needs. An image from which a
/// container is made stays.
#[derive(Debug, Args)]
pub(super) struct Rmi {
    /// Take all its names off an image that an id names; what is not there is no failure
    #[arg(long, short)]
    force: bool,
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Rmi {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        Ok(for_each(&self.images, |image| {
            let (gone, left) = match context.store.remove_image(image, self.force) {
                Err(error) if self.force => return forgive(error),
                gone => gone?,
            };
            for removed in gone {
                context.output.line(&match removed {
                    Removed::Name(name) => format!("Untagged: {name}"),
                    Removed::Image(id) => format!("Deleted: {id}"),
                    Removed::Layer(layer) => format!("Deleted: {layer}"),
                })?;
            }
            left
        }))
    }
}
