//! `layerctl build`.

use std::path::PathBuf;

use clap::Args;

use super::Context;
use super::bars::Bars;
use super::config_options::{CONFIG_HELP, ConfigOptions};
use crate::commands::{self, ImportLimits};
use crate::error::{Error, Result};
use crate::id::ImageName;

/// Make an image of tars and directories, and print its id
///
/// Each LAYER is one layer, the lowest first: a tar, plain or compressed with gzip, zstd, xz or bzip2, - for one on standard
/// input, or a directory. They come on top of the image that --from names, or of nothing. Layers that the store has are used,
/// and not unpacked again. All of the image comes into the store, or nothing.
///
/// Of a directory all is taken that is in it, but not its own owner, mode and time: hard links, devices, extended attributes
/// and access lists too, but no sockets and no labels of SELinux and IMA. What is .wh.NAME in it hides NAME of the layers below, .wh..wh..opq all that
/// they have in its directory; so do overlayfs' whiteouts. The same files give the same layer, whenever and in whatever order
/// they were made.
#[derive(Debug, Args)]
#[command(after_long_help = CONFIG_HELP)]
pub(super) struct Build {
    /// The image below: a name, an id, or the beginning of one
    #[arg(long, value_name = "IMAGE")]
    from: Option<String>,
    /// A name for the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<String>,
    #[command(flatten)]
    config: ConfigOptions,
    /// A config in place of that of the image below: an image's JSON, or the config object in it
    #[arg(long, value_name = "FILE")]
    config_from: Option<PathBuf>,
    /// Raise or lower a limit for tars, as `import` has them; may be given several times
    #[arg(long = "limit", value_name = "NAME=VALUE", value_delimiter = ',')]
    limits: Vec<String>,
    /// Write the image's id to a file too
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Do not wait until all is on the disk: faster, but after a power cut the image may be damaged
    #[arg(long)]
    no_sync: bool,
    /// Tars and directories, lowest first
    #[arg(value_name = "LAYER")]
    layers: Vec<PathBuf>,
}

impl Build {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let name = |text: &String| text.parse::<ImageName>().map_err(|error| Error::Usage(error.to_string()));
        let mut limits = ImportLimits::default();
        self.limits.iter().try_for_each(|limit| limits.set(limit))?;
        let request = commands::Build {
            limits,
            from: self.from.clone(),
            layers: self.layers.clone(),
            names: self.tags.iter().map(name).collect::<Result<_>>()?,
            config_from: self.config_from.clone(),
            settings: self.config.settings()?,
            id_file: self.iidfile.clone(),
        };
        let store = if self.no_sync { context.store.without_sync() } else { context.store.clone() };
        let id = commands::build(&store, &request, &Bars::new(context.quiet))?;
        if context.output.is_json() {
            context.output.json(&serde_json::json!(id))?;
        } else {
            context.output.line(&id.to_string())?;
        }
        Ok(0)
    }
}
