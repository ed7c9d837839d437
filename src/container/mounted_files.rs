//! Files of the host that a container has as its own, in its `etc`.
//!
//! Whatever the image has there, nothing of the host but these files is reached: links are followed inside the container's root
//! (`RESOLVE_IN_ROOT`), at a time when only its tree is mounted there. A link that leads to nothing is covered itself, so that
//! nothing has to be made where it leads.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use serde::{Deserialize, Serialize};

use super::root::Root;
use crate::error::{Context as _, Result};
use crate::sys::{self, call};

/// A file of the host, and where it is in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedFile {
    /// Its name in `etc`.
    pub name: String,
    /// The file, in a directory that only its owner and root may enter: the command can write to it, and change its mode.
    pub source: PathBuf,
}

/// Mounts a file at its place, if the container has a file or link there.
///
/// # Errors
/// What the system says of the file, the place and the mount.
pub(super) fn mount(root: &Root, file: &MountedFile, read_only: bool) -> Result<()> {
    let place = Path::new("/etc").join(&file.name);
    let Some(target) = find(root, &file.name).doing("find the container's", &place)? else { return Ok(()) };
    let source = sys::detached_without_programs(&file.source, read_only).doing("bind", &file.source)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&source, "", &target, "", flags).doing("mount the host's file on the container's", place)
}

/// What is at the end of the links, or, when that is nothing, the link itself. An image may have anything there, and what is
/// a directory cannot be covered by a file.
fn find(root: &Root, name: &str) -> rustix::io::Result<Option<OwnedFd>> {
    let found = match sys::find_in_root(root.fd(), format!("etc/{name}").as_bytes(), OFlags::empty()) {
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
            let dir = match sys::find_in_root(root.fd(), b"etc", OFlags::DIRECTORY) {
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(None),
                dir => dir?,
            };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match call::openat(&dir, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(None),
                found => found?,
            }
        }
        found => found?,
    };
    let kind = FileType::from_raw_mode(call::fstat(&found)?.st_mode);
    Ok((kind != FileType::Directory).then_some(found))
}
