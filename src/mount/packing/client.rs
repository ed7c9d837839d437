//! The client's side: asks a mount's server for the rw layer, and unpacks the tar that the server sends.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::mount::access::{MountRoot, lacks};
use crate::mount::live;
use crate::mount::packing::frames::Received;
use crate::mount::packing::{End, SOCKET, Wish};
use crate::pack::staged::unpacked_layer;
use crate::store::{Container, StagedLayer, Store};

/// Makes a layer in the directory `dir` of what a container has changed whose mount has this root; none when that is nothing.
///
/// # Errors
/// [`Error::InUse`] when no server answers; the error that the server reports; what keeps the tar from being unpacked.
pub(crate) fn mounted_layer(
    store: &Store,
    container: &Container,
    root: MountRoot,
    dir: PathBuf,
    wish: Wish,
) -> Result<Option<StagedLayer>> {
    // The client flushes the mount, as the server would wait for its own replies. The client does so before it connects: the
    // server waits only for clients that have connected.
    let wish = Wish { is_written: root.sync()?, ..wish };
    root.check_lost(container)?;
    let registered = store.run_dir().join(&root.record.live);
    let mut stream = live::connect(&registered, SOCKET)?.ok_or_else(|| container.in_use())?;
    let broken = |_| {
        let name = &container.record.name;
        Error::Unsupported(format!("container {name}: its server has ended while the rw layer was packed"))
    };
    // From here on the mount may be ended.
    drop(root);
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
        End::Packed { is_changed, lost: None } => unpacked.map(|layer| Some(layer).filter(|_| is_changed)),
        End::Packed { lost: Some(lost), .. } => Err(lacks(container, &lost)),
        End::Failed { message, code } => Err(Error::Relayed { message, code }),
    }
}
