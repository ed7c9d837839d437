//! A container or image as one tree that can be read, without a mount.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Context as _, Error, Result};
use crate::id::DiffId;
use crate::mount::access::{Access, MountRoot, OverlayAccess, access, check_recorded_loss};
use crate::mount::command_mounts;
use crate::stack::{Lower, Stack};
use crate::store::{Container, Lease, Store};
use crate::union::Union;
use crate::{index, rw_layer};

/// What keeps the tree from going while it is read.
#[derive(Debug)]
enum Keeper {
    /// The container's lock: it is neither mounted nor removed.
    Container { _lock: File, container: Box<Container> },
    /// The image's layers are not removed.
    Image { _layers: Vec<Lease> },
    /// The rw layer that the kernel writes to.
    Overlay(OverlayAccess, Box<Container>),
    /// The mount that is read; its root is held open, so that an ordinary unmount is refused as busy meanwhile.
    Mount(MountRoot, Box<Container>),
}

/// A tree, and what keeps it.
#[derive(Debug)]
pub(crate) struct View {
    /// The tree.
    pub(crate) union: Union,
    keeper: Keeper,
}

impl View {
    /// Where the mount is found whose tree this is.
    pub(crate) fn mount(&self) -> Option<PathBuf> {
        match &self.keeper {
            Keeper::Mount(root, _) => Some(root.path()),
            _ => None,
        }
    }

    /// That the tree was the container's until now.
    ///
    /// # Errors
    /// [`Error::InUse`] when the container's rw layer is another one now.
    pub(crate) fn check_same(&self) -> Result<()> {
        match &self.keeper {
            Keeper::Overlay(access, container) => access.check_same(container),
            _ => Ok(()),
        }
    }

    /// That the tree was the container's until now, and lacks nothing of what programs have written to it, or that `umount` has said so.
    ///
    /// # Errors
    /// What it lacks.
    pub(crate) fn check_lost(&self) -> Result<()> {
        match &self.keeper {
            Keeper::Container { container, .. } => check_recorded_loss(container),
            Keeper::Mount(root, container) => root.check_lost(container),
            Keeper::Overlay(access, container) => access.check_same(container),
            Keeper::Image { .. } => Ok(()),
        }
    }
}

/// Opens what has this name: a container, else an image.
///
/// # Errors
/// [`Error::NotFound`]; what keeps the tree from being read.
pub(crate) fn view(store: &Store, name: &str) -> Result<View> {
    match store.find_container(name) {
        Ok(container) => container_view(store, &container),
        Err(Error::NotFound { kind: "container", .. }) => match image_view(store, name) {
            Err(Error::NotFound { kind: "image", name }) => Err(Error::NotFound { kind: "container or image", name }),
            viewed => viewed,
        },
        Err(error) => Err(error),
    }
}

/// Opens a container's tree for reading.
///
/// # Errors
/// What keeps it from being read.
pub(crate) fn container_view(store: &Store, container: &Container) -> Result<View> {
    match access(store, container)? {
        Access::Mounted(root) => mount_view(root, container),
        Access::Locked(lock) => locked_view(store, container, lock),
        Access::Overlay(access) => overlay_view(store, container, access),
    }
}

/// Opens the tree of a container that the kernel's overlayfs has.
///
/// # Errors
/// What keeps it from being read.
pub(crate) fn overlay_view(store: &Store, container: &Container, access: OverlayAccess) -> Result<View> {
    Ok(View {
        union: rw_layer::read_live(store, container)?,
        keeper: Keeper::Overlay(access, Box::new(container.clone())),
    })
}

/// Its server alone may touch the rw layer, and knows what the kernel has not written yet. So the live mount is
/// read, as the only layer of a union: no link in it leads out of it, as in any layer. Mount points that are there for its
/// command only are none of its files.
fn mount_view(root: MountRoot, container: &Container) -> Result<View> {
    let dir = root.path();
    let scanned = index::scan_shown(&dir, &command_mounts::is_unchanged);
    let index =
        scanned.map_err(|error| Error::Io { doing: "read", path: root.shown(&error.path), source: error.source })?;
    let stack = Stack {
        upper: None,
        lowers: vec![Lower { dir, index: Arc::new(index) }],
        lowers_are_immutable: false,
        mount_points: None,
    };
    let union = Union::open(stack).doing("open", &root.record.mountpoint)?;
    Ok(View { union, keeper: Keeper::Mount(root, Box::new(container.clone())) })
}

/// Opens the tree of a container whose lock this is.
///
/// # Errors
/// What keeps it from being read.
pub(crate) fn locked_view(store: &Store, container: &Container, lock: File) -> Result<View> {
    let union = rw_layer::read(store, container)?;
    Ok(View { union, keeper: Keeper::Container { _lock: lock, container: Box::new(container.clone()) } })
}

fn image_view(store: &Store, name: &str) -> Result<View> {
    let id = store.find_image(name)?.id();
    layers_view(store, &store.image(id)?.record.layers)
}

/// Opens the tree of an image's layers, lowest first.
///
/// # Errors
/// When a layer is missing or damaged.
pub(crate) fn layers_view(store: &Store, layers: &[DiffId]) -> Result<View> {
    let mut leases = Vec::new();
    for layer in layers.iter().rev() {
        let missing = || Error::corrupt(format!("layer {layer}"), "is missing");
        leases.push(store.lease(*layer)?.ok_or_else(missing)?);
    }
    let mut lowers = store.lowers(layers)?;
    lowers.reverse();
    let stack = Stack { upper: None, lowers, lowers_are_immutable: true, mount_points: None };
    let union = Union::open(stack).doing("open", "the layers of an image")?;
    Ok(View { union, keeper: Keeper::Image { _layers: leases } })
}
