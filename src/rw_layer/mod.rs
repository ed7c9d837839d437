//! A container's rw layer in whichever spelling it is: [read](read()), and brought [into the other one](make).
//!
//! | spelling | written by | how it is read here |
//! |---|---|---|
//! | AUFS' | our union | as the upper of a union |
//! | overlayfs' | the kernel, with `--io kernel` | as the nearest layer of a union ([`Union::open_changed`]) |
//!
//! Overlayfs writes to the files of its upper directory themselves, so that what is read there is what programs have written,
//! while it is mounted too.

mod links;
mod rebuild;

pub(crate) use links::make_links_whole;

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Context as _, Error, Result};
use crate::index::{Indexed, ScanError, overlay_index, scan_overlay_upper};
use crate::private_xattr;
use crate::stack::{Lower, Stack};
use crate::store::{Container, Spelling, Store};
use crate::sys::{Dir, fs};
use crate::union::Union;

/// A rename may be under way while a live rw layer is read, which then is read again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Opens what a container shows that no other process has.
///
/// # Errors
/// When a layer is missing or damaged; when the rw layer cannot be read.
pub(crate) fn read(store: &Store, container: &Container) -> Result<Union> {
    match container.spelling()? {
        Spelling::Aufs => Union::open_to_read(store.stack(container)?).doing("open", container.upper()),
        Spelling::Overlayfs => overlay_view(store, container),
    }
}

/// The same of one that overlayfs has mounted. One that is read-only may never have been written to.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_live(store: &Store, container: &Container) -> Result<Union> {
    let mut tries = 0..TRIES;
    loop {
        match read(store, container) {
            Err(Error::Io { .. }) if tries.next().is_some() => std::thread::sleep(PAUSE),
            viewed => return viewed,
        }
    }
}

/// Whether nothing was ever written to the rw layer of a container, so that it is in each spelling.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn is_fresh(container: &Container) -> Result<bool> {
    let upper = container.upper();
    if container.spelling()? != Spelling::Aufs || !is_empty(&upper).doing("read", &upper)? {
        return Ok(false);
    }
    let root = std::fs::File::open(&upper).doing("open", &upper)?;
    Ok(private_xattr::recorded_prefix(root.as_fd()).doing("look at", &upper)?.is_none())
}

fn is_empty(dir: &Path) -> rustix::io::Result<bool> {
    for entry in Dir::open(dir)? {
        if !entry?.is_dots() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Brings the rw layer of a container, whose lock is held, into a spelling. Killed at any moment, it is in the one or in the other.
///
/// # Errors
/// [`Error::Unsupported`] for what that spelling cannot say.
pub(crate) fn make(store: &Store, container: &Container, wanted: Spelling) -> Result<()> {
    if container.spelling()? == wanted {
        return Ok(());
    }
    let union = read(store, container)?;
    let staging = store.stage()?;
    let made = staging.dir().join("rw");
    fs::create_dir(&made).doing("create", &made)?;
    rebuild::rebuild(&union, container, &made, wanted)?;
    drop(union);
    store.replace_rw_layer(container, &staging, &made, wanted)
}

fn overlay_view(store: &Store, container: &Container) -> Result<Union> {
    let mut shared = overlay_index(&container.overlay_index()).map_err(unreadable)?;
    let first = first_view(store, container)?;
    if shared.is_empty() {
        return Ok(first);
    }
    // The other names of copies are those that the layers still show.
    for file in &mut shared {
        file.names = first.paths_of(file.number, file.generation);
    }
    view_with(store, container, &shared)
}

/// The same with what is in the upper directory only: the other names of files that overlayfs' index has are those of the layers.
fn first_view(store: &Store, container: &Container) -> Result<Union> {
    view_with(store, container, &[])
}

fn view_with(store: &Store, container: &Container, shared: &[Indexed]) -> Result<Union> {
    let upper = container.upper();
    let mut lowers = store.lowers(&container.record.layers)?;
    lowers.reverse();
    let stack = Stack { upper: None, lowers, lowers_are_immutable: true, mount_points: None };
    let index = Arc::new(scan_overlay_upper(&upper, shared).map_err(unreadable)?);
    Union::open_changed(stack, Lower { dir: upper.clone(), index }).doing("open", &upper)
}

fn unreadable(ScanError { path, source }: ScanError) -> Error {
    Error::Io { doing: "read", path, source }
}

/// A path of a rw layer, as the user knows it.
fn shown(path: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new("/").join(std::ffi::OsStr::from_bytes(path))
}
