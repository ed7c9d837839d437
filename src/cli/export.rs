//! `layerctl export`.

use std::path::PathBuf;

use clap::Args;

use super::Context;
use crate::commands;
use crate::error::Result;

/// Write all that a container or image shows, as one tar
///
/// Owners, modes, times, devices, extended attributes with access lists, and hard links are as in a mount; what was deleted
/// is not there, nor are sockets. The same tree gives the same tar. Nothing is mounted for it; of a mounted container the
/// mount is read.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// A file, or - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// A name, an id, or the beginning of one
    #[arg(value_name = "CONTAINER|IMAGE")]
    name: String,
}

impl Export {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        commands::export(&context.store, &self.name, &self.output)?;
        Ok(0)
    }
}
