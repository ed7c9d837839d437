//! Images: a config, the layers it names, and the names it has.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Found, Store, file, is_enough_to_remove, names_in, read_json};
use crate::error::{Error, Result};
use crate::id::{DiffId, Digest, ImageId, ImageName};

/// What is known of an image beside its config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    /// The layers, lowest first.
    pub layers: Vec<DiffId>,
    /// Bytes of the files in all its layers.
    pub size: u64,
    /// When it came into this store, in seconds since 1970.
    pub imported: u64,
}

/// An image of the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The sha256 of the config.
    pub id: ImageId,
    /// The config's bytes, as they came.
    pub config: Vec<u8>,
    /// What else is known.
    pub record: ImageRecord,
}

/// What [`Store::remove_image`] took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name; the image may have others.
    Name(ImageName),
    /// An image.
    Image(ImageId),
    /// A layer that nothing needs any more.
    Layer(DiffId),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NameRecord {
    pub(super) name: ImageName,
    pub(super) image: ImageId,
}

impl Store {
    pub(super) fn image_dir(&self, id: ImageId) -> PathBuf {
        self.root.join("images").join(id.hex())
    }

    // A name may be longer than a file's name can be, and has slashes.
    pub(super) fn name_path(&self, name: &ImageName) -> PathBuf {
        let digest = Digest::of(name.to_string().as_bytes());
        self.root.join("images/names").join(format!("{}.json", digest.hex()))
    }

    /// An image by its id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`] when its config does not have its digest.
    pub fn image(&self, id: ImageId) -> Result<Image> {
        let dir = self.image_dir(id);
        let missing = || Error::NotFound { kind: "image", name: id.to_string() };
        let record = read_json(&dir.join("record.json"))?.ok_or_else(missing)?;
        let path = dir.join("config");
        let config = file::read(&path)?.ok_or_else(|| Error::corrupt(&path, "is missing"))?;
        if Digest::of(&config) != id.0 {
            return Err(Error::corrupt(path, "does not have the image's digest"));
        }
        Ok(Image { id, config, record })
    }

    /// All images, in the order of their ids.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn images(&self) -> Result<Vec<ImageId>> {
        let names = names_in(&self.root.join("images"))?;
        Ok(names.iter().filter_map(|hex| Digest::from_hex(hex).ok().map(ImageId)).collect())
    }

    /// All names with what they stand for, sorted by name.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn image_names(&self) -> Result<Vec<(ImageName, ImageId)>> {
        let dir = self.root.join("images/names");
        let mut names = Vec::new();
        for file in names_in(&dir)? {
            // A name that goes while the list is made is on no list.
            if let Some(NameRecord { name, image }) = read_json(&dir.join(file))? {
                names.push((name, image));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Takes a name off its image, and with its last name the image, and the layers that nothing else needs. The second value
    /// says what of that is still on the disk, though nothing of the store any more.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InUse`] while a container is made from the image, or when it was named
    /// by its id and has several names, unless `all_names` says that they shall go.
    pub fn remove_image(&self, text: &str, all_names: bool) -> Result<(Vec<Removed>, Result<()>)> {
        let staging = self.stage_removal()?;
        let guard = self.lock()?;
        let (id, by_name) = match self.find_image(text) {
            Ok(Found::ByName(name, id)) => (id, Some(name)),
            Ok(Found::ById(id)) if is_enough_to_remove(text, &id.0.hex()) => (id, None),
            Ok(Found::ById(_)) => return Err(Error::NotFound { kind: "image", name: text.to_owned() }),
            Err(missing @ Error::NotFound { .. }) => {
                // Its removal may have failed half-way, and this is how it is given once more.
                self.sweep(&guard, &staging)?;
                return Err(missing);
            }
            Err(error) => return Err(error),
        };
        let names: Vec<ImageName> =
            self.image_names()?.into_iter().filter(|(_, image)| *image == id).map(|(name, _)| name).collect();
        let in_use = |by: String| Error::InUse { kind: "image", name: text.to_owned(), by };
        let mut removed = Vec::new();
        if let (Some(name), 2..) = (&by_name, names.len()) {
            self.remove_name(name)?;
            removed.push(Removed::Name(name.clone()));
            return Ok((removed, Ok(())));
        }
        if names.len() > 1 && !all_names {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            return Err(in_use(format!("it has the names {}", names.join(", "))));
        }
        for (container, record) in self.references(&guard)?.containers {
            match record {
                Some(record) if record.image != id => {}
                Some(record) => return Err(in_use(format!("container {} is made from it", record.name))),
                None => {
                    return Err(in_use(format!(
                        "the record of container {} is damaged, and it may be made from it: remove the container first \
                         (layerctl rm -f {0})",
                        container.hex()
                    )));
                }
            }
        }
        self.take_with_names(&staging, id, &names)?;
        removed.extend(names.into_iter().map(Removed::Name));
        self.sync_dir(&self.root.join("images"))?;
        removed.push(Removed::Image(id));
        removed.extend(self.remove_unused(&guard, &staging)?.into_iter().map(Removed::Layer));
        drop(guard);
        Ok((removed, staging.finish_own()))
    }
}
