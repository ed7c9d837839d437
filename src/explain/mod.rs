//! `explain`: why a path is there, or is not: which layer gives it, what that hides, and what removed it.
//!
//! All is read from the indexes of the layers. Of a container the rw layer comes on top, which is looked at through its union,
//! or through its mount while it is mounted.

mod container;
mod layers;
mod resolve;

use crate::error::{Error, Result};
use crate::id::DiffId;
use crate::image::HistoryStep;
use crate::index::{Kind, Meta};
use crate::store::Store;
use container::Rw;
use layers::Layers;

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a container's rw layer.
    Container,
    /// In a layer.
    Layer {
        /// Which one, the lowest is 1.
        number: usize,
        /// Its name.
        diff_id: DiffId,
        /// The step that made it, with its number; the first is 1.
        step: Option<(usize, HistoryStep)>,
    },
}

/// What a layer has at the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// What `stat` tells.
    pub meta: Meta,
    /// The target of a symbolic link.
    pub target: Vec<u8>,
    /// The digest of a file's content.
    pub digest: Option<crate::id::Digest>,
    /// All names of the file in this layer, where it has several.
    pub names: Vec<Vec<u8>>,
    /// The layer only has something in it, and says nothing of the directory itself.
    pub is_implied: bool,
}

/// What a layer does to the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// What it has there is what is shown.
    Gives(Given),
    /// It has a directory there, which is shown together with those above it.
    Merges(Given),
    /// What it has there is not shown.
    Hidden(Given),
    /// A whiteout of the path or of a directory on the way hides what the layers below have.
    Whiteout(Vec<u8>),
    /// The directory itself, or one on the way, is opaque: it shows nothing of the layers below.
    Opaque(Vec<u8>),
    /// What is no directory stands where there was one on the way.
    Replaces(Vec<u8>),
    /// A container has removed it, or a directory on the way.
    Removes,
}

/// A symbolic link on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Where.
    pub path: Vec<u8>,
    /// Its target.
    pub target: Vec<u8>,
    /// What gives it.
    pub source: Source,
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The path, when all links on the way have been followed inside the root.
    pub path: Vec<u8>,
    /// Those links.
    pub links: Vec<Followed>,
    /// Whether it is there.
    pub is_present: bool,
    /// What is done to it, from the top down.
    pub actions: Vec<(Source, Action)>,
}

/// Explains a path of a container, else of an image. A link at its end is not followed.
///
/// # Errors
/// [`Error::NotFound`] also for a path that no layer has and none ever had.
pub fn explain(store: &Store, name: &str, path: &[u8]) -> Result<Explanation> {
    let container = match store.find_container(name) {
        Ok(container) => Some(container),
        Err(Error::NotFound { kind: "container", .. }) => None,
        Err(error) => return Err(error),
    };
    let image = match &container {
        Some(container) => container.record.image,
        None => match store.find_image(name) {
            Err(Error::NotFound { kind: "image", name }) => {
                return Err(Error::NotFound { kind: "container or image", name });
            }
            found => found?.id(),
        },
    };
    let mut layers =
        Layers::open(store, image, container.as_ref().map(|container| container.record.layers.as_slice()))?;
    if let Some(container) = &container {
        layers.rw = Some(Rw::open(store, container)?);
    }
    let shown = || String::from_utf8_lossy(path).into_owned();
    let resolved = resolve::resolve(&layers, path).map_err(|source| Error::Io {
        doing: "explain",
        path: shown().into(),
        source,
    })?;
    let (actions, is_present) = layers.actions(&resolved.components).map_err(|source| Error::Io {
        doing: "explain",
        path: shown().into(),
        source,
    })?;
    let was_given = |action: &Action| matches!(action, Action::Gives(_) | Action::Merges(_) | Action::Hidden(_));
    if !actions.iter().any(|(_, action)| was_given(action)) {
        return Err(Error::NotFound { kind: "file", name: format!("{name}:{}", shown()) });
    }
    // What hides nothing is none of the story.
    let last = actions.iter().rposition(|(_, action)| was_given(action)).unwrap_or_default();
    let actions = actions.into_iter().take(last.saturating_add(1)).collect();
    Ok(Explanation { path: joined(&resolved.components), links: resolved.links, is_present, actions })
}

/// A path from the root on.
fn joined(components: &[Vec<u8>]) -> Vec<u8> {
    if components.is_empty() {
        return b"/".to_vec();
    }
    components.iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect()
}

impl Given {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.meta.kind == Kind::Directory
    }
}
