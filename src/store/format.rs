//! The version of what is on disk, in classes as ext4 has them: a feature that this program does not know
//! is harmless, or makes the store read-only for it, or makes it unreadable.
//!
//! | feature | class | what it means |
//! |---|---|---|
//! | `layer-modes` | incompatible | in `diff/<diff-id>/` each file can be read and written and each directory used by its owner, and nothing has set-id bits: modes are the index's. In stores that an ordinary user makes, as the modes of an image could forbid that user to read the files. A container's upper has those that it shows |
//! | `overlay-uppers` | incompatible | a container may have a rw layer in overlayfs' spelling, which its `rw.json` says, and `run/images` has mounts. From the first `--io kernel` on |

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::lock::Guard;
use super::{DIRECTORIES, Store, json, read_json};
use crate::error::{Context as _, Error, Result};
use crate::sys::{Dir, fs, retry};

pub(super) const FILE: &str = "meta.json";
const VERSION: u32 = 1;
const READ_ONLY_COMPATIBLE: &[&str] = &[];
const LAYER_MODES: &str = "layer-modes";
pub(super) const OVERLAY_UPPERS: &str = "overlay-uppers";
const INCOMPATIBLE: &[&str] = &[LAYER_MODES, OVERLAY_UPPERS];

/// What a store's format says to this program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Whether it may be written to.
    pub(super) is_writable: bool,
    /// Whether it has the feature `layer-modes`.
    pub(super) has_layer_modes: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Format {
    version: u32,
    /// Features that a program may ignore.
    #[serde(default)]
    compatible: Vec<String>,
    /// Features that a program must know to write to the store.
    #[serde(default)]
    read_only_compatible: Vec<String>,
    /// Features that must be known to read anything.
    #[serde(default)]
    incompatible: Vec<String>,
}

/// Makes a new store where there is none, and says what is to be known of it.
pub(super) fn check_or_create(store: &Store) -> Result<Known> {
    let path = store.root.join(FILE);
    let format = match read_json::<Format>(&path)? {
        Some(format) => format,
        None => match stranger(&store.root, Path::new(""))? {
            None => create(store)?,
            // Unless another process has made the store meanwhile, and this file with it.
            Some(stranger) => read_json(&path)?.ok_or_else(|| {
                let (root, stranger) = (store.root.display(), stranger.display());
                Error::Unsupported(format!("{root}: is no store and not empty: it has no {FILE}, and has {stranger}"))
            })?,
        },
    };
    let unknown = |features: &[String], known: &[&str]| {
        features.iter().find(|feature| !known.contains(&feature.as_str())).cloned()
    };
    if format.version != VERSION {
        let (path, version) = (path.display(), format.version);
        return Err(Error::Unsupported(format!(
            "{path}: this store has format {version}, and only {VERSION} is known"
        )));
    }
    if let Some(feature) = unknown(&format.incompatible, INCOMPATIBLE) {
        let path = path.display();
        return Err(Error::Unsupported(format!("{path}: this store needs {feature}, which is not known here")));
    }
    Ok(Known {
        is_writable: unknown(&format.read_only_compatible, READ_ONLY_COMPATIBLE).is_none(),
        has_layer_modes: format.incompatible.iter().any(|feature| feature == LAYER_MODES),
    })
}

/// What is in `dir` of a directory that is no store, and neither what a creation has left that was cut short nor what a
/// file system of its own has. If a store were made there, the next garbage collection would remove such files.
fn stranger(root: &Path, dir: &Path) -> Result<Option<PathBuf>> {
    let path = root.join(dir);
    for entry in Dir::open(&path).doing("read", &path)? {
        let entry = entry.doing("read", &path)?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let name = dir.join(OsStr::from_bytes(entry.file_name().to_bytes()));
        let kind = fs::symlink_metadata(root.join(&name)).doing("read", &path)?;
        let known = |names: &[&str]| names.iter().any(|known| name == Path::new(known));
        if kind.is_dir() && known(&DIRECTORIES) {
            if let Some(stranger) = stranger(root, &name)? {
                return Ok(Some(stranger));
            }
        } else if !(kind.is_file() && known(&["lock", "tmp/record"]) || kind.is_dir() && known(&["lost+found"])) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

impl Store {
    /// Records that a program must know a feature to open the store.
    pub(super) fn require(&self, guard: &Guard<'_>, feature: &str) -> Result<()> {
        let path = self.root.join(FILE);
        let Some(mut format) = read_json::<Format>(&path)? else { return Ok(()) };
        if !format.incompatible.iter().any(|known| known == feature) {
            format.incompatible.push(feature.to_owned());
            guard.write(&path, &json(&format)?)?;
        }
        Ok(())
    }
}

fn create(store: &Store) -> Result<Format> {
    use std::os::unix::fs::DirBuilderExt as _;
    for dir in DIRECTORIES {
        let path = store.root.join(dir);
        // Each of them, as ROOT may have been there before, open to all: layers have suid programs.
        retry(|| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)).doing("create", &path)?;
    }
    let guard = store.lock()?;
    let path = store.root.join(FILE);
    // Another process may just have made it.
    if let Some(format) = read_json(&path)? {
        return Ok(format);
    }
    let incompatible = if geteuid().is_root() { vec![] } else { vec![LAYER_MODES.to_owned()] };
    let format = Format { version: VERSION, compatible: vec![], read_only_compatible: vec![], incompatible };
    guard.write(&path, &json(&format)?)?;
    Ok(format)
}
