//! `save`: images of the store become an archive. The same images give the same bytes.
//!
//! ```text
//! split + diff/ ─► layer's tar, proven ─┬─────────────────────────────────► archive, in the images' order
//!                                       └─► compressed, digest and size ───┘
//! ```

mod layers;
mod target;

use std::collections::HashMap;
use std::path::PathBuf;

use crate::archive::{
    Blob, OCI_LAYOUT, SavedImage, SavedLayer, blob_name, docker_manifest, oci_index, oci_manifest, repositories,
};
use crate::error::{Context as _, Error, Result};
use crate::id::{DiffId, Digest, ImageName};
use crate::image::ImageConfig;
use crate::output_file::OutputFile;
use crate::progress::Progress;
use crate::store::{Found, Image, Lease, Store};
use crate::sys::fs;
use crate::tarball::Codec;
use layers::Packed;
use target::{DirTarget, TarTarget, Target};

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Save {
    /// Images, by names or ids. Only the names that are given here go into the archive.
    pub images: Vec<String>,
    /// A file, `-` for standard output; or a directory: one that is there, or with a slash at the end.
    pub output: PathBuf,
    /// What is written.
    pub form: SaveForm,
    /// How layers are.
    pub codec: Codec,
}

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveForm {
    /// A docker-archive that is an OCI layout too, as Docker writes it since 25.
    #[default]
    Both,
    /// An OCI layout.
    Oci,
    /// A docker-archive, as Docker wrote it before 25.
    Docker,
}

/// An image that is saved, with the names that were asked for.
struct Picked {
    image: Image,
    names: Vec<ImageName>,
}

/// Writes an archive.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Corrupt`] when a layer does not give its tar back. Then there is no file at the
/// output, or the one that was there before; only standard output has got what was written until then.
pub fn save(store: &Store, request: &Save, progress: &dyn Progress) -> Result<()> {
    let picked = pick(store, &request.images)?;
    // Nothing of it may be removed before it is written.
    let leases = lease(store, &picked)?;
    let mut target: Box<dyn Target> = if is_directory(request)? {
        if request.form == SaveForm::Docker {
            return Err(Error::Usage(format!(
                "{} is a directory, which holds an OCI layout and no docker-archive",
                request.output.display()
            )));
        }
        Box::new(DirTarget::new(&request.output)?)
    } else {
        Box::new(TarTarget::new(OutputFile::open(&request.output)?))
    };
    let form = match request.form {
        // `manifest.json` is what makes a tar a docker-archive: no tool looks for it in a directory.
        SaveForm::Both if is_directory(request)? => SaveForm::Oci,
        form => form,
    };
    if form != SaveForm::Docker {
        target.directory("blobs")?;
        target.directory("blobs/sha256")?;
    }
    let layers: Vec<&Lease> = in_order(&picked, &leases);
    let mut blobs: HashMap<DiffId, Blob> = HashMap::new();
    layers::write(store, &layers, request.codec, progress, &mut *target, &mut |target, packed| {
        let Packed { diff_id, blob, .. } = *packed;
        blobs.insert(diff_id, blob);
        match form {
            SaveForm::Docker => {
                target.directory(&diff_id.hex())?;
                Ok(docker_layer(diff_id))
            }
            _ => Ok(blob_name(&blob)),
        }
    })?;
    let images = picked.iter().map(|picked| describe(picked, request.codec, &blobs)).collect::<Result<Vec<_>>>()?;
    documents(&mut *target, form, &picked, &images)?;
    target.commit()
}

/// Everything but the layers.
fn documents(target: &mut dyn Target, form: SaveForm, picked: &[Picked], images: &[SavedImage]) -> Result<()> {
    let config_name = |image: &SavedImage| match form {
        SaveForm::Docker => format!("{}.json", image.id.hex()),
        _ => blob_name(&Blob { digest: image.id.0.into(), size: None }),
    };
    for (picked, image) in picked.iter().zip(images) {
        target.document(&config_name(image), &picked.image.config)?;
    }
    if form != SaveForm::Docker {
        let mut manifests = Vec::new();
        for image in images {
            let manifest = oci_manifest(image);
            let blob = Blob { digest: Digest::of(&manifest).into(), size: Some(manifest.len() as u64) };
            target.document(&blob_name(&blob), &manifest)?;
            manifests.push((image, blob));
        }
        target.document("index.json", &oci_index(&manifests))?;
    }
    if form != SaveForm::Oci {
        let member = |image: &SavedImage, layer: Option<&SavedLayer>| match (layer, form) {
            (None, _) => config_name(image),
            (Some(layer), SaveForm::Docker) => docker_layer(layer.diff_id),
            (Some(layer), _) => blob_name(&layer.blob),
        };
        target.document("manifest.json", &docker_manifest(images, form == SaveForm::Both, &member))?;
    }
    if form != SaveForm::Docker {
        let (name, content) = OCI_LAYOUT;
        target.document(name, content)?;
    }
    if form != SaveForm::Oci
        && let Some(repositories) = repositories(images)
    {
        target.document("repositories", &repositories)?;
    }
    Ok(())
}

fn docker_layer(layer: DiffId) -> String {
    format!("{}/layer.tar", layer.hex())
}

fn is_directory(request: &Save) -> Result<bool> {
    let output = &request.output;
    let found = fs::absent(fs::metadata(output)).doing("open", output)?;
    Ok(output.as_os_str().as_encoded_bytes().ends_with(b"/") || found.is_some_and(|found| found.is_dir()))
}

/// The images in the order in which they were named, each once.
fn pick(store: &Store, images: &[String]) -> Result<Vec<Picked>> {
    let mut all: Vec<Picked> = Vec::new();
    for text in images {
        let found = store.find_image(text)?;
        let id = found.id();
        let at = match all.iter().position(|picked| picked.image.id == id) {
            Some(at) => at,
            None => {
                all.push(Picked { image: store.image(id)?, names: Vec::new() });
                all.len().saturating_sub(1)
            }
        };
        if let (Found::ByName(name, _), Some(picked)) = (found, all.get_mut(at))
            && !picked.names.contains(&name)
        {
            picked.names.push(name);
        }
    }
    Ok(all)
}

fn lease(store: &Store, picked: &[Picked]) -> Result<HashMap<DiffId, Lease>> {
    let mut leases = HashMap::new();
    for Picked { image, .. } in picked {
        let broken = |why: String| Error::corrupt(format!("image {}", image.id), why);
        let config = ImageConfig::parse(&image.config).map_err(|why| broken(format!("its config {why}")))?;
        if config.diff_ids() != image.record.layers {
            return Err(broken("its config names other layers than its record".into()));
        }
        for layer in &image.record.layers {
            if !leases.contains_key(layer) {
                let lease = store.lease(*layer)?.ok_or_else(|| broken(format!("its layer {layer} is missing")))?;
                leases.insert(*layer, lease);
            }
        }
    }
    Ok(leases)
}

/// Each layer once, in the order in which the images need them.
fn in_order<'a>(picked: &[Picked], leases: &'a HashMap<DiffId, Lease>) -> Vec<&'a Lease> {
    let mut seen = std::collections::HashSet::new();
    let all = picked.iter().flat_map(|picked| &picked.image.record.layers);
    all.filter(|layer| seen.insert(**layer)).filter_map(|layer| leases.get(layer)).collect()
}

fn describe(picked: &Picked, codec: Codec, blobs: &HashMap<DiffId, Blob>) -> Result<SavedImage> {
    let Picked { image, names } = picked;
    let layer = |diff_id: &DiffId| {
        let blob = blobs.get(diff_id).copied();
        let missing = || Error::NotFound { kind: "layer", name: diff_id.to_string() };
        Ok(SavedLayer { diff_id: *diff_id, blob: blob.ok_or_else(missing)?, codec })
    };
    Ok(SavedImage {
        id: image.id,
        config_size: image.config.len() as u64,
        names: names.clone(),
        layers: image.record.layers.iter().map(layer).collect::<Result<_>>()?,
    })
}
