//! `rm`: removes a container with all it has written.

use super::mountpoint;
use super::umount::umount_container;
use crate::error::{Error, Result};
use crate::store::{ContainerState, Store};

/// Removes a container; one that is mounted only when it is `forced`. Gives its name.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::InUse`] while it is mounted.
pub fn remove(store: &Store, name: &str, forced: bool) -> Result<String> {
    let container = match store.find_container(name) {
        Err(Error::Corrupt { .. }) if forced => {
            return store.remove_damaged_container(name).map(|()| name.to_owned());
        }
        found => found?,
    };
    if container.state()? == ContainerState::Dead {
        umount_container(store, &container, false)?;
    } else {
        let is_mounted = mountpoint::is_mounted(store, &container)?;
        if is_mounted && !forced {
            return Err(container.in_use());
        }
        mountpoint::end(store, &container, is_mounted)?;
    }
    store.remove_container(&container)?;
    Ok(container.record.name)
}
