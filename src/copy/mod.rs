//! `cp`: files between a container and the host, as `docker cp` does it, without a mount.
//!
//! ```text
//! container ─► view ──────────────────────┐                ┌─► a tar
//! stream ────► unpacked, its index ───────┼─► a union ─► … ┼─► the host's directories
//! host ──────► its directories ───────────┘                └─► a container's union, or its live mount
//! ```

mod dir_tree;
mod transfer;
mod tree;
mod union_tree;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::{Stop, standard_input};
use crate::error::{Context as _, Error, Result};
use crate::import::{Archive, ImportLimits};
use crate::mount::access::{Access, OverlayAccess, access};
use crate::mount::kernel;
use crate::output_file::OutputFile;
use crate::pack::tree::write_tree;
use crate::rw_layer;
use crate::stack::{Lower, Stack};
use crate::store::{Spelling, Store};
use crate::sys::fs;
use crate::tarball::{Limits, Modes, UnpackOptions, decompress_within, unpack_as};
use crate::union::{Attr, Ino, Union};
use crate::view::{View, container_view};
use dir_tree::DirTree;
use transfer::Transfer;
use tree::{Resolved, Tree, entered, resolve};
use union_tree::UnionTree;

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `-`: standard input or output, as a tar.
    Stream,
    /// A path of the host.
    Host(PathBuf),
    /// A path in a container, which counts from its root.
    Container {
        /// The container's name or id.
        name: String,
        /// The path.
        path: PathBuf,
    },
}

impl Place {
    /// Reads `-`, `PATH` or `CONTAINER:PATH`; a path that begins with `/` or `.` is the host's.
    #[must_use]
    pub fn parse(text: &std::ffi::OsStr) -> Self {
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|byte| *byte == b':').and_then(|at| bytes.split_at_checked(at));
        match colon {
            _ if bytes == b"-" => Self::Stream,
            Some((name, path)) if !name.is_empty() && !name.starts_with(b".") && !name.contains(&b'/') => {
                let path = std::ffi::OsStr::from_bytes(path.get(1..).unwrap_or_default());
                Self::Container { name: String::from_utf8_lossy(name).into_owned(), path: path.into() }
            }
            _ => Self::Host(text.into()),
        }
    }
}

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Copy {
    /// From where.
    pub from: Place,
    /// To where.
    pub to: Place,
    /// Whether owners, set-id bits and extended attributes are kept.
    pub archive: bool,
    /// Whether a link at the end of the source's path is followed.
    pub follow: bool,
    /// How much a tar on standard input may ask for.
    pub limits: ImportLimits,
}

/// What is copied.
struct Source<'p, T: Tree> {
    tree: &'p T,
    at: Resolved<T::Dir>,
    /// The name that it gets in a directory.
    name: Vec<u8>,
    /// Only what is in it.
    content: bool,
    shown: PathBuf,
}

/// Copies.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Usage`] unless one side is a container; what reading and writing give. A file that
/// could not be copied whole leaves the one that it was to replace.
pub fn copy(store: &Store, request: &Copy) -> Result<()> {
    crate::sys::raise_descriptor_limit();
    match (&request.from, &request.to) {
        (Place::Container { name, path }, to @ (Place::Stream | Place::Host(_))) => {
            let view = container_view(store, &store.find_container(name)?)?;
            let tree = UnionTree(&view.union);
            let source = source(&tree, path, PathBuf::from(format!("{name}:{}", path.display())), request.follow)?;
            match to {
                Place::Host(path) => {
                    let host = DirTree::open(Path::new("/")).doing("open", "/")?;
                    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
                    let absolute = Path::new(&std::env::current_dir().doing("find", ".")?).join(path);
                    put(&source, &host, &absolute, path, Some(owner).filter(|_| !request.archive), false)
                }
                _ => stream(&view, &source),
            }
        }
        (Place::Host(path), Place::Container { .. }) => {
            let host = DirTree::open(Path::new("/")).doing("open", "/")?;
            let absolute = Path::new(&std::env::current_dir().doing("find", ".")?).join(path);
            let source = source(&host, &absolute, path.clone(), request.follow)?;
            into_container(store, request, &source)
        }
        (Place::Stream, Place::Container { name, .. }) => {
            // Not only when all has been received.
            store.find_container(name)?;
            let staging = store.stage()?;
            let union = received(staging.dir(), &request.limits.layers)?;
            let tree = UnionTree(&union);
            let at = Resolved { dir: Ino::ROOT, name: Vec::new(), found: None };
            let source = Source { tree: &tree, at, name: Vec::new(), content: true, shown: "-".into() };
            into_container(store, request, &source)
        }
        (Place::Container { .. }, Place::Container { .. }) => {
            Err(Error::Usage("nothing is copied from a container to another: copy through - or the host".into()))
        }
        _ => Err(Error::Usage("neither side is CONTAINER:PATH".into())),
    }
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

fn source<'p, T: Tree>(tree: &'p T, path: &Path, shown: PathBuf, follow: bool) -> Result<Source<'p, T>> {
    let bytes = path.as_os_str().as_bytes();
    let dot = bytes == b"." || bytes.ends_with(b"/.");
    let at = match resolve(tree, bytes, follow || dot || ends_in_slash(path)) {
        Ok(at) if at.exists() => at,
        Ok(_) => return Err(Error::NotFound { kind: "file", name: shown.display().to_string() }),
        Err(error) => return Err(failed(error, shown)),
    };
    if (dot || ends_in_slash(path)) && !at.is_directory() {
        return Err(failed(rustix::io::Errno::NOTDIR.into(), shown));
    }
    // `..` is no name for a copy; the name behind a link is not the one that was asked for.
    let name = path.file_name().map_or_else(|| at.name.clone(), |name| name.as_bytes().to_vec());
    Ok(Source { tree, content: dot || at.name.is_empty(), at, name, shown })
}

fn failed(error: io::Error, path: PathBuf) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound { kind: "file", name: path.display().to_string() },
        _ => Error::Io { doing: "copy", path, source: error },
    }
}

/// Writes a tar of the source to standard output.
fn stream(view: &View, source: &Source<'_, UnionTree<'_>>) -> Result<()> {
    let find = || -> io::Result<Attr> {
        if source.at.name.is_empty() {
            return Ok(view.union.getattr(Ino::ROOT)?);
        }
        Ok(view.union.lookup(source.at.dir, &source.at.name)?)
    };
    let attr = find().map_err(|error| failed(error, source.shown.clone()))?;
    let name: &[u8] = if source.content { b"" } else { &source.name };
    let mut out = OutputFile::open(Path::new("-"))?;
    let shown = out.name().to_owned();
    write_tree(&view.union, attr, name, &mut out, &shown)?;
    out.commit()
}

/// Takes a tar from standard input, as a tree.
fn received(dir: &Path, limits: &Limits) -> Result<Union> {
    let diff = dir.join("received");
    fs::create_dir(&diff).doing("create", &diff)?;
    let into = File::open(&diff).doing("open", &diff)?;
    let archive =
        Archive { name: "-".into(), member: None, is_durable: false, modes: Modes::Usable, stop: Stop::default() };
    let stdin = Box::new(io::BufReader::new(standard_input()?));
    let (_, mut tar) = decompress_within(stdin, limits.ratio).map_err(|error| archive.read_failed(error))?;
    let options = UnpackOptions { is_layer: false, modes: archive.modes, ..UnpackOptions::new(limits) };
    let unpacked = unpack_as(&options, &mut *tar, into.as_fd(), &mut io::sink());
    let unpacked = unpacked.map_err(|failure| archive.failed(&diff, failure))?;
    archive.is_not_nothing(unpacked.size)?;
    let lower = Lower { dir: diff.clone(), index: Arc::new(unpacked.index) };
    Union::open(Stack { upper: None, lowers: vec![lower], lowers_are_immutable: true, mount_points: None })
        .doing("open", &diff)
}

fn into_container<T: Tree>(store: &Store, request: &Copy, source: &Source<'_, T>) -> Result<()> {
    let Place::Container { name, path } = &request.to else { return Ok(()) };
    let container = store.find_container(name)?;
    let shown = PathBuf::from(format!("{name}:{}", path.display()));
    let owner = Some((0, 0)).filter(|_| !request.archive);
    let _lock = match access(store, &container)? {
        Access::Mounted(root) => {
            // Only its server may write to a mounted rw layer, and programs in the container must see the files at once:
            // so `cp` writes through the mount. Paths are resolved below the mountpoint, so that no link leads to the host.
            let tree = DirTree::open(&root.path()).doing("open", &root.record.mountpoint)?;
            return put(source, &tree, path, &shown, owner, true);
        }
        Access::Overlay(OverlayAccess { record, .. }) => {
            let root = if record.command { kernel::tree(&container)? } else { kernel::root(&container, &record)? };
            let root = PathBuf::from(format!("/proc/self/fd/{}/.", root.as_raw_fd()));
            let tree = DirTree::open(&root).doing("open", &record.mountpoint)?;
            return put(source, &tree, path, &shown, owner, false);
        }
        Access::Locked(lock) => lock,
    };
    // Only a union of ours is written to here.
    rw_layer::make(store, &container, Spelling::Aufs)?;
    let union = Union::open(store.stack(&container)?).doing("open", container.upper())?;
    put(source, &UnionTree(&union), path, &shown, owner, true)?;
    union.sync().map_err(io::Error::from).doing("flush", container.upper())
}

/// Copies to a path of a tree, by the rules of cp(1): into a directory that is there, else to that very name.
fn put<S: Tree, D: Tree>(
    source: &Source<'_, S>,
    to: &D,
    path: &Path,
    shown: &Path,
    owner: Option<(u32, u32)>,
    into_container: bool,
) -> Result<()> {
    let bytes = path.as_os_str().as_bytes();
    let is_directory = source.at.is_directory();
    let found = resolve(to, bytes, true).map_err(|error| failed(error, shown.to_owned()))?;
    let wants_directory = ends_in_slash(path) || bytes.ends_with(b"/.");
    if !found.exists() && wants_directory && (!is_directory || source.shown == Path::new("-"))
        || !found.exists() && source.shown == Path::new("-")
    {
        return Err(Error::NotFound { kind: "directory", name: shown.display().to_string() });
    }
    if found.exists() && !found.is_directory() && (wants_directory || is_directory) {
        return Err(failed(rustix::io::Errno::NOTDIR.into(), shown.to_owned()));
    }
    let mut transfer = Transfer::new(source.tree, to, owner, into_container);
    let run = |transfer: &mut Transfer<'_, S, D>| {
        if found.is_directory() {
            let into = entered(to, &found)?;
            if source.content {
                return transfer.content(entered(source.tree, &source.at)?, into);
            }
            return transfer.entry(&source.at.dir, &source.at.name, &into, &source.name);
        }
        if source.at.name.is_empty() {
            to.mkdir(&found.dir, &found.name)?;
            return transfer.content(source.tree.root()?, to.enter(&found.dir, &found.name)?);
        }
        transfer.entry(&source.at.dir, &source.at.name, &found.dir, &found.name)
    };
    run(&mut transfer).map_err(|source_error| {
        let below = std::ffi::OsStr::from_bytes(transfer.at.strip_prefix(b"/").unwrap_or(&transfer.at));
        let path = if below.is_empty() { source.shown.clone() } else { source.shown.join(below) };
        Error::Io { doing: "copy", path, source: source_error }
    })
}
