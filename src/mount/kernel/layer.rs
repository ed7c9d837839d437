//! The rw layer of a container that overlayfs has, as a layer.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::index::Time;
use crate::mount::access::OverlayAccess;
use crate::mount::kernel::end::{freeze, sync};
use crate::pack::rw_layer::pack;
use crate::pack::staged::packed_layer;
use crate::rw_layer;
use crate::store::{Container, StagedLayer, Store};

/// Makes a layer in the directory `dir` of what a mounted container has changed; none when that is nothing. Nothing can be written
/// meanwhile, unless it is read `live`.
///
/// # Errors
/// [`Error::InUse`] when writing cannot be held back.
pub(crate) fn layer(
    store: &Store,
    container: &Container,
    access: OverlayAccess,
    dir: PathBuf,
    latest: Option<Time>,
    live: bool,
) -> Result<Option<StagedLayer>> {
    let mount = &access.record;
    let (name, at) = (&container.record.name, &mount.mountpoint);
    let is_frozen = !live && !mount.read_only;
    if is_frozen {
        let in_use = |by: &str| {
            let by = format!("{by}; with --live what it writes meanwhile may be in the layer or not");
            Err(Error::InUse { kind: "container", name: name.clone(), by })
        };
        if mount.command {
            return in_use("its command is running, and with --io kernel nobody can hold back what it writes");
        }
        if !container.overlay_is_here(mount)? {
            return in_use("it is mounted in another mount namespace");
        }
        match freeze(at, true) {
            Err(Errno::BUSY) => return in_use("a process has a file open there to write to it"),
            frozen => frozen.doing("make read-only the mount at", at)?,
        }
    }
    let packed = (|| {
        if !mount.command && container.overlay_is_here(mount)? {
            sync(container, at)?;
        }
        let union = rw_layer::read_live(store, container)?;
        let (layer, is_changed) =
            packed_layer(dir, "the rw layer", |out| pack(&union, out, Path::new("a layer's tar"), latest))?;
        Ok(Some(layer).filter(|_| is_changed))
    })();
    if is_frozen {
        freeze(at, false).doing("make writable the mount at", at)?;
    }
    packed
}
