//! `union`, and `mount.fuse.layerctl`: plain directories as one tree.

use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};
use crate::fuse;
use crate::mount::kernel;
use crate::mount::launch::launch;
use crate::mount::mountpoint;
use crate::mount::serve_spec::{PathBytes, ServeSpec, Source};
use crate::mount_options::{HelperRequest, UnionOptions};
use crate::store::Store;
use crate::sys::{Upper, fs};

const DEFAULT_SOURCE: &str = "layerctl";

/// Mounts the union that `options` describe, and returns when it is live; or changes the flags of one that is.
///
/// # Errors
/// [`Error::NotFound`] for a directory that is not there; [`Error::Usage`] without any; others as for `run-mount`.
pub fn union(store: &Store, options: &UnionOptions, mountpoint: &Path) -> Result<()> {
    mount(Some(store), options, mountpoint, true)
}

/// The same as another program has a union mounted, which is how podman calls its `mount_program`: without a store, so that
/// none is made. Nothing is registered: the caller knows where its mounts are, and umount(8) or `fusermount3 -u` ends one.
///
/// # Errors
/// As [`union`].
pub fn mount_program(options: &UnionOptions, mountpoint: &Path) -> Result<()> {
    mount(None, options, mountpoint, false)
}

fn mount(store: Option<&Store>, options: &UnionOptions, mountpoint: &Path, must_be_empty: bool) -> Result<()> {
    if options.remount {
        let path = fs::canonicalize(mountpoint).doing("find", mountpoint)?;
        return match fuse::mount_at(&path)? {
            Some(mount) if mount.is_ours() => fuse::set_mount_flags(&path, options.flags),
            Some(over) if fuse::is_mountpoint(&path)? => Err(over.in_the_way()),
            _ => Err(Error::NotFound { kind: "mount", name: mountpoint.display().to_string() }),
        };
    }
    if options.upper.is_none() && options.lowers.is_empty() {
        return Err(Error::Usage(
            "no directories are given: use -o dirs=RW:RO... or -o lowerdir=...,upperdir=...".into(),
        ));
    }
    let branch = |dir: &PathBuf| directory(dir).map(|dir| PathBytes::from(dir.as_path()));
    let source = Source::Directories {
        upper: options.upper.as_ref().map(branch).transpose()?,
        lowers: options.lowers.iter().map(branch).collect::<Result<_>>()?,
        trust: options.trust,
    };
    let mountpoint = mountpoint::prepare(mountpoint, must_be_empty)?;
    let io = options.way()?;
    let spec = ServeSpec {
        root: store.map(|store| store.root().into()),
        source,
        mountpoint: mountpoint.as_path().into(),
        fsname: options.source.clone().unwrap_or_else(|| DEFAULT_SOURCE.to_owned()),
        flags: options.flags.bits(),
        io,
        behaviour: options.behaviour.clone(),
        tied: false,
    };
    if io != fuse::Io::Kernel {
        return launch(&spec, None).map(drop);
    }
    let store = store.ok_or_else(|| Error::Usage("io=kernel needs a store: name one with --root".into()))?;
    let upper = options.overlay_upper()?;
    let upper = Upper { dir: directory(&upper.dir)?, work: directory(&upper.work)?, ..upper };
    kernel::union(store, ServeSpec { io: fuse::Io::Cached, ..spec }, upper)
}

fn directory(path: &Path) -> Result<PathBuf> {
    let missing = || Error::NotFound { kind: "directory", name: path.display().to_string() };
    let found = match fs::canonicalize(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
        found => found.doing("find", path)?,
    };
    if fs::metadata(&found).doing("open", path)?.is_dir() {
        Ok(found)
    } else {
        Err(Error::Usage(format!("{} is not a directory", path.display())))
    }
}

/// What mount(8) asks of a helper: `mount.fuse.layerctl SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS] [-t TYPE]`. Where there is a
/// store, the mount is registered there.
///
/// # Errors
/// As [`union`]; [`Error::Usage`] for other arguments.
pub fn mount_helper(store: Option<&Store>, args: &[std::ffi::OsString]) -> Result<()> {
    let HelperRequest { options, mountpoint, is_fake } = HelperRequest::read(args)?;
    // A caller of mount(8) may mount over anything.
    if is_fake { Ok(()) } else { mount(store, &options, &mountpoint, false) }
}
