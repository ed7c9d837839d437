//! `layerctl commit`.

use clap::Args;

use super::Context;
use crate::error::{Error, Result};
use crate::id::ImageName;
use crate::ops;

/// Make an image of a container's changes, and print its id
///
/// The rw layer becomes one more layer over those of the container's image. With SOURCE_DATE_EPOCH set, the same
/// changes give the same image.
#[derive(Debug, Args)]
pub(super) struct Commit {
    /// A name for the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<String>,
    /// What the image's history says of it
    #[arg(short, long)]
    message: Option<String>,
    /// A name, an id, or the beginning of one; it must not be mounted
    container: String,
}

impl Commit {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let name = |text: &String| text.parse::<ImageName>().map_err(|error| Error::Usage(error.to_string()));
        let request = ops::Commit {
            container: self.container.clone(),
            names: self.tags.iter().map(name).collect::<Result<_>>()?,
            message: self.message.clone(),
        };
        let id = ops::commit(&context.store, &request)?;
        if context.output.is_json() {
            context.output.json(&serde_json::json!(id))?;
        } else {
            context.output.line(&id.to_string())?;
        }
        Ok(0)
    }
}
