//! `rm`: removes a container with all it has written.

use super::mountpoint::is_mounted;
use super::umount::umount_container;
use crate::error::{Error, Result};
use crate::store::{ContainerState, Store};

/// Removes a container; one that is mounted only when it is `forced`. Gives its name.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::InUse`] while it is mounted.
pub fn remove(store: &Store, name: &str, forced: bool) -> Result<String> {
    let container = store.find_container(name)?;
    match container.state()? {
        ContainerState::Running if !forced && is_mounted(&container) => return Err(container.in_use()),
        ContainerState::Running | ContainerState::Dead => match umount_container(store, &container, false) {
            // It has been unmounted meanwhile.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(Error::InUse { .. }) if forced => {
                umount_container(store, &container, true)?;
            }
            Err(error) => return Err(error),
        },
        ContainerState::Created | ContainerState::Exited => {}
    }
    store.remove_container(&container)?;
    Ok(container.record.name)
}
