//! `build`: an image of tars and directories, each one layer, on top of an image or of nothing.
//!
//! ```text
//! tar, directory ─► its diffID ─► the store has it ─► kept ──────────┐
//!                              └─► unpacked into the staging directory ─┴─► config ─► publish
//! ```

mod source;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::archive::DocumentLimits;
use crate::error::{Context as _, Error, Result};
use crate::id::{DiffId, Digest, ImageId, ImageName};
use crate::image::{Document, Platform, Setting, Step};
use crate::import::ImportLimits;
use crate::output_file::OutputFile;
use crate::progress::Progress;
use crate::store::{Lease, NewImage, StagedLayer, Store};
use crate::timestamp::latest_mtime;
use source::{Layer, Source};

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// The image below, by its name or id; none for an image of nothing but its layers.
    pub from: Option<String>,
    /// Tars and directories, lowest first; `-` is a tar on standard input.
    pub layers: Vec<PathBuf>,
    /// Names for the image.
    pub names: Vec<ImageName>,
    /// A config that takes the place of that of the image below.
    pub config_from: Option<PathBuf>,
    /// What is set in the config.
    pub settings: Vec<Setting>,
    /// How much a tar may ask for.
    pub limits: ImportLimits,
    /// Where the image's id is written to.
    pub id_file: Option<PathBuf>,
}

/// Makes an image and gives its id.
///
/// # Errors
/// [`Error::NotFound`] for the image below or a source; [`Error::BadArchive`] for what is no layer; then the store is as
/// it was.
pub fn build(store: &Store, request: &Build, progress: &dyn Progress) -> Result<ImageId> {
    crate::sys::raise_descriptor_limit();
    if request.layers.is_empty() && request.from.is_none() {
        return Err(Error::Usage("there is nothing to build: name layers, or an image with --from".into()));
    }
    if request.layers.iter().filter(|layer| *layer == Path::new("-")).count() > 1 {
        return Err(Error::Usage("- is there more than once, and standard input only once".into()));
    }
    let latest = latest_mtime()?;
    // What can be wrong without reading a layer is found out before.
    let sources: Vec<Source> = request.layers.iter().map(|path| Source::open(path)).collect::<Result<_>>()?;
    let (mut document, mut layers, _below) = below(store, request.from.as_deref())?;
    if let Some(file) = &request.config_from {
        document.take_config(file, &config_file(file, request.limits.documents)?)?;
    }
    document.apply(&request.settings)?;

    let staging = store.stage()?;
    let mut staged: Vec<StagedLayer> = Vec::new();
    // Held until the image that needs them is published.
    let mut leases: Vec<Lease> = Vec::new();
    for (number, source) in sources.into_iter().enumerate() {
        let dir = staging.dir().join(format!("layer-{number}"));
        let layer = source.layer(store, dir, latest, &request.limits.layers, progress)?;
        layers.push(layer.diff_id());
        match layer {
            Layer::Kept(lease) => leases.push(lease),
            Layer::Staged(layer) => {
                let is_new = !staged.iter().any(|other| other.record().diff_id == layer.record().diff_id);
                staged.extend(Some(layer).filter(|_| is_new));
            }
        }
    }
    let step = Step { by: "layerctl build", has_layer: !request.layers.is_empty() };
    let config = document.finish(&layers, &vec![step; request.layers.len().max(1)])?;
    let id = ImageId(Digest::of(&config));
    let id_file = request.id_file.as_deref().map(OutputFile::open).transpose()?;
    let image = NewImage { config, layers, names: request.names.clone() };
    store.publish(staging, &staged, &[image])?;
    drop(leases);
    if let Some(mut file) = id_file {
        // Not before: it would name an image that is not there.
        let name = file.name().to_owned();
        write!(file, "{id}").doing("write", name)?;
        file.commit()?;
    }
    Ok(id)
}

/// The content of a file that is to be a config.
fn config_file(file: &Path, limits: DocumentLimits) -> Result<Vec<u8>> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::NotFound { kind: "file", name: file.display().to_string() });
        }
        opened => opened.doing("open", file)?,
    };
    let mut bytes = Vec::new();
    opened.take(limits.one.saturating_add(1)).read_to_end(&mut bytes).doing("read", file)?;
    if bytes.len() as u64 > limits.one {
        return Err(Error::bad_archive(file.display().to_string(), limits.too_large()));
    }
    Ok(bytes)
}

/// The config and the layers of the image below, which stay as long as the leases do.
fn below(store: &Store, from: Option<&str>) -> Result<(Document, Vec<DiffId>, Vec<Lease>)> {
    let Some(name) = from else { return Ok((Document::new(&Platform::host()), Vec::new(), Vec::new())) };
    let image = store.image(store.find_image(name)?.id())?;
    let layers = image.record.layers.clone();
    let missing = |layer| Error::corrupt(format!("image {}", image.id), format!("its layer {layer} is missing"));
    let lease = |layer: &DiffId| store.lease(*layer)?.ok_or_else(|| missing(*layer));
    let leases = layers.iter().map(lease).collect::<Result<_>>()?;
    Ok((Document::of(image.id, &image.config)?, layers, leases))
}
