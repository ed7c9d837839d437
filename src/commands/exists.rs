//! `exists`: whether the store has something.

use crate::error::{Error, Result};
use crate::store::Store;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A layer.
    Layer,
}

/// Whether something of one of these kinds has this name, id, or beginning of an id.
///
/// # Errors
/// [`Error::Ambiguous`]; when the store cannot be read or the thing is damaged.
pub fn exists(store: &Store, kinds: &[Kind], name: &str) -> Result<bool> {
    // Something found under another kind is meant, before something ambiguous under this one.
    let mut ambiguous = None;
    for kind in kinds {
        let found = match kind {
            Kind::Container => store.find_container(name).map(drop),
            Kind::Image => store.find_image(name).and_then(|found| store.image(found.id())).map(drop),
            Kind::Layer => store.find_layer(name).and_then(|layer| store.layer(layer)).map(drop),
        };
        match found {
            Ok(()) => return Ok(true),
            Err(Error::NotFound { .. }) => {}
            Err(error @ Error::Ambiguous { .. }) => ambiguous = Some(error),
            Err(error) => return Err(error),
        }
    }
    ambiguous.map_or(Ok(false), Err)
}
