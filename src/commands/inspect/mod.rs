//! `inspect`: what is known of a container, an image, a layer or a mount, under Docker's field names.

mod container;
mod image;

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Context as _, Error, Result};
use crate::id::DiffId;
use crate::mount::live;
use crate::store::Store;
use crate::sys::fs;

/// Describes what has this name: a container, an image, a layer, or a mountpoint, in this order.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Ambiguous`] for the beginning of several ids.
pub fn inspect(store: &Store, name: &str) -> Result<Value> {
    // Something found under another kind is meant, before something ambiguous under this one.
    let mut ambiguous = None;
    let found = [
        store.find_container(name).and_then(|container| container::value(store, &container)),
        store.find_image(name).and_then(|found| image::image(store, found.id())),
        store.find_layer(name).and_then(|layer| image::layer(store, layer)),
        mount_value(store, name),
    ];
    for result in found {
        match result {
            Err(Error::NotFound { kind: "container" | "image" | "layer" | "mount", .. }) => {}
            Err(error @ Error::Ambiguous { .. }) => ambiguous = Some(error),
            result => return result,
        }
    }
    Err(ambiguous.unwrap_or_else(|| Error::NotFound { kind: "object", name: name.to_owned() }))
}

/// JSON has no other bytes than text: what is not UTF-8 becomes U+FFFD.
fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Nearest first, as overlayfs and Docker write it.
fn lower_dirs(store: &Store, layers: &[DiffId]) -> String {
    let dirs = layers.iter().rev().map(|layer| store.diff_dir(&layer.hex()).display().to_string());
    dirs.collect::<Vec<_>>().join(":")
}

const NO_PATH: [ErrorKind; 3] = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::InvalidFilename];

fn mount_value(store: &Store, name: &str) -> Result<Value> {
    let missing = || Error::NotFound { kind: "mount", name: name.to_owned() };
    let path = match fs::canonicalize(name) {
        // Not every name is a path.
        Err(error) if NO_PATH.contains(&error.kind()) => return Err(missing()),
        found => found.doing("find", name)?,
    };
    let dir = live::at_mountpoint(&store.run_dir(), &path)?.ok_or_else(missing)?;
    let live = live::ask(&dir)?.ok_or_else(missing)?;
    Ok(json!({
        "Mountpoint": text(&live.record.mountpoint),
        "Pid": live.record.pid,
        "Volatile": live.record.volatile,
        "Branches": live.branches,
        "Messages": live.messages,
    }))
}
