//! `rm`: removes a container with all it has written.

use crate::error::{Error, Result};
use crate::mount::ending::{Ended, Ending, Force};
use crate::mount::placed::Placed;
use crate::mount::umount::clear_mount;
use crate::mount::wait::{self, PATIENCE};
use crate::mount::{kernel, mountpoint};
use crate::store::{ContainerState, Store, is_enough_to_remove};

/// Removes a container; one that is mounted only when it is `forced`. Gives its name.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::InUse`] while it is mounted, or was unmounted and a process still uses it.
pub fn remove(store: &Store, name: &str, forced: bool) -> Result<String> {
    let container = match store.find_container(name) {
        Err(Error::Corrupt { .. }) if forced => {
            return store.remove_damaged_container(name).map(|()| name.to_owned());
        }
        Err(missing @ Error::NotFound { .. }) => {
            // Its removal may have failed half-way, and this is how it is given once more.
            store.sweep_strays()?;
            return Err(missing);
        }
        Ok(found) if found.record.name != name && !is_enough_to_remove(name, &found.id.hex()) => {
            return Err(Error::NotFound { kind: "container", name: name.to_owned() });
        }
        found => found?,
    };
    let mount = container.mount()?;
    if let Some(mount) = &mount
        && mount.live_overlay().is_some()
    {
        let state = container.state()?;
        if state == ContainerState::Running && !forced {
            return Err(container.in_use());
        }
        if matches!(state, ContainerState::Running | ContainerState::Dead) {
            kernel::clear(store, &container, mount, forced)?;
        } else if mount.command {
            // A `commit` whose command's caller was killed has left groups that only the container's record names.
            kernel::recover(&container)?;
        }
        return match store.remove_container(&container) {
            // With `--rm` its caller was faster.
            Err(Error::NotFound { .. }) if mount.command => Ok(container.record.name),
            removed => removed.map(|()| container.record.name),
        };
    }
    if container.state()? == ContainerState::Dead {
        if let Some(mount) = mount {
            clear_mount(store, &container, &mount)?;
        }
    } else if let Some(mount) = mount.filter(|mount| !mount.ended) {
        let dir = store.run_dir().join(&mount.live);
        if let Some((record, place)) = mountpoint::mounted(store, &container)? {
            if place != Placed::Nowhere && !forced {
                return Err(container.in_use());
            }
            let ending = Ending {
                name: format!("container {}", container.record.name),
                dir: &dir,
                record: &record,
                has_command: mount.command,
                patience: PATIENCE,
            };
            if ending.end(if forced { Force::Discard } else { Force::None })? == Ended::Killed {
                clear_mount(store, &container, &mount)?;
            }
        } else if let Some(server) = crate::mount::live::watch(&dir)? {
            let until = format!("container {}: its server has ended", container.record.name);
            // If it does not end, the container's lock says so.
            server.end_within(&mut wait::Wait::new(until, Some(mount.pid), PATIENCE))?;
        }
    }
    store.remove_container(&container)?;
    Ok(container.record.name)
}
