//! Whether the content of a layer's files is still what its index says.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Failure;
use super::difference::{Change, Difference};
use super::disk::{self, Walk};
use crate::id::{Digest, Digester};
use crate::index::{Index, Kind, Node, NodeId};
use crate::sys::call;

const BUFFER: usize = 256 << 10;

/// Whether a file has holes: what is read in them is in no tar.
#[must_use]
pub fn is_sparse(node: &Node<'_>) -> bool {
    node.meta().is_some_and(|meta| meta.kind == Kind::File && meta.blocks < disk::blocks(meta.size))
}

/// Reads all files that are `asked` for and whose digest the index has, and tells of those that have another one.
///
/// # Errors
/// When `dir` itself cannot be read.
pub fn compare_content(
    index: &Index,
    dir: BorrowedFd<'_>,
    asked: fn(&Node<'_>) -> bool,
    found: &mut dyn FnMut(Difference),
) -> Result<(), Failure> {
    let mut walk = Walk::new(dir).map_err(|error| Failure::write("open", b"", error))?;
    let mut buffer = vec![0; BUFFER];
    for id in (0..index.node_count()).map(NodeId) {
        let Some((node, digest)) = index.node(id).and_then(|node| Some((node, node.digest()?))) else { continue };
        let Some(path) = index.path(id).filter(|_| node.kind() == Some(Kind::File) && asked(&node)) else { continue };
        let Some((name, dirs)) = path.split_last() else { continue };
        let whole = path.join(&b'/');
        let difference = match walk.open(dirs).and_then(|dir| digest_of(&dir, name, &mut buffer)) {
            Ok(Some(other)) if other != digest => (Change::Content, format!("has the digest {other} and not {digest}")),
            Ok(_) => continue,
            // That it is missing, or is something else, is seen without reading it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => continue,
            Err(error) => (Change::Unreadable, format!("cannot be read: {}", std::io::Error::from(error))),
        };
        found(Difference { path: whole, change: difference.0, detail: difference.1 });
    }
    Ok(())
}

pub(super) fn digest_of(dir: &OwnedFd, name: &[u8], buffer: &mut [u8]) -> rustix::io::Result<Option<Digest>> {
    let file = crate::sys::open_in(dir, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
    if FileType::from_raw_mode(call::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut digester = Digester::new();
    loop {
        match call::read(&file, &mut *buffer) {
            Ok(0) => return Ok(Some(digester.finish())),
            Ok(count) => digester.update(buffer.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
