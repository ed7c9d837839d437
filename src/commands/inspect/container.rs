//! What is known of a container.

use serde_json::{Value, json};

use super::{lower_dirs, text};
use crate::error::{Context as _, Result, readable};
use crate::image::ImageConfig;
use crate::mount::live::{self, LiveBranch};
use crate::mount::wait::say;
use crate::network::name_files;
use crate::store::{Container, ContainerState, MountRecord, Store};
use crate::sys::fs;
use crate::timestamp::rfc3339;

pub(super) fn value(store: &Store, container: &Container) -> Result<Value> {
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
