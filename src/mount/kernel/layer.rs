//! The rw layer of a container that overlayfs has, as a layer.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};
use crate::index::Time;
use crate::mount::access::OverlayAccess;
use crate::mount::kernel::end::sync;
use crate::mount::kernel::held::Held;
use crate::mount::kernel::read_only::{self, root_of};
use crate::pack::rw_layer::pack;
use crate::pack::staged::packed_layer;
use crate::rw_layer;
use crate::store::{Container, MountRecord, StagedLayer, Store};

/// What keeps the rw layer as it is while it is packed.
enum Still {
    /// The command's caller has said that its processes cannot write.
    Command(Box<Held>),
    /// The overlay is read-only.
    Mount(OwnedFd),
    /// Nothing: it is read as it is, or no process can write to it anyhow.
    Nothing,
}

/// Makes a layer in the directory `dir` of what a mounted container has changed; none when that is nothing. Nothing can be written
/// meanwhile, unless it is read `live`. Without a command, and unless it is read live, `access` has the container's lock.
///
/// # Errors
/// [`Error::InUse`] when writing cannot be held back.
pub(crate) fn layer(
    store: &Store,
    container: &Container,
    access: &OverlayAccess,
    dir: PathBuf,
    latest: Option<Time>,
    live: bool,
) -> Result<Option<StagedLayer>> {
    let mount = &access.record;
    let root = if mount.command || live { None } else { root_of(container, mount)? };
    let still = if live || mount.read_only { Still::Nothing } else { hold(container, mount, root.as_ref())? };
    let packed = (|| {
        if let Some(root) = &root {
            sync(container, root, &mount.mountpoint)?;
        }
        let union = rw_layer::read_live(store, container)?;
        let (layer, is_changed) =
            packed_layer(dir, "the rw layer", |out| pack(&union, out, Path::new("a layer's tar"), latest))?;
        access.check_same(container)?;
        Ok(Some(layer).filter(|_| is_changed))
    })();
    let released = match still {
        Still::Command(held) => held.release(),
        Still::Mount(root) => read_only::end(&root, &mount.mountpoint),
        Still::Nothing => Ok(()),
    };
    let layer = packed?;
    released.map(|()| layer)
}

fn hold(container: &Container, mount: &MountRecord, root: Option<&OwnedFd>) -> Result<Still> {
    let in_use = |by: &str| {
        let by = format!("{by}; with --live what it writes meanwhile may be in the layer or not");
        Err(Error::InUse { kind: "container", name: container.record.name.clone(), by })
    };
    if mount.command {
        return match Held::take(container)? {
            Ok(held) => Ok(Still::Command(Box::new(held))),
            Err(why) => in_use(&format!("its command is running, and {why}")),
        };
    }
    let Some(root) = root else { return in_use("it is mounted in another mount namespace") };
    let kept = rustix::io::fcntl_dupfd_cloexec(root, 0).doing("open", &mount.mountpoint)?;
    if !read_only::begin(root, &mount.mountpoint)? {
        return in_use("a process has a file open there to write to it");
    }
    Ok(Still::Mount(kept))
}
