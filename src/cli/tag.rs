//! `layerctl tag`.

use clap::Args;

use super::Context;
use crate::error::{Error, Result};
use crate::id::ImageName;

/// Give an image more names
///
/// It gets all of them, or none. An image that had one of them before is without it, and stays.
#[derive(Debug, Args)]
pub(super) struct Tag {
    /// A name, an id, or the beginning of one
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The new names
    #[arg(required = true, value_name = "NAME[:TAG]")]
    names: Vec<String>,
}

impl Tag {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let name = |text: &String| text.parse::<ImageName>().map_err(|error| Error::Usage(error.to_string()));
        let names = self.names.iter().map(name).collect::<Result<Vec<_>>>()?;
        context.store.add_image_names(&self.image, &names)?;
        Ok(0)
    }
}
