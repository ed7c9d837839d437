//! `layerctl import`.

use std::path::PathBuf;

use clap::Args;

use super::Context;
use super::bars::Bars;
use crate::archive::Platform;
use crate::error::{Error, Result};
use crate::id::ImageName;
use crate::ops::{self, ImportOptions};

/// Import images from an archive, and print their ids
///
/// What SOURCE is, is found out from its bytes: a docker-archive, an OCI layout (a directory or a tar), or
/// the tar of a root file system, which becomes an image of one layer. Layers and archives may be plain or
/// compressed with gzip, zstd, xz or bzip2. Layers that the store has are not unpacked again. All of an
/// archive comes into the store, or nothing.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The archive, or - for standard input
    source: PathBuf,
    /// A name for the image, in place of those in the archive; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<String>,
    /// Which image to take where an archive has several: OS/ARCH[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Do not wait until all is on the disk: faster, but after a power cut the images may be damaged
    #[arg(long)]
    no_sync: bool,
}

impl Import {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let name = |text: &String| text.parse::<ImageName>().map_err(|error| Error::Usage(error.to_string()));
        let options = ImportOptions {
            names: self.tags.iter().map(name).collect::<Result<_>>()?,
            platform: self.platform.as_ref().map_or_else(|| Ok(Platform::host()), |text| text.parse())?,
        };
        let store = if self.no_sync { context.store.without_sync() } else { context.store.clone() };
        let ids = ops::import(&store, &self.source, &options, &Bars::new(context.quiet))?;
        if context.output.is_json() {
            context.output.json(&serde_json::json!(ids))?;
        } else {
            for id in ids {
                context.output.line(&id.to_string())?;
            }
        }
        Ok(0)
    }
}
