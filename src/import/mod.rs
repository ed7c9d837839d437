//! `import`: from an archive to layers and images of the store, all of it or nothing.
//!
//! ```text
//! file, a plain tar ─► documents ─► which layers are missing ─► each on its own thread ─┐
//! directory ─────────► documents ─► …                                                   ├─► publish
//! stream ────────────► each member as it comes: a document is kept, a layer unpacked ───┤
//! anything else ─────► unpacked as one layer ─┬─► a directory with documents ─► …       │
//!                                             └─► a root file system ───────────────────┘
//! ```

mod layer;
mod limits;
mod policy;
mod random_access;
mod redundant_whiteouts;
mod report;
mod stream;
mod unpacked;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use layer::{Archive, unpack_layer};

pub use limits::ImportLimits;
pub use policy::Policy;

use crate::archive::{
    DirMembers, Documents, Input, Note, Plan, PlannedLayer, Plans, Stop, Stream, TarMembers, Wanted, no_documents,
};
use crate::error::{Context as _, Error, Result};
use crate::id::{ImageId, ImageName};
use crate::image::Platforms;
use crate::output_file::OutputFile;
use crate::progress::Progress;
use crate::store::{NewImage, StagedLayer, Staging, Store};

/// What a source is taken as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TakenAs {
    /// What it is found to be.
    #[default]
    Found,
    /// An archive of images, or it is refused.
    Image,
    /// A root file system, whatever is in it.
    RootFileSystem,
}

/// What else the user said.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Names for the image, in place of those that the archive gives.
    pub names: Vec<ImageName>,
    /// Which images to take where an index offers several.
    pub platforms: Platforms,
    /// What the source is taken as.
    pub taken_as: TakenAs,
    /// How much the archive may ask for.
    pub limits: ImportLimits,
    /// What is done with what the formats forbid.
    pub policy: Policy,
    /// Where to write what is odd about the layers.
    pub report: Option<PathBuf>,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The images, in the archive's order.
    pub ids: Vec<ImageId>,
    /// What the archive names and was passed over.
    pub passed_over: Vec<Note>,
    /// Whether the source was taken as a root file system.
    pub is_root_file_system: bool,
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
    /// How often it was begun again: what was unpacked before is in the way of nothing.
    round: AtomicUsize,
    /// Bytes that all layers together may have.
    total: u64,
    /// Whether the archive was unpacked before it was read.
    is_spooled: bool,
}

/// Imports all images of `source`, which is `-` for standard input.
///
/// # Errors
/// [`Error::BadArchive`] and others; then the store is as it was.
pub fn import(store: &Store, source: &Path, options: &ImportOptions, progress: &dyn Progress) -> Result<Imported> {
    crate::sys::raise_descriptor_limit();
    let limits = &options.limits;
    let input = Input::open(source, limits.layers.ratio)?;
    let archive = source.display().to_string();
    let report = Import::open_report(options.report.as_ref())?;
    let stop = if let Input::Stream(stream) = &input { stream.stop.clone() } else { Stop::default() };
    let (round, total) = (AtomicUsize::new(0), limits.layers.total.load(Ordering::Relaxed));
    let staging = store.stage()?;
    let import = Import { store, staging, options, progress, archive, report, stop, round, total, is_spooled: false };
    match input {
        Input::Directory(_) if options.taken_as == TakenAs::RootFileSystem => Err(Error::Usage(format!(
            "{}: is a directory, and no tar of a root file system: `layerctl build` makes an image of it",
            import.archive
        ))),
        Input::Directory(dir) => {
            let members = DirMembers::new(&import.archive, limits.documents, limits.layers.ratio, &dir);
            let plans = import.plans(&members, true)?.ok_or_else(|| no_documents(&import.archive))?;
            import.random_access(plans, &members, &|name| members.open(name))
        }
        Input::Seekable(file) => import.seekable(file),
        Input::Stream(stream) => import.streamed(stream),
    }
}

impl Import<'_> {
    fn bad(&self, entry: impl Into<Option<String>>, why: impl Into<String>) -> Error {
        Error::BadArchive { archive: self.archive.clone(), entry: entry.into(), why: why.into() }
    }

    fn plans(&self, documents: &dyn Documents, look_like_image: bool) -> Result<Option<Plans>> {
        let names = self.options.names.is_empty();
        let (platforms, limits) = (self.options.platforms.clone(), self.options.limits.documents);
        let wanted = Wanted { platforms, names, limits };
        let plans = crate::archive::plans(&self.archive, documents, &wanted, look_like_image)?;
        if !names && plans.as_ref().is_some_and(|plans| plans.images.len() > 1) {
            return Err(Error::Usage(format!("{}: has several images, so that a name cannot be given", self.archive)));
        }
        Ok(plans)
    }

    fn seekable(self, mut file: std::fs::File) -> Result<Imported> {
        use std::io::Seek as _;
        let limits = &self.options.limits;
        if self.options.taken_as != TakenAs::RootFileSystem {
            let copy = file.try_clone().doing("read", &self.archive)?;
            let members = TarMembers::find(&self.archive, limits.documents, &limits.layers, copy)?;
            if let Some(members) = members
                && let Some(plans) = self.plans(&members, members.look_like_image())?
            {
                return self.random_access(plans, &members, &|name| members.open(name));
            }
        }
        file.rewind().doing("read", &self.archive)?;
        self.begin_again();
        self.unpacked(Box::new(file))
    }

    fn streamed(self, mut stream: Stream) -> Result<Imported> {
        if !stream.is_archive || self.options.taken_as == TakenAs::RootFileSystem {
            return self.unpacked(Box::new(stream.tar.for_the_last_time()));
        }
        let unsure = match self.stream(&mut stream)? {
            stream::Came::Images(plans, arrived) => return self.arrived(plans, arrived),
            stream::Came::Unsure(why) => why,
        };
        match stream.begin_again(&self.archive, self.options.limits.layers.ratio)? {
            Some(tar) => {
                self.begin_again();
                self.unpacked(Box::new(tar))
            }
            None => Err(unsure),
        }
    }

    /// What was unpacked until now is not what is wanted.
    fn begin_again(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
        self.options.limits.layers.total.store(self.total, Ordering::Relaxed);
    }

    /// Passes images over of which layers are nowhere, if there are others.
    fn pass_over_absent(&self, plans: &mut Plans, documents: &dyn Documents) -> Result<()> {
        if plans.images.len() < 2 {
            return Ok(());
        }
        let mut missing: Vec<Option<Note>> = Vec::new();
        for plan in &plans.images {
            let mut note = None;
            for PlannedLayer { diff_id, member, .. } in plan.layers.iter().filter(|_| plan.may_be_absent) {
                if !documents.has(member)? && self.store.lease(*diff_id)?.is_none() {
                    note = Some(Note { member: member.clone(), why: documents.why_missing().to_owned() });
                    break;
                }
            }
            missing.push(note);
        }
        if missing.iter().all(Option::is_some) {
            return Ok(());
        }
        let mut is_whole = missing.iter().map(Option::is_none);
        plans.images.retain(|_| is_whole.next().unwrap_or(true));
        plans.notes.extend(missing.into_iter().flatten());
        Ok(())
    }

    /// Publishes what has been planned and checked.
    fn publish(mut self, plans: Plans, layers: &[StagedLayer], is_root_file_system: bool) -> Result<Imported> {
        self.apply_policy(&plans, layers, is_root_file_system)?;
        let given = &self.options.names;
        let image = |plan: Plan| NewImage {
            layers: plan.layers.iter().map(|layer| layer.diff_id).collect(),
            config: plan.config,
            names: if given.is_empty() { plan.names } else { given.clone() },
        };
        let images: Vec<NewImage> = plans.images.into_iter().map(image).collect();
        let ids = self.store.publish(self.staging, layers, &images)?;
        Ok(Imported { ids, passed_over: plans.notes, is_root_file_system })
    }
}
