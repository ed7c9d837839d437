//! `layerctl import`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::bars::Bars;
use super::{Context, say};
use crate::archive::Note;
use crate::commands::{self, ImportLimits, ImportOptions, Policy, TakenAs};
use crate::error::{Error, Result};
use crate::id::ImageName;
use crate::image::{Platform, Platforms};

/// Import images from an archive, and print their ids
///
/// What SOURCE is, is found out from all that is in it: a docker-archive, an OCI layout (a directory or a tar), or
/// the tar of a root file system, which becomes an image of one layer, and is said to. Layers and archives may be
/// plain or compressed with gzip, zstd, xz or bzip2. Layers that the store has are not unpacked again. What an index
/// names and is no image is passed over. All images of an archive come into the store, or nothing.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The archive, or - for standard input
    source: PathBuf,
    /// A name for the image, in place of those in the archive; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<String>,
    /// Which image to take where an image index has several: OS/ARCH[/VARIANT], or all [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Take SOURCE for an archive of images, or for a root file system, and do not find out
    #[arg(long = "as", value_enum, value_name = "image|rootfs", hide_possible_values = true)]
    taken_as: Option<TakenAsWord>,
    /// Raise or lower a limit: layer=SIZE (unpacked, 64g), total=SIZE (all layers, and holes of the archive's members,
    /// 256g), ratio=N (of what was compressed, 100), entries=N (4000000), index=SIZE (paths, links and attributes of a layer, 1g), depth=N (2048),
    /// path=SIZE (4096), headers=SIZE (PAX and long names of a file, 1m), xattrs=SIZE (of a file, 1m), extents=N (of a
    /// sparse file, 1048576), document=SIZE (JSON, 4m), documents=SIZE (48m), names=N (images and their names, 10000), spool=SIZE
    /// (an archive that must be unpacked before it can be read, 64g);
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

/// [`TakenAs`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TakenAsWord {
    Image,
    Rootfs,
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
            platforms: match &self.platform {
                Some(text) => text.parse()?,
                None => Platforms::Best(Platform::host()),
            },
            taken_as: match self.taken_as {
                None => TakenAs::Found,
                Some(TakenAsWord::Image) => TakenAs::Image,
                Some(TakenAsWord::Rootfs) => TakenAs::RootFileSystem,
            },
        };
        let store = if self.no_sync { context.store.without_sync() } else { context.store.clone() };
        let imported = commands::import(&store, &self.source, &options, &Bars::new(context.quiet))?;
        let source = self.source.display();
        for Note { member, why } in imported.passed_over.iter().filter(|_| !context.quiet) {
            say(&format!("{source}: {member}: passed over: it {why}"));
        }
        if imported.is_root_file_system {
            say(&format!("{source}: imported as a root file system of one layer"));
        }
        let ids = imported.ids;
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
