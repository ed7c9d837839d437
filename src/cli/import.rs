//! `layerctl import`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::Context;
use super::bars::Bars;
use crate::archive::Platform;
use crate::error::{Error, Result};
use crate::id::ImageName;
use crate::ops::{self, ImportLimits, ImportOptions, Policy};

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
    /// Raise or lower a limit: layer=SIZE (unpacked, 64g), total=SIZE (all layers, 256g), ratio=N (of what was
    /// compressed, 100), entries=N (4000000), index=SIZE (paths, links and attributes of a layer, 1g), depth=N (2048),
    /// path=SIZE (4096), headers=SIZE (PAX and long names of a file, 1m), xattrs=SIZE (of a file, 1m), extents=N (of a
    /// sparse file, 1048576), document=SIZE (JSON, 4m), documents=SIZE (48m), names=N (images and their names, 10000);
    /// may be given several times
    #[arg(long = "limit", value_name = "NAME=VALUE", value_delimiter = ',')]
    limits: Vec<String>,
    /// Write what is odd about each layer to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Refuse what the formats forbid, or take what Docker takes
    #[arg(long, value_enum, default_value_t, value_name = "compat|strict", hide_possible_values = true)]
    policy: PolicyWord,
    /// Do not wait until all is on the disk: faster, but after a power cut the images may be damaged
    #[arg(long)]
    no_sync: bool,
}

/// [`Policy`] on the command line.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum PolicyWord {
    #[default]
    Compat,
    Strict,
}

impl Import {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let name = |text: &String| text.parse::<ImageName>().map_err(|error| Error::Usage(error.to_string()));
        if self.report.as_deref() == Some(Path::new("-")) {
            return Err(Error::Usage("a report needs a file: the ids go to standard output".into()));
        }
        let mut limits = ImportLimits::default();
        self.limits.iter().try_for_each(|limit| limits.set(limit))?;
        let options = ImportOptions {
            limits,
            policy: match self.policy {
                PolicyWord::Compat => Policy::Compat,
                PolicyWord::Strict => Policy::Strict,
            },
            report: self.report.clone(),
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
