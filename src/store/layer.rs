//! Layers: a record, an index, a split, and a directory of files.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{Store, file, names_in, read_json};
use crate::error::{Context as _, Error, Result, readable};
use crate::id::{DiffId, Digest};
use crate::index::{Bytes, Index};
use crate::stack::Lower;
use crate::sys;

/// What is known of a layer without opening its index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerRecord {
    /// The sha256 of the layer's tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub size: u64,
    /// Bytes of the files in it.
    pub content_bytes: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// The digest of the compressed bytes that it came as, by which it is known again before it is unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Digest>,
    /// When it came into this store, in seconds since 1970.
    pub created: u64,
}

/// Keeps a layer from being removed while nothing in the store refers to it yet.
#[derive(Debug)]
pub struct Lease {
    /// The layer.
    pub record: LayerRecord,
    _file: File,
}

impl Store {
    /// The file of a layer: its `json`, `index` or `split`.
    #[must_use]
    pub fn layer_path(&self, layer: DiffId, extension: &str) -> PathBuf {
        self.root.join("layers").join(format!("{}.{extension}", layer.hex()))
    }

    /// What is known of a layer.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`] when the record cannot be understood.
    pub fn layer(&self, layer: DiffId) -> Result<LayerRecord> {
        read_json(&self.layer_path(layer, "json"))?
            .ok_or_else(|| Error::NotFound { kind: "layer", name: layer.to_string() })
    }

    /// All layers, in the order of their ids.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn layers(&self) -> Result<Vec<DiffId>> {
        let names = names_in(&self.root.join("layers"))?;
        let hex = names.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(hex.filter_map(|hex| Digest::from_hex(hex).ok().map(DiffId)).collect())
    }

    /// Keeps a layer that may be damaged, as [`Store::lease`] does, without reading its record.
    ///
    /// # Errors
    /// When the record cannot be opened; [`Error::Corrupt`] when it is no regular file.
    pub fn keep(&self, layer: DiffId) -> Result<Option<File>> {
        let path = self.layer_path(layer, "json");
        loop {
            let Some(file) = file::open(&path)? else { return Ok(None) };
            sys::call::flock(&file, FlockOperation::LockShared).doing("lock", &path)?;
            // Meanwhile it can have been removed, or written anew, which is another file.
            if sys::fs::metadata_of(&file).doing("read", &path)?.nlink() > 0 {
                return Ok(Some(file));
            }
        }
    }

    /// Finds a layer and keeps it, in one step; `None` when the store does not have it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn lease(&self, layer: DiffId) -> Result<Option<Lease>> {
        let Some(file) = self.keep(layer)? else { return Ok(None) };
        let Some(record) = read_json(&self.layer_path(layer, "json"))? else { return Ok(None) };
        Ok(Some(Lease { record, _file: file }))
    }

    /// The layers that came compressed, by what they came as.
    ///
    /// # Errors
    /// When the directory or a record cannot be read.
    pub fn blobs(&self) -> Result<BTreeMap<Digest, DiffId>> {
        let mut blobs = BTreeMap::new();
        for layer in self.layers()? {
            // One that goes meanwhile is not found, and a damaged one is unpacked again.
            blobs.extend(readable(self.layer(layer))?.and_then(|record| record.blob).map(|blob| (blob, layer)));
        }
        Ok(blobs)
    }

    /// Finds the layer that came as the blob `blob`, or is it, and keeps it; as [`Store::lease`].
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn lease_blob(&self, blob: Digest) -> Result<Option<Lease>> {
        if let Some(lease) = self.lease(DiffId(blob))? {
            return Ok(Some(lease));
        }
        self.blobs()?.get(&blob).map_or(Ok(None), |layer| self.lease(*layer))
    }

    /// Opens the split of a layer: its tar without the files' content.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is missing, or no regular file.
    pub fn open_split(&self, layer: DiffId) -> Result<File> {
        let path = self.layer_path(layer, "split");
        file::open(&path)?.ok_or_else(|| Error::corrupt(path, "is missing"))
    }

    /// The bytes of a layer's index; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read; [`Error::Corrupt`] when it is no regular file.
    pub fn index_bytes(&self, layer: DiffId) -> Result<Option<Vec<u8>>> {
        file::read(&self.layer_path(layer, "index"))
    }

    /// The tree of a layer, with where its files are.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a layer; [`Error::Corrupt`] when its index is damaged.
    pub fn lower(&self, layer: DiffId) -> Result<Lower> {
        let path = self.layer_path(layer, "index");
        let missing = || Error::NotFound { kind: "layer", name: layer.to_string() };
        let file = file::open(&path)?.ok_or_else(missing)?;
        let bytes = sys::map(&file).map(Bytes::Mapped).doing("read", &path)?;
        let index = Index::decode(bytes).map_err(|error| Error::corrupt(&path, error.to_string()))?;
        Ok(Lower { dir: self.diff_dir(&layer.hex()), index: Arc::new(index) })
    }

    /// The layer of whatever store has its files in this directory; `None` for a directory of another kind, or of a store that
    /// is not root's alone: an index could give a file to root that is its maker's.
    ///
    /// # Errors
    /// When that cannot be found out; as [`Store::lower`].
    pub fn lower_at(dir: &Path) -> Result<Option<Lower>> {
        let diff = dir.parent().filter(|diff| diff.file_name().is_some_and(|name| name == "diff"));
        let hex = dir.file_name().and_then(|name| name.to_str());
        let (Some(root), Some(Ok(digest))) = (diff.and_then(Path::parent), hex.map(Digest::from_hex)) else {
            return Ok(None);
        };
        let store = Self { root: root.to_owned(), writable: false, durable: true, layer_modes: false };
        for dir in [store.root.clone(), store.root.join("layers")] {
            match sys::fs::symlink_metadata(&dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                found => {
                    let found = found.doing("find", &dir)?;
                    if found.uid() != 0 || found.mode() & 0o022 != 0 {
                        return Ok(None);
                    }
                }
            }
        }
        match store.lower(DiffId(digest)) {
            Err(Error::NotFound { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// The trees of these layers, in their order, read on all processors: the sums of many take a while.
    ///
    /// # Errors
    /// As [`Store::lower`].
    pub fn lowers(&self, layers: &[DiffId]) -> Result<Vec<Lower>> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(layers.len());
        let read: Vec<_> = layers.iter().map(|layer| (layer, OnceLock::new())).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((layer, lower)) = read.get(next.fetch_add(1, Ordering::Relaxed)) {
                lower.get_or_init(|| self.lower(**layer));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                #[expect(clippy::let_underscore_must_use, reason = "without a thread it takes longer")]
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        read.into_iter().filter_map(|(_, lower)| lower.into_inner()).collect()
    }
}
