//! Putting single files of the store in place of damaged ones. Each is the old one or the new one at every moment.

use std::fs::File;
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::image::NameRecord;
use super::lock::try_lock;
use super::references::config_layers;
use super::{ImageRecord, LayerRecord, Staging, Store, file, json, names_in, now, read_json};
use crate::error::{Context as _, Error, Result, readable};
use crate::id::{ContainerId, DiffId, Digest, ImageId};
use crate::sys::{call, fs};

impl Store {
    /// Brings all that was written since `staging` was made onto the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&self, staging: &Staging) -> Result<()> {
        self.sync(staging)
    }

    /// Puts `from`, which is in `staging` and on the disk, in place of the layer's `index` or `split`, or of the
    /// directory of its files when there is no `extension`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn replace_part(&self, staging: &Staging, layer: DiffId, extension: Option<&str>, from: &Path) -> Result<()> {
        let to = extension.map_or_else(|| self.diff_dir(&layer.hex()), |extension| self.layer_path(layer, extension));
        match call::renameat_with(CWD, from, CWD, &to, RenameFlags::EXCHANGE) {
            Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {
                // Whatever is there: a directory in the place of a file too.
                staging.move_to_trash(&to)?;
                fs::rename(from, &to).doing("put into place", &to)?;
            }
            moved => moved.doing("put into place", &to)?,
        }
        to.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    /// Writes the record of a layer anew. `kept` is what [`Store::keep`] gave. Gives `false` and changes nothing when other
    /// processes keep the layer too: a new record would not have their locks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn replace_layer_record(&self, kept: &File, mut record: LayerRecord) -> Result<bool> {
        let path = self.layer_path(record.diff_id, "json");
        if record.created == 0 {
            record.created = now();
        }
        let guard = self.lock()?;
        let is_alone = try_lock(kept, FlockOperation::NonBlockingLockExclusive).doing("lock", &path)?;
        if is_alone {
            guard.write(&path, &json(&record)?)?;
        } else {
            call::flock(kept, FlockOperation::LockShared).doing("lock", &path)?;
        }
        Ok(is_alone)
    }

    /// The config of an image, if it is not damaged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn image_config(&self, image: ImageId) -> Result<Option<Vec<u8>>> {
        let config = file::read(&self.image_dir(image).join("config"))?;
        Ok(config.filter(|config| Digest::of(config) == image.0))
    }

    /// Writes the config of an image of the store anew.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn replace_config(&self, image: ImageId, config: &[u8]) -> Result<()> {
        let guard = self.lock()?;
        let dir = self.image_dir(image);
        // One that was removed meanwhile stays so.
        if is_directory(&dir)? && Digest::of(config) == image.0 {
            guard.write(&dir.join("config"), config)
        } else {
            Ok(())
        }
    }

    /// Writes the record of an image of the store anew, when it is not what its config and its layers say.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn restore_image_record(&self, image: ImageId) -> Result<()> {
        let guard = self.lock()?;
        let path = self.image_dir(image).join("record.json");
        let config = self.image_config(image)?;
        let Some(layers) = config_layers(image, config.as_deref()) else { return Ok(()) };
        let sizes: Option<Vec<u64>> = layers.iter().map(|layer| self.content_bytes(*layer)).collect::<Result<_>>()?;
        let Some(sizes) = sizes else { return Ok(()) };
        let known = match read_json::<ImageRecord>(&path) {
            Err(error) if error.is_damage() => None,
            read => read?,
        };
        let imported = known.as_ref().map_or_else(now, |record| record.imported);
        let size = sizes.into_iter().fold(0u64, u64::saturating_add);
        let record = ImageRecord { layers, size, imported };
        if known.as_ref() == Some(&record) { Ok(()) } else { guard.write(&path, &json(&record)?) }
    }

    /// Writes what only repeats a container's record anew: the chain of its layers, and the file of its name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn restore_container_files(&self, container: ContainerId) -> Result<()> {
        let guard = self.lock()?;
        let Some(known) = readable(self.container(container))? else { return Ok(()) };
        let hex = container.hex();
        let chain: String = known.record.layers.iter().rev().map(|layer| layer.hex() + "\n").collect();
        let name = format!("{hex}\n");
        let named = self.container_name_path(&known.record.name);
        // A name that is another's by now stays so.
        let is_anothers = match self.find_container_id(&known.record.name) {
            Ok(id) => id != container,
            Err(Error::NotFound { .. } | Error::Ambiguous { .. } | Error::Corrupt { .. }) => false,
            Err(error) => return Err(error),
        };
        for (path, content) in [(self.root.join("layers").join(&hex), chain), (named.clone(), name)] {
            let is_free = path != named || !is_anothers;
            if is_free && file::read(&path)?.as_deref() != Some(content.as_bytes()) {
                guard.write(&path, content.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Images that are not there, though names or containers are of them.
    ///
    /// # Errors
    /// When a directory of the store cannot be read.
    pub fn missing_images(&self) -> Result<Vec<ImageId>> {
        let dir = self.root.join("images/names");
        let mut ids: Vec<ImageId> = Vec::new();
        for file in names_in(&dir)? {
            ids.extend(readable(read_json::<NameRecord>(&dir.join(file)))?.flatten().map(|name| name.image));
        }
        for container in self.containers()? {
            ids.extend(readable(container)?.map(|container| container.record.image));
        }
        ids.sort_unstable();
        ids.dedup();
        let mut missing = Vec::new();
        for id in ids {
            if !is_directory(&self.image_dir(id))? {
                missing.push(id);
            }
        }
        Ok(missing)
    }
}

/// Whether a directory is there.
pub(super) fn is_directory(path: &Path) -> Result<bool> {
    Ok(fs::found(path).doing("read", path)?.is_some_and(|there| there.is_dir()))
}
