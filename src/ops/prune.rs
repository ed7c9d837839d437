//! `prune`: removes what nobody needs.

use std::path::PathBuf;

use super::remove::remove;
use crate::error::{Context as _, Error, Result};
use crate::id::ContainerId;
use crate::store::{Meter, Plan, PruneScope, Reach, Store, Usage};

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

/// Removes what nobody needs, or says what that would be.
///
/// # Errors
/// When the store cannot be changed; what has gone until then is gone.
pub fn prune(store: &Store, scope: PruneScope, dry_run: bool) -> Result<Vec<Pruned>> {
    super::descriptors::allow_all();
    let (reach, [plan]) = store.plans([scope])?;
    let mut pruned = things(store, &reach, &plan)?;
    if dry_run {
        return Ok(pruned);
    }
    for container in &plan.containers {
        match remove_container(store, *container) {
            // It was mounted, or went, meanwhile.
            Err(Error::InUse { .. } | Error::NotFound { .. }) => {}
            removed => removed?,
        }
    }
    store.prune(scope)?;
    // What was needed after all is still there.
    pruned.retain(|one| one.paths.first().is_none_or(|path| path.symlink_metadata().is_err()));
    Ok(pruned)
}

fn remove_container(store: &Store, container: ContainerId) -> Result<()> {
    let hex = container.hex();
    match store.container(container) {
        Ok(_) => remove(store, &hex, false).map(drop),
        Err(_) => store.remove_damaged_container(&hex),
    }
}

/// Measures all that is on a plan.
fn things(store: &Store, reach: &Reach, plan: &Plan) -> Result<Vec<Pruned>> {
    let mut meter = Meter::default();
    let mut things = Vec::new();
    let mut add = |kind, id: String, paths: Vec<PathBuf>| -> Result<()> {
        let usage = measure(&mut meter, &paths)?;
        things.push(Pruned { kind, id, usage, paths });
        Ok(())
    };
    for container in &plan.containers {
        add("container", container.hex(), store.container_paths(*container)?)?;
    }
    for image in &plan.images {
        add("image", image.to_string(), store.image_paths(reach, *image))?;
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

/// What all of these take.
pub(super) fn measure(meter: &mut Meter, paths: &[PathBuf]) -> Result<Usage> {
    paths.iter().map(|path| meter.measure(path).doing("measure", path)).sum()
}
