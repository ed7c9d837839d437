//! `layerctl cp`.

use std::ffi::OsString;

use clap::Args;

use super::Context;
use crate::commands::{self, ImportLimits, Place};
use crate::error::Result;

/// Copy files between a container and the host, without a mount
///
/// One side is CONTAINER:PATH, where PATH counts from the container's root and no link leads out of it; the other a path, or
/// - for a tar on standard output or input. A path that has a colon is written with / or ./ in front.
///
/// A directory is copied with all that is in it, into a DEST that is a directory, or as DEST if there is none; of SRC/. only
/// what is in it. A file goes into a DEST that is a directory, or to that very name; its directory must be there. What DEST
/// has stays, but for files of the same names. A link is copied as a link, unless SRC ends with /. A tar on standard input,
/// which may be compressed, needs a DEST that is a directory.
///
/// A mounted container is written and read through its mount; its programs see the files at once.
#[derive(Debug, Args)]
pub(super) struct Cp {
    /// Keep owners, set-id bits and extended attributes; else all is root's in a container, and yours on the host
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link at SRC leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Raise or lower a limit for a tar on standard input, as `import` has them; may be given several times
    #[arg(long = "limit", value_name = "NAME=VALUE", value_delimiter = ',')]
    limits: Vec<String>,
    /// CONTAINER:PATH, a path, or -
    #[arg(value_name = "SRC")]
    from: OsString,
    /// A path, -, or CONTAINER:PATH
    #[arg(value_name = "DEST")]
    to: OsString,
}

impl Cp {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let mut limits = ImportLimits::default();
        self.limits.iter().try_for_each(|limit| limits.set(limit))?;
        let request = commands::Copy {
            limits,
            from: Place::parse(&self.from),
            to: Place::parse(&self.to),
            archive: self.archive,
            follow: self.follow_link,
        };
        commands::copy(&context.store, &request)?;
        Ok(0)
    }
}
