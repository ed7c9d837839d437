//! `history`: how an image was made.

use crate::error::{Error, Result};
use crate::id::{ImageId, ImageName};
use crate::image;
use crate::image::HistoryStep;
use crate::store::Store;

/// How an image was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The image.
    pub id: ImageId,
    /// Its names.
    pub names: Vec<ImageName>,
    /// The steps with the bytes of the files in the layer that each made, the last one first.
    pub steps: Vec<(HistoryStep, u64)>,
}

/// Tells how an image was made.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Ambiguous`]; when the record of one of its layers is missing or damaged.
pub fn history(store: &Store, name: &str) -> Result<History> {
    let id = store.find_image(name)?.id();
    let image = store.image(id)?;
    let names = store.image_names()?.into_iter().filter(|(_, image)| *image == id).map(|(name, _)| name).collect();
    let mut steps = Vec::new();
    for step in image::history(&image.config, &image.record.layers).into_iter().rev() {
        let size = match step.layer.map(|layer| store.layer(layer)) {
            None => 0,
            Some(Err(Error::NotFound { name, .. })) => {
                return Err(Error::corrupt(format!("image {id}"), format!("its layer {name} is missing")));
            }
            Some(record) => record?.content_bytes,
        };
        steps.push((step, size));
    }
    Ok(History { id, names, steps })
}
