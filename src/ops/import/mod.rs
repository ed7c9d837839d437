//! `import`: from an archive to layers and images of the store, all of it or nothing.
//!
//! ```text
//! file, a plain tar ─► documents ─► which layers are missing ─► each on its own thread ─┐
//! directory ─────────► documents ─► …                                                   ├─► publish
//! stream ────────────► each member as it comes: a document is kept, a layer unpacked ───┘
//! ```

mod layer;
mod limits;
mod of_nothing;
mod random_access;
mod stream;
mod verdict;

use std::path::{Path, PathBuf};

pub(super) use layer::{Archive, unpack_layer};

pub use limits::ImportLimits;
pub use verdict::Policy;

use super::output_file::OutputFile;
use crate::archive::DirMembers;
use crate::archive::{Input, Plan, PlannedLayer, Platform, Stop, TarMembers, root_file_system_config};
use crate::error::{Context as _, Error, Result};
use crate::id::{ImageId, ImageName};
use crate::progress::Progress;
use crate::store::{NewImage, StagedLayer, Staging, Store};

/// What else the user said.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Names for the image, in place of those that the archive gives.
    pub names: Vec<ImageName>,
    /// Which image to take where an index offers several.
    pub platform: Platform,
    /// How much the archive may ask for.
    pub limits: ImportLimits,
    /// What is done with what the formats forbid.
    pub policy: Policy,
    /// Where to write what is odd about the layers.
    pub report: Option<PathBuf>,
}

struct Import<'a> {
    store: &'a Store,
    /// The archive as the user named it, for messages.
    archive: String,
    staging: Staging,
    options: &'a ImportOptions,
    progress: &'a dyn Progress,
    report: Option<OutputFile>,
    /// Ends the reading of a stream.
    stop: Stop,
}

/// Imports all images of `source`, which is `-` for standard input; gives their ids in the archive's order.
///
/// # Errors
/// [`Error::BadArchive`] and others; then the store is as it was.
pub fn import(store: &Store, source: &Path, options: &ImportOptions, progress: &dyn Progress) -> Result<Vec<ImageId>> {
    super::descriptors::allow_all();
    let input = Input::open(source, options.limits.layers.ratio)?;
    let archive = source.display().to_string();
    let report = Import::open_report(options.report.as_ref())?;
    let stop = if let Input::Stream(stream) = &input { stream.stop.clone() } else { Stop::default() };
    let import = Import { store, staging: store.stage()?, options, progress, archive, report, stop };
    match input {
        Input::Directory(dir) => {
            let members = DirMembers::new(&import.archive, options.limits.documents, &dir);
            let plans = import.plans(&members)?.ok_or_else(|| import.no_documents())?;
            import.random_access(plans, &|name| members.open(name))
        }
        Input::Seekable(file) => {
            let copy = file.try_clone().doing("read", source)?;
            let Some(members) = TarMembers::find(&import.archive, options.limits.documents, copy)? else {
                return import.rewound(file);
            };
            match import.plans(&members)? {
                Some(plans) => import.random_access(plans, &|name| Ok(members.open(name))),
                None if members.look_like_archive() => Err(import.no_documents()),
                None => import.rewound(file),
            }
        }
        Input::Stream(stream) if stream.is_archive => import.stream(stream.tar),
        Input::Stream(stream) => import.root_file_system(stream.tar),
    }
}

impl Import<'_> {
    fn bad(&self, entry: impl Into<Option<String>>, why: impl Into<String>) -> Error {
        Error::BadArchive { archive: self.archive.clone(), entry: entry.into(), why: why.into() }
    }

    fn no_documents(&self) -> Error {
        self.bad(None, "has neither a manifest.json nor an index.json")
    }

    fn plans(&self, documents: &dyn crate::archive::Documents) -> Result<Option<Vec<Plan>>> {
        let plans =
            crate::archive::plans(&self.archive, documents, self.options.limits.documents, &self.options.platform)?;
        if !self.options.names.is_empty() && plans.as_ref().is_some_and(|plans| plans.len() > 1) {
            return Err(Error::Usage(format!("{}: has several images, so that a name cannot be given", self.archive)));
        }
        Ok(plans)
    }

    fn rewound(self, mut file: std::fs::File) -> Result<Vec<ImageId>> {
        use std::io::Seek as _;
        file.rewind().doing("read", &self.archive)?;
        self.root_file_system(Box::new(file))
    }

    /// Takes the whole tar as the only layer of an image.
    fn root_file_system(mut self, tar: Box<dyn std::io::Read>) -> Result<Vec<ImageId>> {
        let task = self.progress.start(&self.archive, None);
        let layer = self.unpack(0, None, tar, &*task)?.staged;
        task.finish("done");
        let diff_id = layer.record().diff_id;
        let config = root_file_system_config(diff_id, &self.options.platform);
        let planned = PlannedLayer { diff_id, member: String::new(), blob: None };
        let plan = Plan { config: config.clone(), names: Vec::new(), layers: vec![planned] };
        self.judge(&[plan], std::slice::from_ref(&layer))?;
        let image = NewImage { config, layers: vec![diff_id], names: self.options.names.clone() };
        self.store.publish(self.staging, &[layer], &[image])
    }

    /// Publishes what has been planned and checked.
    fn publish(mut self, plans: Vec<Plan>, layers: &[StagedLayer]) -> Result<Vec<ImageId>> {
        self.judge(&plans, layers)?;
        let given = &self.options.names;
        let images = plans.into_iter().map(|plan| NewImage {
            layers: plan.layers.iter().map(|layer| layer.diff_id).collect(),
            config: plan.config,
            names: if given.is_empty() { plan.names } else { given.clone() },
        });
        let images: Vec<NewImage> = images.collect();
        self.store.publish(self.staging, layers, &images)
    }
}
