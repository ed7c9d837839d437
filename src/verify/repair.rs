//! `verify --repair`: what `verify` finds is mended, from what is left and from sources that the user names.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::{Error, Result, found, readable};
use crate::id::{ContainerId, DiffId, Digest, ImageId};
use crate::image::{ImageConfig, Platform};
use crate::progress::Progress;
use crate::store::{LayerRecord, NewImage, StagedLayer, Store};
use crate::sys::fs;
use crate::tarball::PathFilter;
use crate::verify::mend::{Mended, mend};
use crate::verify::reference::Unpacking;
use crate::verify::source::Source;
use crate::verify::{Finding, each_layer, needs, scope};

/// What is to be mended, and from what.
#[derive(Debug, Clone, Default)]
pub struct Repair {
    /// Images and layers; everything when there are none.
    pub names: Vec<String>,
    /// Archives, OCI layouts and other stores.
    pub sources: Vec<PathBuf>,
}

/// Something that was found, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repaired {
    /// What was wrong, or still is.
    pub finding: Finding,
    /// Why it still is, as a clause; `None` when it is mended.
    pub left: Option<String>,
}

struct Repairing<'a> {
    store: &'a Store,
    sources: Vec<Source>,
    names: &'a [String],
    progress: &'a dyn Progress,
    /// What stood against mending records.
    against: Vec<String>,
}

/// Mends what `options` names; gives all that was found, in the order of ids and paths.
///
/// # Errors
/// When a source cannot be understood, which is before anything is changed; when the store cannot be read or written.
pub fn repair(store: &Store, options: &Repair, progress: &dyn Progress) -> Result<Vec<Repaired>> {
    crate::sys::raise_descriptor_limit();
    let staging = store.stage()?;
    let platforms = platforms(store)?;
    let sources = options.sources.iter().map(|source| Source::open(source, &staging, &platforms));
    let sources = sources.collect::<Result<_>>()?;
    // What was written out for the sources stays as long as they are open.
    drop(staging);
    Repairing { store, sources, names: &options.names, progress, against: Vec::new() }.run()
}

/// Those that images of the store are for: an archive may have the image for any of them.
fn platforms(store: &Store) -> Result<Vec<Platform>> {
    let mut platforms = vec![Platform::host()];
    for id in store.images()? {
        let config = image_config(store, id)?.and_then(|config| ImageConfig::parse(&config).ok());
        let platform = config.and_then(|config| config.platform());
        platforms.extend(platform.filter(|platform| !platforms.contains(platform)));
    }
    Ok(platforms)
}

/// The config of an image; `None` when it is damaged, also when the disk cannot read it.
fn image_config(store: &Store, image: ImageId) -> Result<Option<Vec<u8>>> {
    match store.image_config(image) {
        Err(error) if error.is_damage() => Ok(None),
        config => config,
    }
}

impl Repairing<'_> {
    fn run(mut self) -> Result<Vec<Repaired>> {
        let (layers, damage) = scope(self.store, self.names)?;
        let mut found: BTreeSet<Finding> = damage.into_iter().map(Finding::from).collect();
        self.images(&found)?;
        // A config that was mended names layers too.
        let layers: BTreeSet<DiffId> = scope(self.store, self.names)?.0.union(&layers).copied().collect();
        let (store, sources, progress) = (self.store, &self.sources, self.progress);
        let mended = each_layer(store, &layers, |layer| mend(store, layer, sources, progress))?;
        self.records(&found)?;

        let mut left: Vec<(Finding, String)> = Vec::new();
        for Mended { found: seen, left: remain, why } in mended {
            found.extend(seen);
            left.extend(remain.into_iter().map(|finding| (finding, why.clone())));
        }
        for damage in scope(self.store, self.names)?.1 {
            let finding = Finding::from(damage);
            let why = if finding.is_garbage { "prune takes it".into() } else { needs(&self.sources, &self.against) };
            left.push((finding, why));
        }
        // What is left may be described in other words than before.
        let key = |finding: &Finding| (finding.kind, finding.id.clone(), finding.path.clone(), finding.problem);
        let is_left: BTreeSet<_> = left.iter().map(|(finding, _)| key(finding)).collect();
        let mut all: Vec<Repaired> = found
            .into_iter()
            .filter(|finding| !is_left.contains(&key(finding)))
            .map(|finding| Repaired { finding, left: None })
            .chain(left.into_iter().map(|(finding, why)| Repaired { finding, left: Some(why) }))
            .collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn config(&self, image: ImageId) -> Result<Option<Vec<u8>>> {
        for source in &self.sources {
            if let Some(config) = source.config(image)? {
                return Ok(Some(config));
            }
        }
        Ok(None)
    }

    /// Configs, and images and layers that are missing altogether.
    fn images(&mut self, found: &BTreeSet<Finding>) -> Result<()> {
        for id in damaged::<Digest>(found, "image").into_iter().map(ImageId) {
            if image_config(self.store, id)?.is_none()
                && let Some(config) = self.config(id)?
            {
                self.store.replace_config(id, &config)?;
            }
            let layers = self.store.image_layers(id)?;
            self.missing(&layers, None)?;
        }
        if found.iter().any(|finding| finding.problem == "dangling") {
            let mut wanted = self.store.missing_images()?;
            if !self.names.is_empty() {
                let named = self.named()?;
                wanted.retain(|id| named.contains(id));
            }
            for id in wanted {
                let Some(config) = self.config(id)? else { continue };
                let Ok(layers) = ImageConfig::parse(&config).map(|config| config.diff_ids().to_vec()) else { continue };
                self.missing(&layers, Some(config))?;
            }
        }
        Ok(())
    }

    /// The images that are named.
    fn named(&self) -> Result<BTreeSet<ImageId>> {
        let mut named = BTreeSet::new();
        for name in self.names {
            named.extend(found(self.store.find_image(name))?.map(|found| found.id()));
        }
        Ok(named)
    }

    /// Brings layers that are missing, and the image that `config` is; all of it or nothing.
    fn missing(&mut self, layers: &[DiffId], config: Option<Vec<u8>>) -> Result<()> {
        let staging = self.store.stage()?;
        let (mut staged, mut leases) = (Vec::new(), Vec::new());
        for layer in layers.iter().collect::<BTreeSet<_>>() {
            match self.store.keep(*layer) {
                Ok(None) => {}
                // It is there, with a record that is no file.
                Err(Error::Corrupt { .. }) => continue,
                kept => {
                    leases.extend(kept?);
                    continue;
                }
            }
            let unpacking = Unpacking {
                store: self.store,
                staging: &staging,
                layer: *layer,
                record: None,
                progress: self.progress,
            };
            let reference = unpacking.foreign(&self.sources, &PathFilter::Everything, &mut self.against)?;
            let Some(reference) = reference else { continue };
            let dir = staging.dir().join(format!("layer-{}", layer.hex()));
            fs::rename(&reference.dir, &dir).map_err(|source| Error::Io {
                doing: "rename",
                path: dir.clone(),
                source,
            })?;
            let record = LayerRecord {
                diff_id: *layer,
                size: reference.size,
                content_bytes: reference.content_bytes,
                entries: reference.entries,
                blob: reference.blob,
                created: 0,
            };
            staged.push(StagedLayer::new(dir, record, &reference.index)?);
        }
        let mut has_all = true;
        for layer in layers {
            has_all &= staged.iter().any(|known: &StagedLayer| known.record().diff_id == *layer)
                || readable(self.store.layer(*layer))?.is_some();
        }
        let is_for_an_image = config.is_some();
        let image = config.filter(|config| !config.is_empty() && has_all);
        let images: Vec<NewImage> =
            image.into_iter().map(|config| NewImage { config, layers: layers.to_vec(), names: Vec::new() }).collect();
        let is_in_vain = is_for_an_image && images.is_empty();
        if !is_in_vain && (!staged.is_empty() || !images.is_empty()) {
            self.store.publish(staging, &staged, &images)?;
        }
        drop(leases);
        Ok(())
    }

    /// Records that only repeat what others say.
    fn records(&self, found: &BTreeSet<Finding>) -> Result<()> {
        for id in damaged::<Digest>(found, "image").into_iter().map(ImageId) {
            self.store.restore_image_record(id)?;
        }
        for id in damaged::<ContainerId>(found, "container") {
            self.store.restore_container_files(id)?;
        }
        Ok(())
    }
}

/// The ids of what is damaged of a kind.
fn damaged<T: std::str::FromStr + Ord>(found: &BTreeSet<Finding>, kind: &str) -> BTreeSet<T> {
    found.iter().filter(|finding| finding.kind == kind).filter_map(|finding| finding.id.parse().ok()).collect()
}
