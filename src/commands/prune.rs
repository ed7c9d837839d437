//! `prune`: removes unreferenced images, layers and leftovers of dead processes.

use std::path::PathBuf;

use crate::error::{Context as _, Error, Result};
use crate::id::ContainerId;
use crate::mount::kernel;
use crate::mount::remove::remove;
use crate::store::{Meter, Plan, PruneScope, References, Store, Usage};
use crate::sys::fs;

/// Something that went, or would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// `container`, `image`, `layer` or `leftover`.
    pub kind: &'static str,
    /// Its id; a leftover's path.
    pub id: String,
    /// What it takes.
    pub usage: Usage,
    paths: Vec<PathBuf>,
}

/// What [`prune`] removed, and why that is not all.
#[derive(Debug, Default)]
pub struct Prune {
    /// What is gone, or would go.
    pub pruned: Vec<Pruned>,
    /// The first failure.
    pub failure: Option<Error>,
}

/// Removes what nothing needs, or says what that would be.
///
/// # Errors
/// When the store cannot be read. What fails after that does not keep the rest from going, and is in the outcome.
pub fn prune(store: &Store, scope: PruneScope, dry_run: bool) -> Result<Prune> {
    crate::sys::raise_descriptor_limit();
    let (references, [plan]) = store.plans([scope])?;
    let pruned = things(store, &references, &plan)?;
    if dry_run {
        return Ok(Prune { pruned, failure: None });
    }
    let mut done = Ok(());
    for container in &plan.containers {
        match remove_container(store, *container) {
            // It was mounted, or went, meanwhile.
            Err(Error::InUse { .. } | Error::NotFound { .. }) => {}
            removed => done = done.and(removed),
        }
    }
    done = done.and(kernel::sweep(store)).and(kernel::sweep_unions(store)).and(store.prune(scope));
    // What was needed after all, or could not go, is still there.
    let mut gone = Vec::new();
    for one in pruned {
        let there = one.paths.iter().map(|path| fs::is_there(path).doing("read", path));
        match there.collect::<Result<Vec<bool>>>() {
            Ok(there) if !there.contains(&true) => gone.push(one),
            Ok(_) => {}
            Err(error) => done = done.and(Err(error)),
        }
    }
    Ok(Prune { pruned: gone, failure: done.err() })
}

fn remove_container(store: &Store, container: ContainerId) -> Result<()> {
    let hex = container.hex();
    match store.container(container) {
        Ok(_) => remove(store, &hex, false).map(drop),
        Err(Error::Corrupt { .. }) => store.remove_damaged_container(&hex),
        Err(error) => Err(error),
    }
}

/// Measures all that is on a plan.
fn things(store: &Store, references: &References, plan: &Plan) -> Result<Vec<Pruned>> {
    // What is removed is made usable first; a dry run only reads.
    let mut meter = Meter::of_what_can_be_read();
    let mut things = Vec::new();
    let mut add = |kind, id: String, paths: Vec<PathBuf>| -> Result<()> {
        let usage = meter.measure_all(&paths)?;
        things.push(Pruned { kind, id, usage, paths });
        Ok(())
    };
    for container in &plan.containers {
        add("container", container.hex(), store.container_paths(*container)?)?;
    }
    for image in &plan.images {
        add("image", image.to_string(), store.image_paths(references, *image))?;
    }
    for layer in &plan.layers {
        add("layer", layer.to_string(), store.layer_paths(*layer))?;
    }
    for path in &plan.leftovers {
        let id = path.strip_prefix(store.root()).unwrap_or(path).display().to_string();
        add("leftover", id, vec![path.clone()])?;
    }
    Ok(things)
}
