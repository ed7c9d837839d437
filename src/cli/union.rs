//! `layerctl union`, and the same as another program calls it: `layerctl-union`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Args, Parser};

use super::Context;
use crate::commands::{self, UnionOptions};
use crate::error::Result;

/// The name under which programs call us that want a union mounted, as podman's `mount_program`.
const PROGRAM: &str = "layerctl-union";

/// Mount a union of plain directories
///
/// Options, separated by commas: dirs=DIR=rw:DIR=ro:... (also br:...), uppermost first, where the first is rw and
/// the others ro if nothing is said; or lowerdir=DIR:DIR...,upperdir=DIR,workdir=DIR, and lowerdir+=DIR for one more; ro,
/// nosuid, nodev, noexec, noatime, private and the other flags of mount(8); fsname=NAME; remount; io=cached,
/// io=passthrough or io=kernel (see run-mount; this one needs workdir, and an upperdir without AUFS' whiteouts). A : , or = in a directory's name is written after a backslash. Whiteouts are understood in AUFS' and in
/// overlayfs' spelling.
///
/// volatile: fsync waits for nothing. uidmapping=DISK:SHOWN:COUNT:... and gidmapping=...: owners are shown with other ids.
/// squash_to_root, squash_to_uid=ID, squash_to_gid=ID: every file is shown as theirs. noacl: no POSIX access lists. Options by
/// which other unions are tuned (index, metacopy, xino, timeout, ...) are accepted and change nothing; those that would
/// protect something (verity=require, ...) are refused.
///
/// A lower directory may be what was the upper of another union: its renamed directories and metadata-only copies are found in
/// the directories after it. redirect_dir=nofollow and metacopy=off refuse such a directory; userxattr lets marks count that an
/// ordinary user could have set.
///
/// Installed as mount.fuse.layerctl, the same is done by `mount -t fuse.layerctl SOURCE MOUNTPOINT -o OPTIONS`, which
/// registers the mount in the store if there is one, and makes none.
///
/// Installed as layerctl-union, the same is done by `layerctl-union -o OPTIONS MOUNTPOINT`, without a store, which is what
/// podman's `--storage-opt overlay.mount_program=PROGRAM` needs.
#[derive(Debug, Args)]
pub(super) struct Union {
    /// The directories, and the options of mount(8)
    #[arg(short, value_name = "OPTIONS", required = true)]
    options: Vec<OsString>,
    /// An empty directory
    mountpoint: PathBuf,
}

/// Mount a union of plain directories, without a store
///
/// `layerctl help union` lists the options. The mountpoint need not be empty.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = 100)]
pub(super) struct UnionProgram {
    #[command(flatten)]
    union: Union,
}

impl Union {
    fn options(&self) -> Result<UnionOptions> {
        let mut options = UnionOptions::default();
        self.options.iter().try_for_each(|text| options.read(text))?;
        Ok(options)
    }

    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        commands::union(&context.store, &self.options()?, &self.mountpoint)?;
        Ok(0)
    }
}

impl UnionProgram {
    /// Whether these are the words of `PROGRAM -o OPTIONS MOUNTPOINT`: by the program's name, or because `-o` comes first.
    pub(super) fn is_meant(args: &[OsString]) -> bool {
        let name = args.first().map(Path::new).and_then(Path::file_name);
        let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-o");
        name == Some(OsStr::new(PROGRAM)) || args.get(1).is_some_and(is_option)
    }

    pub(super) fn run(&self) -> Result<u8> {
        commands::mount_program(&self.union.options()?, &self.union.mountpoint)?;
        Ok(0)
    }
}
