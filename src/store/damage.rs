//! Finds damage in the records of the store, and garbage in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::image::NameRecord;
use super::lock::Settled;
use super::mend::is_directory;
use super::prune::is_file;
use super::references::{References, config_layers};
use super::{Container, ImageRecord, MountRecord, Store, file, names_in, read_json};
use crate::error::{Context as _, Error, Result, found};
use crate::id::{ContainerId, DiffId, Digest, ImageId};
use crate::sys::fs;

/// A damaged or misplaced object of the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// `image`, `container`, `layer`, `name` or `store`.
    pub kind: &'static str,
    /// Whose it is: an id or a name; empty for the store's.
    pub id: String,
    /// The file or directory.
    pub path: PathBuf,
    /// `record`, `dangling`, `orphan` or `leftover`.
    pub problem: &'static str,
    /// What is wrong, as a clause.
    pub why: String,
    /// Whether it is only in the way: what a process that died has left, for `prune` to take.
    pub is_garbage: bool,
}

struct DamageReport<'a> {
    store: &'a Store,
    found: Vec<Damage>,
}

impl Store {
    /// Looks at all records but the layers' own, at one moment.
    ///
    /// # Errors
    /// When a directory of the store cannot be read.
    pub fn find_damage(&self) -> Result<Vec<Damage>> {
        let hold = self.hold()?;
        let references = self.references_with_damage(&hold)?;
        let mut report = DamageReport { store: self, found: Vec::new() };
        for id in references.images.keys() {
            report.image(&references, *id)?;
        }
        for (id, record) in &references.containers {
            report.container(&references, *id, record.is_some())?;
        }
        report.names(&references)?;
        report.garbage(&hold)?;
        report.found.sort_unstable();
        Ok(report.found)
    }

    /// What is wrong with the records of one image.
    ///
    /// # Errors
    /// When a directory of the store cannot be read.
    pub fn find_image_damage(&self, image: ImageId) -> Result<Vec<Damage>> {
        let references = self.references_with_damage(&self.hold()?)?;
        let mut report = DamageReport { store: self, found: Vec::new() };
        report.image(&references, image)?;
        Ok(report.found)
    }

    /// The size that the layer's record says; `None` when it is missing or damaged.
    pub(super) fn content_bytes(&self, layer: DiffId) -> Result<Option<u64>> {
        match self.layer(layer) {
            Err(error) if error.is_damage() => Ok(None),
            record => Ok(found(record)?.map(|record| record.content_bytes)),
        }
    }

    /// The layers that an image has, as far as its record or its config can say it.
    ///
    /// # Errors
    /// When a directory of the store cannot be read.
    pub fn image_layers(&self, image: ImageId) -> Result<Vec<DiffId>> {
        let mut references = self.references_with_damage(&self.hold()?)?;
        Ok(references.images.remove(&image).and_then(|image| image.layers).unwrap_or_default())
    }
}

impl DamageReport<'_> {
    fn add(&mut self, kind: &'static str, id: &str, path: &Path, problem: &'static str, why: impl Into<String>) {
        let is_garbage = matches!(problem, "orphan" | "leftover");
        let (id, path, why) = (id.to_owned(), path.to_owned(), why.into());
        self.found.push(Damage { kind, id, path, problem, why, is_garbage });
    }

    fn image(&mut self, references: &References, id: ImageId) -> Result<()> {
        let store = self.store;
        let (dir, name) = (store.image_dir(id), id.to_string());
        let mut tell = |path: &Path, problem, why: String| self.add("image", &name, path, problem, why);
        if !references.images.contains_key(&id) {
            tell(&dir, "dangling", "is missing".into());
            return Ok(());
        }
        let path = dir.join("config");
        let config = match file::read(&path) {
            Err(error) if error.is_damage() => {
                tell(&path, "record", error.to_string());
                return Ok(());
            }
            read => read?,
        };
        let layers = config_layers(id, config.as_deref());
        match &config {
            None => tell(&path, "record", "is missing".into()),
            Some(config) if Digest::of(config) != id.0 => {
                tell(&path, "record", "does not have the image's digest".into());
            }
            Some(_) if layers.is_none() => tell(&path, "record", "is no image config".into()),
            Some(_) => {}
        }
        let path = dir.join("record.json");
        match read_json::<ImageRecord>(&path) {
            Err(error) if error.is_damage() => tell(&path, "record", error.to_string()),
            Err(error) => return Err(error),
            Ok(None) => tell(&path, "record", "is missing".into()),
            Ok(Some(record)) => {
                if layers.as_ref().is_some_and(|layers| *layers != record.layers) {
                    tell(&path, "record", "names other layers than the config".into());
                }
                // One that cannot be read is told of as the layer's.
                let sizes = record.layers.iter().map(|layer| store.content_bytes(*layer));
                let sizes: Option<Vec<u64>> = sizes.collect::<Result<_>>()?;
                let size = sizes.map(|sizes| sizes.into_iter().fold(0u64, u64::saturating_add));
                if size.is_some_and(|size| size != record.size) {
                    tell(&path, "record", format!("has a size that is not {}", size.unwrap_or_default()));
                }
            }
        }
        for layer in references.images.get(&id).and_then(|image| image.layers.as_ref()).into_iter().flatten() {
            if !references.layers.contains(layer) {
                tell(&dir, "dangling", format!("needs the layer {layer}, which is missing"));
            }
        }
        Ok(())
    }

    fn container(&mut self, references: &References, id: ContainerId, has_record: bool) -> Result<()> {
        let (store, hex) = (self.store, id.hex());
        let dir = store.root.join("containers").join(&hex);
        let mut tell = |path: &Path, problem, why: String| self.add("container", &hex, path, problem, why);
        let path = dir.join("mount.json");
        match read_json::<MountRecord>(&path) {
            Err(error) if error.is_damage() => tell(&path, "record", error.to_string()),
            read => drop(read?),
        }
        if !is_directory(&store.diff_dir(&hex))? {
            tell(&store.diff_dir(&hex), "dangling", "is missing: what the container has written".into());
        }
        let path = dir.join("record.json");
        let Container { record, .. } = match store.container(id) {
            Ok(container) if has_record => container,
            Ok(_) => return Ok(()),
            Err(Error::NotFound { .. }) => {
                tell(&path, "record", "is missing".into());
                return Ok(());
            }
            Err(error) if error.is_damage() => {
                tell(&path, "record", error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !references.images.contains_key(&record.image) {
            tell(&dir, "dangling", format!("needs the image {}, which is missing", record.image));
        }
        for layer in record.layers.iter().filter(|layer| !references.layers.contains(layer)) {
            tell(&dir, "dangling", format!("needs the layer {layer}, which is missing"));
        }
        let image = references.images.get(&record.image).and_then(|image| image.layers.as_ref());
        if image.is_some_and(|layers| *layers != record.layers) {
            tell(&path, "record", "names other layers than its image".into());
        }
        let path = store.root.join("layers").join(&hex);
        let chain: String = record.layers.iter().rev().map(|layer| layer.hex() + "\n").collect();
        let read = |path: &Path| match file::read(path) {
            Err(error) if error.is_damage() => Ok(None),
            read => read,
        };
        if read(&path)?.as_deref() != Some(chain.as_bytes()) {
            tell(&path, "record", "does not name the container's layers".into());
        }
        let path = store.container_name_path(&record.name);
        if read(&path)?.as_deref() != Some(format!("{hex}\n").as_bytes()) {
            tell(&path, "record", format!("does not say that {} is this container", record.name));
        }
        Ok(())
    }

    fn names(&mut self, references: &References) -> Result<()> {
        let dir = self.store.root.join("images/names");
        for (file, name) in &references.dangling_names {
            self.add("name", &name.to_string(), &dir.join(file), "dangling", "is the name of an image that is missing");
        }
        for file in &references.damaged_names {
            let why = read_json::<NameRecord>(&dir.join(file)).err().map(|error| error.to_string());
            self.add("name", file, &dir.join(file), "record", why.unwrap_or_default());
        }
        for name in references.images.values().flat_map(|image| &image.names) {
            let path = self.store.name_path(name);
            if !fs::is_there(&path).doing("read", &path)? {
                self.add("name", &name.to_string(), &path, "record", "is missing: the name is in another's file");
            }
        }
        Ok(())
    }

    fn garbage(&mut self, hold: &dyn Settled) -> Result<()> {
        for stray in self.store.strays(hold)? {
            let is_content =
                stray.starts_with(self.store.root.join("diff")) || stray.starts_with(self.store.root.join("layers"));
            let problem = if is_content { "orphan" } else { "leftover" };
            self.add("store", "", &stray, problem, "belongs to nothing that has a record");
        }
        for (dir, _) in self.store.dead(hold)? {
            // One without an owner and without anything may be on its way out.
            match names_in(&dir) {
                Ok(names) if names.is_empty() => continue,
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
                names => drop(names?),
            }
            self.add("store", "", &dir, "leftover", "was left by a process that died");
        }
        for name in names_in(&self.store.root.join("tmp"))? {
            let path = self.store.root.join("tmp").join(name);
            if is_file(&path)? {
                self.add("store", "", &path, "leftover", "was left by a process that died");
            }
        }
        Ok(())
    }
}
