//! `rm`: removes a container with all it has written.

use super::mountpoint;
use super::umount::umount_container;
use crate::error::Result;
use crate::store::{ContainerState, Store};

/// Removes a container; one that is mounted only when it is `forced`. Gives its name.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::InUse`] while it is mounted.
///
/// [`Error::NotFound`]: crate::error::Error::NotFound
/// [`Error::InUse`]: crate::error::Error::InUse
pub fn remove(store: &Store, name: &str, forced: bool) -> Result<String> {
    let container = store.find_container(name)?;
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
