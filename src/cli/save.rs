//! `layerctl save`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Context;
use super::bars::Bars;
use crate::commands::{self, SaveForm};
use crate::error::Result;
use crate::tarball::Codec;

/// Write images to an archive, for docker load, podman load, skopeo and others
///
/// Without an option the archive is a docker-archive and an OCI layout in one tar, as Docker writes it since
/// version 25, and older versions read it too. Configs and layers come out bit for bit as they came in, so that all
/// ids stay; this is proven while they are written. The same images give the same archive.
///
/// A file appears when all is in it and on the disk, or not at all; so does a directory.
#[derive(Debug, Args)]
pub(super) struct Save {
    /// A file; - for standard output; or a directory for an OCI layout: one that is there and empty, or
    /// any new name with a / at its end
    #[arg(short, long, value_name = "FILE|DIR", default_value = "-")]
    output: PathBuf,
    /// Only an OCI layout
    #[arg(long, conflicts_with = "docker")]
    oci: bool,
    /// Only a docker-archive, as Docker wrote it before version 25
    #[arg(long)]
    docker: bool,
    /// How layers are written
    #[arg(long, value_enum, value_name = "CODEC", default_value = "none")]
    compress: Compress,
    /// Names, ids, or beginnings of ids. Only names that are given here go into the archive
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compress {
    None,
    Gzip,
    Zstd,
}

impl Save {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let request = commands::Save {
            images: self.images.clone(),
            output: self.output.clone(),
            form: match (self.oci, self.docker) {
                (true, _) => SaveForm::Oci,
                (_, true) => SaveForm::Docker,
                _ => SaveForm::Both,
            },
            codec: match self.compress {
                Compress::None => Codec::None,
                Compress::Gzip => Codec::Gzip,
                Compress::Zstd => Codec::Zstd,
            },
        };
        commands::save(&context.store, &request, &Bars::new(context.quiet))?;
        Ok(0)
    }
}
