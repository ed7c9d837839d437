//! What is on disk: layers, images and containers, and the rules by which they come and go.
//!
//! ```text
//! ROOT/                            0700
//!   meta.json                      the format, and what is needed to understand it ([`format`])
//!   lock                           held for an instant by a process that changes a name ([`lock`])
//!   diff/<diff-id>/                the files of a layer, whiteouts in their AUFS spelling
//!   diff/<container-id>/           the rw layer of a container, in the spelling that its rw.json says
//!   layers/<diff-id>.{json,index,split}   the layer's record, its tree, and its tar without the content
//!   layers/<container-id>          the layers under a container, nearest first, as Docker's AUFS driver kept them
//!   images/<image-id>/{config,record.json}  the config's bytes as they came, and the layers they name
//!   images/names/<digest>.json     a name, and the image it stands for
//!   containers/<container-id>/     record.json, mount.json, lock (held by the live server), log
//!   containers/<container-id>/rw.json        the spelling of the rw layer, if that is not AUFS' ([`rw_layer`])
//!   containers/<container-id>/work/          overlayfs' own directory, with its index
//!   containers/<container-id>/points/        what a command's file systems are mounted on
//!   containers/<container-id>/etc/ 0700: the container's own hostname, hosts and resolv.conf
//!   containers/names/<name>        the container that has this name
//!   mnt/<container-id>/            a container's mountpoint when none is named
//!   run/si_<id>/                   what is live
//!   run/images/<image-id>/         0700: the mount of an image that overlayfs is mounted over, and its lock
//!   tmp/<random>/                  what is being made or removed, with the lock of its living owner
//! ```
//!
//! - A record is the commit point: what it names is on the disk before the record is, and it goes first when
//!   the thing goes. What no record names is garbage: the next process that changes the store takes it away, as the
//!   directory of its dead owner is still in `tmp/` to tell of it.
//! - Names change under the one lock of the store, and nothing else happens under it: no data moves.
//! - A process that needs a layer to which no record refers yet holds a lease on it ([`Lease`]).
//! - Nothing is repaired on a read path.

mod container;
mod containers;
mod damage;
mod file;
mod format;
mod garbage;
mod image;
mod layer;
mod lock;
mod mend;
mod name;
mod network;
mod overlay_mount;
mod owner;
mod placement;
mod prune;
mod publish;
mod references;
mod removal;
mod resolve;
mod rw_layer;
mod staging;
mod usage;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use container::{Container, ContainerRecord, ContainerState, MountRecord, NewContainer};
pub use damage::Damage;
pub use image::{Image, ImageRecord, Removed};
pub use layer::{LayerRecord, Lease};
pub use network::{HostEntry, Network};
pub use overlay_mount::OverlayMount;
pub use prune::{Plan, PruneScope};
pub use publish::{NewImage, StagedLayer};
pub use references::{ReferencedImage, References};
pub(crate) use resolve::is_enough_to_remove;
pub use resolve::{Found, LEFT_OUT};
pub use rw_layer::Spelling;
pub use staging::Staging;
pub use usage::{Meter, Usage};

use crate::error::{Context as _, Error, Result};
use crate::sys::{self, Dir, call, fs, retry};

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    writable: bool,
    durable: bool,
    layer_modes: bool,
}

const DIRECTORIES: [&str; 9] =
    ["diff", "layers", "images", "images/names", "containers", "containers/names", "mnt", "run", "tmp"];

impl Store {
    /// Opens the store at `root`, which is made if it is not there, or an empty directory.
    ///
    /// # Errors
    /// When it cannot be made or read, is a directory with anything else in it, belongs to another user
    /// or can be written by others ([`owner`]), or was written by a version with features that this one does not know.
    pub fn open(root: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let root = std::path::absolute(root).doing("find", root)?;
        if sys::is_in_own_mount(&root).doing("find the file system of", &root)? {
            return Err(Error::Unsupported(format!(
                "{} is in a mount of layerctl, which reserves the names that begin with .wh.: give --root or LAYERCTL_ROOT a \
                 directory of another file system, such as a volume or a tmpfs",
                root.display()
            )));
        }
        if let Some(there) = fs::absent(fs::metadata(&root)).doing("open", &root)?
            && !there.is_dir()
        {
            return Err(rustix::io::Errno::NOTDIR).doing("open", &root);
        }
        if !fs::is_there(root.join(format::FILE)).doing("open", &root)? {
            let made = retry(|| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root));
            made.doing("create", &root)?;
        }
        let root = fs::canonicalize(&root).doing("open", &root)?;
        owner::check(&root)?;
        let store = Self { writable: true, durable: true, layer_modes: false, root };
        let known = format::check_or_create(&store)?;
        Ok(Self { writable: known.is_writable, layer_modes: known.has_layer_modes, ..store })
    }

    /// Opens the store that is meant when none is named, in the same way. Root never takes another user's for it.
    ///
    /// # Errors
    /// As [`Store::open`]; [`Error::Usage`] when the environment does not say where it is.
    pub fn open_default() -> Result<Self> {
        let root = owner::default_root()?;
        owner::check_default(&root)?;
        Self::open(&root)
    }

    /// Opens the store at `root`, or the one that is meant when none is named, if there is one: none is made.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::open_default`].
    pub fn open_existing(root: Option<&Path>) -> Result<Option<Self>> {
        match root {
            Some(root) => Self::is_at(root)?.then(|| Self::open(root)).transpose(),
            None => Self::is_at(&owner::default_root()?)?.then(Self::open_default).transpose(),
        }
    }

    /// Whether there is a store at `root`.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn is_at(root: &Path) -> Result<bool> {
        let path = root.join(format::FILE);
        match fs::metadata(&path) {
            // `root` is a file, or an archive that has no such path.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            there => Ok(there.doing("open", &path)?.is_file()),
        }
    }

    /// The store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where live mounts are registered.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The directory of a layer's or container's files.
    #[must_use]
    pub fn diff_dir(&self, hex: &str) -> PathBuf {
        self.root.join("diff").join(hex)
    }

    /// The same store for a caller that does not wait for the disk: a power cut may take what is written to it, and leave
    /// records without what they name.
    #[must_use]
    pub fn without_sync(&self) -> Self {
        Self { durable: false, ..self.clone() }
    }

    /// Whether what is made in it is flushed to the disk before its record is.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether the files of its layers have modes on disk with which their owner can use them ([`mod@format`]).
    #[must_use]
    pub const fn has_layer_modes(&self) -> bool {
        self.layer_modes
    }

    /// Brings all that was written since `staging` was made onto the disk.
    fn sync(&self, staging: &Staging) -> Result<()> {
        if self.durable { staging.sync().doing("flush", &self.root) } else { Ok(()) }
    }
}

/// Seconds since 1970: what records say of when.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// 32 random bytes.
fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += call::getrandom(rest, rustix::rand::GetRandomFlags::empty()).doing("read", "/dev/urandom")?;
    }
    Ok(bytes)
}

/// Reads a record; `None` when there is none.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = file::read(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| crate::Error::corrupt(path, error.to_string()))
}

/// The names in a directory of the store, sorted.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::open(dir).doing("read", dir)? {
        let entry = entry.doing("read", dir)?;
        // What is no text is none of ours.
        names.extend(entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | "..")).map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| crate::Error::Unsupported(format!("cannot write a record: {error}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}
