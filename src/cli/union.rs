//! `layerctl union`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::Context;
use crate::error::Result;
use crate::ops::{self, UnionOptions};

/// Mount a union of plain directories
///
/// Options, separated by commas: dirs=DIR=rw:DIR=ro:... (also br:...), uppermost first, where the first is rw and
/// the others ro if nothing is said; or lowerdir=DIR:DIR...,upperdir=DIR,workdir=DIR; ro, nosuid, nodev, noexec,
/// noatime and the other flags of mount(8); fsname=NAME; remount; io=cached or io=passthrough (see run-mount). A : , or = in a directory's name is written
/// after a backslash. Whiteouts are understood in AUFS' and in overlayfs' spelling.
///
/// Installed as mount.fuse.layerctl, the same is done by `mount -t fuse.layerctl SOURCE MOUNTPOINT -o OPTIONS`.
#[derive(Debug, Args)]
pub(super) struct Union {
    /// The directories, and the options of mount(8)
    #[arg(short, value_name = "OPTIONS", required = true)]
    options: Vec<OsString>,
    /// An empty directory
    mountpoint: PathBuf,
}

impl Union {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let mut options = UnionOptions::default();
        self.options.iter().try_for_each(|text| options.read(text))?;
        ops::union(&context.store, &options, &self.mountpoint)?;
        Ok(0)
    }
}
