//! Who asks a server for the rw layer.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use super::super::packed_layer::unpacked_layer;
use super::super::{live, mountpoint};
use super::frames::Received;
use super::{End, SOCKET, Wish};
use crate::error::{Context as _, Error, Result};
use crate::store::{Container, StagedLayer, Store};

/// Makes a layer in the directory `dir` of what a mounted container has changed; none when that is nothing.
///
/// # Errors
/// [`Error::InUse`] when nobody answers; what the server says; what keeps the tar from being unpacked.
pub(in super::super) fn mounted_layer(
    store: &Store,
    container: &Container,
    dir: PathBuf,
    wish: Wish,
) -> Result<Option<StagedLayer>> {
    let mount = container.mount()?.filter(|mount| !mount.ended).ok_or_else(|| container.in_use())?;
    if !mountpoint::is_mounted(store, container)? {
        return Err(container.in_use());
    }
    let registered = store.run_dir().join(&mount.live);
    let mut stream = live::connect(&registered, SOCKET).ok_or_else(|| container.in_use())?;
    // The server could not do this: it would wait for itself.
    let top = File::open(&mount.mountpoint).doing("open", &mount.mountpoint)?;
    rustix::fs::syncfs(&top).doing("flush", &mount.mountpoint)?;
    drop(top);
    let broken = |_| {
        let name = &container.record.name;
        Error::Unsupported(format!("container {name}: its server has ended while the rw layer was packed"))
    };
    let mut line = serde_json::to_vec(&wish).map_err(|error| Error::Unsupported(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut tar = Received::new(stream);
    let unpacked = unpacked_layer(dir, "the rw layer", &mut tar);
    if let Err(error @ Error::Io { .. }) = unpacked {
        return Err(error);
    }
    let mut end = Vec::new();
    tar.after().and_then(|mut stream| stream.read_to_end(&mut end)).map_err(broken)?;
    match serde_json::from_slice(&end).map_err(|error| broken(error.into()))? {
        End::Packed { is_changed } => unpacked.map(|layer| Some(layer).filter(|_| is_changed)),
        End::Failed { message, code } => Err(Error::Relayed { message, code }),
    }
}
