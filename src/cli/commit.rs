//! `layerctl commit`.

use clap::Args;

use super::Context;
use super::config_options::{CONFIG_HELP, ConfigOptions};
use crate::commands::{self, Setting};
use crate::error::{Error, Result};
use crate::id::ImageName;

/// Make an image of a container's changes, and print its id
///
/// The rw layer becomes one more layer over those of the container's image: only what has changed, hard links as links.
/// Where nothing has, there is no layer more, only one more step in the image's history.
///
/// A container may be mounted. The layer has all that was written in it before, whether that is on the disk yet or not. With
/// `run-mount --io kernel` a command's processes are frozen meanwhile, and a mount without a command is read-only: that is refused
/// while a file is open to write.
#[derive(Debug, Args)]
#[command(after_long_help = CONFIG_HELP)]
pub(super) struct Commit {
    /// A name for the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<String>,
    /// What the image's history says of it
    #[arg(short, long)]
    message: Option<String>,
    /// The author that the image's config and history name
    #[arg(short, long)]
    author: Option<String>,
    /// Let changes in a mounted container wait until its layer is packed; this is so without being said
    #[arg(
        short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = true, hide_default_value = true, action = clap::ArgAction::Set, hide_possible_values = true
    )]
    pause: bool,
    /// Let them go on: each file is as it was at one moment, but not all at the same
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    config: ConfigOptions,
    /// A name, an id, or the beginning of one
    container: String,
    /// A name for the image, as --tag gives it
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

impl Commit {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let name = |text: &String| text.parse::<ImageName>().map_err(|error| Error::Usage(error.to_string()));
        let author = self.author.iter().map(|author| Setting::Image("author", author.clone().into()));
        let request = commands::Commit {
            container: self.container.clone(),
            names: self.tags.iter().chain(&self.name).map(name).collect::<Result<_>>()?,
            message: self.message.clone(),
            live: self.live || !self.pause,
            settings: self.config.settings()?.into_iter().chain(author).collect(),
        };
        let id = commands::commit(&context.store, &request)?;
        if context.output.is_json() {
            context.output.json(&serde_json::json!(id))?;
        } else {
            context.output.line(&id.to_string())?;
        }
        Ok(0)
    }
}
