//! `verify`: whether the layers, and the records that name them, are what they were.
//!
//! ```text
//! records ─► all of them, at one moment: what is damaged, dangles or belongs to nothing
//! layers ──► each on its own thread: record, index, files against the index ─► split + files = diffID?
//!                                                                no ─► which file has another sha256
//! ```
//!
//! It only reads, unless it is to [`repair()`]. A layer that is being looked at cannot go, so that a removal beside it
//! leaves it for the next `prune`.

mod layer;
mod mend;
mod reference;
mod repair;
mod source;

pub use repair::{Repair, Repaired, repair};

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use crate::error::{Error, Result};
use crate::id::DiffId;
use crate::progress::Progress;
use crate::store::{Damage, Store};

/// What is to be looked at, and how closely.
#[derive(Debug, Clone, Default)]
pub struct Verify {
    /// Images and layers; everything when there are none.
    pub names: Vec<String>,
    /// Whether to read neither what is in files nor their extended attributes.
    pub quick: bool,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// `layer`, `image`, `container`, `name` or `store`.
    pub kind: &'static str,
    /// Whose it is: an id or a name; empty for the store's.
    pub id: String,
    /// Where: in a layer below its directory, else a file of the store. Escaped for display.
    pub path: String,
    /// What is wrong, in a word.
    pub problem: &'static str,
    /// What is wrong, as a clause.
    pub detail: String,
    /// Whether it is no damage, and only in the way until the next `prune`.
    pub is_garbage: bool,
}

impl From<Damage> for Finding {
    fn from(damage: Damage) -> Self {
        let Damage { kind, id, path, problem, why, is_garbage } = damage;
        let path = path.display().to_string();
        // The path is beside it.
        let detail = why.strip_prefix(&format!("{path}: ")).map(str::to_owned).unwrap_or(why);
        Self { kind, id, path, problem, detail, is_garbage }
    }
}

/// Looks at what `options` names; gives what is wrong, in the order of ids and paths.
///
/// # Errors
/// [`Error::NotFound`] for a name; else when the store cannot be read.
pub fn verify(store: &Store, options: &Verify, progress: &dyn Progress) -> Result<Vec<Finding>> {
    crate::sys::raise_descriptor_limit();
    let (layers, damage) = scope(store, &options.names)?;
    let mut findings: Vec<Finding> = damage.into_iter().map(Finding::from).collect();
    let checked = each_layer(store, &layers, |layer| layer::check(store, layer, options.quick, progress))?;
    findings.extend(checked.into_iter().flat_map(|checked| checked.findings));
    findings.sort_unstable();
    findings.dedup();
    Ok(findings)
}

/// The layers that are meant, and what is wrong with the records.
fn scope(store: &Store, names: &[String]) -> Result<(BTreeSet<DiffId>, Vec<Damage>)> {
    if names.is_empty() {
        let damage = store.find_damage()?;
        return Ok((store.layers()?.into_iter().collect(), damage));
    }
    let (mut layers, mut damage) = (BTreeSet::new(), Vec::new());
    for name in names {
        match store.find_image(name) {
            Ok(found) => {
                damage.extend(store.find_image_damage(found.id())?);
                layers.extend(store.image_layers(found.id())?);
            }
            Err(Error::NotFound { .. }) => match store.find_layer(name) {
                Ok(layer) => {
                    layers.insert(layer);
                }
                Err(Error::NotFound { .. }) => {
                    return Err(Error::NotFound { kind: "image or layer", name: name.clone() });
                }
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    Ok((layers, damage))
}

/// Why what is left could not be mended.
fn needs(sources: &[source::Source], against: &[String]) -> String {
    match (against.first(), sources.is_empty()) {
        (Some(why), _) => why.clone(),
        (None, true) => "needs a source".into(),
        (None, false) => "no source has it".into(),
    }
}

/// Does the same with each layer, with several at once, the largest first.
fn each_layer<T: Send>(
    store: &Store,
    layers: &BTreeSet<DiffId>,
    each: impl Fn(DiffId) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let size = |layer: DiffId| match store.layer(layer) {
        Ok(record) => record.size,
        // error: it only says which one begins, and the layer's own check says what is wrong
        Err(_) => u64::MAX,
    };
    let mut layers: Vec<(u64, DiffId)> = layers.iter().map(|layer| (size(*layer), *layer)).collect();
    layers.sort_unstable_by(|one, other| other.cmp(one));
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(layers.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some((_, layer)) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = each(*layer);
            done.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            #[expect(clippy::let_underscore_must_use, reason = "without a thread it takes longer")]
            let _ = Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_iter().collect()
}
