//! From what a user types to an id: a name, an id, or the unique beginning of one.

use super::image::NameRecord;
use super::{Container, Store, file, names_in, read_json};
use crate::error::{Error, Result};
use crate::id::{ContainerId, DiffId, Digest, ImageId, ImageName};

/// How an image was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// By a name it has.
    ByName(ImageName, ImageId),
    /// By its id.
    ById(ImageId),
}

impl Found {
    /// The image.
    #[must_use]
    pub const fn id(&self) -> ImageId {
        match self {
            Self::ByName(_, id) | Self::ById(id) => *id,
        }
    }
}

/// What tools put in front of names that have no registry, the nearest first: podman and buildah of what they make, and
/// skopeo of all it writes.
pub const LEFT_OUT: [&str; 3] = ["localhost/", "docker.io/library/", "docker.io/"];

/// The least digits of an id that remove something: a name that is gone may be the beginning of another thing's id (`rm db`).
const LEAST_TO_REMOVE: usize = 4;

/// Whether `text` says clearly enough that the thing with this id, which was found by it and has not this name, is to go.
pub(crate) fn is_enough_to_remove(text: &str, id: &str) -> bool {
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    !id.strip_prefix("sha256:").unwrap_or(id).starts_with(prefix) || prefix.len() >= LEAST_TO_REMOVE
}

impl Store {
    /// Finds an image by a name ([what tools put in front](LEFT_OUT) may be left out), an id, or the beginning of one.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn find_image(&self, text: &str) -> Result<Found> {
        if let Some((name, image)) = self.find_image_name(text)? {
            return Ok(Found::ByName(name, image));
        }
        unique("image", text, self.images()?.into_iter().map(|id| id.0)).map(|id| Found::ById(ImageId(id)))
    }

    pub(super) fn find_image_name(&self, text: &str) -> Result<Option<(ImageName, ImageId)>> {
        let names = [""].iter().chain(&LEFT_OUT).map(|front| format!("{front}{text}"));
        for name in names.filter_map(|name| ImageName::of_store(&name).ok()) {
            if let Some(NameRecord { name, image }) = read_json(&self.name_path(&name))? {
                return Ok(Some((name, image)));
            }
        }
        Ok(None)
    }

    /// Finds a layer by its diffID or the beginning of it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn find_layer(&self, text: &str) -> Result<DiffId> {
        unique("layer", text, self.layers()?.into_iter().map(|id| id.0)).map(DiffId)
    }

    /// Finds a container by its name, its id or the beginning of it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn find_container(&self, text: &str) -> Result<Container> {
        self.container(self.find_container_id(text)?)
    }

    pub(super) fn find_container_id(&self, text: &str) -> Result<ContainerId> {
        if super::container::check_name(text).is_ok()
            && let Some(hex) = file::read(&self.container_name_path(text))?
            && let Some(id) = String::from_utf8(hex).ok().and_then(|hex| hex.trim_end().parse().ok())
            && !matches!(self.container(id), Err(Error::NotFound { .. }))
        {
            return Ok(id);
        }
        let names = names_in(&self.root.join("containers"))?;
        let ids = names.iter().filter_map(|hex| Digest::from_hex(hex).ok());
        unique("container", text, ids).map(|id| ContainerId::from_random(*id.as_bytes()))
    }
}

fn unique(kind: &'static str, text: &str, ids: impl Iterator<Item = Digest>) -> Result<Digest> {
    let not_found = || Error::NotFound { kind, name: text.to_owned() };
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    if prefix.is_empty() || prefix.len() > 64 {
        return Err(not_found());
    }
    let found: Vec<Digest> = ids.filter(|id| id.hex().starts_with(prefix)).collect();
    match found.as_slice() {
        [] => Err(not_found()),
        [id] => Ok(*id),
        several => Err(Error::Ambiguous { kind, prefix: text.to_owned(), count: several.len() }),
    }
}
