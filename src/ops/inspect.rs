//! `inspect`: what is known of a container, an image, a layer or a mount, under Docker's field names.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};

use super::live::{self, LiveBranch};
use super::name_files;
use super::timestamp::rfc3339;
use super::wait::say;
use crate::archive::ImageConfig;
use crate::error::{Context as _, Error, Result, readable};
use crate::id::{ChainId, DiffId, ImageId};
use crate::store::{Container, ContainerState, MountRecord, Store};
use crate::sys::fs;

/// Describes what has this name: a container, an image, a layer, or a mountpoint, in this order.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Ambiguous`] for the beginning of several ids.
pub fn inspect(store: &Store, name: &str) -> Result<Value> {
    // Something found under another kind is meant, before something ambiguous under this one.
    let mut ambiguous = None;
    let found = [
        store.find_container(name).and_then(|container| container_value(store, &container)),
        store.find_image(name).and_then(|found| image_value(store, found.id())),
        store.find_layer(name).and_then(|layer| layer_value(store, layer)),
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

fn container_value(store: &Store, container: &Container) -> Result<Value> {
    let state = container.state()?;
    let mount = container.mount()?;
    let is_live = matches!(state, ContainerState::Running | ContainerState::Dead);
    let running = mount.as_ref().filter(|_| state == ContainerState::Running);
    // By overlayfs, the server is that of the image.
    let server = |mount: &MountRecord| match mount.live_overlay() {
        Some(overlay) => overlay.image_server.clone(),
        None => mount.live.clone(),
    };
    let asked = running.map_or(Ok(None), |mount| live::ask(&store.run_dir().join(server(mount))));
    // error: the rest is known without its server, and is what is wanted of one that does not answer
    let live = asked.unwrap_or_else(|error| {
        say(&error.to_string());
        None
    });
    let branches = live.as_ref().map(|live| branches(container, running, &live.branches));
    let mountpoint = mount.as_ref().filter(|_| is_live).map(|mount| text(&mount.mountpoint));
    let config = readable(store.image(container.record.image))?;
    // error: nothing is read for it, and what is wrong with an image is said of the image
    let config = config.and_then(|image| ImageConfig::process(&image.config).ok());
    let layers = &container.record.layers;
    Ok(json!({
        "Id": container.id.hex(),
        "Name": container.record.name,
        "Created": rfc3339(container.record.created),
        "State": {
            "Status": state.word(),
            "Running": state == ContainerState::Running,
            "Dead": state == ContainerState::Dead,
            "Pid": running.map_or(0, |mount| mount.pid),
            "StartedAt": mount.as_ref().map(|mount| rfc3339(mount.started)),
        },
        "Image": container.record.image,
        "ImageName": container.record.image_name,
        "Config": config,
        "HostnamePath": name_file(container, "hostname")?,
        "HostsPath": name_file(container, "hosts")?,
        "ResolvConfPath": name_file(container, "resolv.conf")?,
        "Mountpoint": mountpoint,
        "ReadonlyRootfs": mount.as_ref().is_some_and(|mount| mount.read_only),
        "GraphDriver": {
            "Name": "layerctl",
            "Data": {
                "UpperDir": text(&container.upper()),
                "LowerDir": lower_dirs(store, layers),
                "MergedDir": mountpoint,
            },
        },
        "Branches": branches,
        "Messages": live.as_ref().map(|live| &live.messages),
    }))
}

/// Where the container's own file of this name is; empty, as Docker has it, as long as it has none, as with `--no-hosts`.
fn name_file(container: &Container, name: &str) -> Result<String> {
    let path = container.name_files().join(name);
    let is_there =
        name_files::names(container).any(|own| own == name) && fs::is_there(&path).doing("look at", &path)?;
    Ok(if is_there { text(&path) } else { String::new() })
}

/// The branches of a container's mount: by overlayfs, the rw layer comes over those of the image.
fn branches(container: &Container, mount: Option<&MountRecord>, served: &[LiveBranch]) -> Vec<LiveBranch> {
    if mount.and_then(MountRecord::live_overlay).is_none() {
        return served.to_vec();
    }
    let mode = if mount.is_some_and(|mount| mount.read_only) { "ro" } else { "rw" };
    let upper = LiveBranch { index: 0, path: container.upper(), mode: mode.to_owned(), id: container.id.hex() };
    let below = served.iter().cloned().map(|branch| LiveBranch { index: branch.index.saturating_add(1), ..branch });
    [upper].into_iter().chain(below).collect()
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

fn image_value(store: &Store, id: ImageId) -> Result<Value> {
    let image = store.image(id)?;
    let corrupt = |why| Error::corrupt(format!("image {id}"), why);
    let config = ImageConfig::parse(&image.config).map_err(corrupt)?;
    let process = ImageConfig::process(&image.config).map_err(corrupt)?;
    let names = store.image_names()?;
    let names: Vec<_> = names.into_iter().filter(|(_, image)| *image == id).map(|(name, _)| name).collect();
    Ok(json!({
        "Id": id,
        "RepoTags": names,
        "Created": config.created,
        "Imported": rfc3339(image.record.imported),
        "Author": config.author,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.record.size,
        "Config": process,
        "RootFS": { "Type": "layers", "Layers": image.record.layers },
        "ChainID": ChainId::of(&image.record.layers),
        "GraphDriver": { "Name": "layerctl", "Data": { "LowerDir": lower_dirs(store, &image.record.layers) } },
    }))
}

fn layer_value(store: &Store, layer: DiffId) -> Result<Value> {
    let record = store.layer(layer)?;
    let mut images = Vec::new();
    for id in store.images()? {
        if readable(store.image(id))?.is_some_and(|image| image.record.layers.contains(&layer)) {
            images.push(id);
        }
    }
    Ok(json!({
        "Id": layer,
        "Created": rfc3339(record.created),
        "Size": record.content_bytes,
        "TarSize": record.size,
        "Entries": record.entries,
        "Blob": record.blob,
        "Path": text(&store.diff_dir(&layer.hex())),
        "Images": images,
    }))
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
