//! Archives whose members can be read in any order: only what is missing is read, several layers at once.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use crate::archive::{Algorithm, Blob, Documents, PlannedLayer, Plans};
use crate::error::Result;
use crate::import::{Import, Imported};
use crate::store::{Lease, StagedLayer};

/// Opens a member; also gives its size.
type Open<'a> = &'a (dyn Fn(&str) -> Result<Option<(Box<dyn Read + Send>, u64)>> + Sync);

impl Import<'_> {
    pub(super) fn random_access(self, mut plans: Plans, documents: &dyn Documents, open: Open<'_>) -> Result<Imported> {
        self.pass_over_absent(&mut plans, documents)?;
        let mut missing: Vec<PlannedLayer> = Vec::new();
        // Held until the images that need them are published.
        let mut leases: Vec<Lease> = Vec::new();
        let mut seen = BTreeSet::new();
        for layer in plans.images.iter().flat_map(|plan| &plan.layers) {
            if !seen.insert(layer.diff_id) {
                continue;
            }
            match self.store.lease(layer.diff_id)? {
                Some(lease) => {
                    self.progress.start(&layer.member, None).finish("exists");
                    leases.push(lease);
                }
                None => missing.push(layer.clone()),
            }
        }
        let staged = self.unpack_all(&missing, open)?;
        let imported = self.publish(plans, &staged, false)?;
        drop(leases);
        Ok(imported)
    }

    fn unpack_all(&self, missing: &[PlannedLayer], open: Open<'_>) -> Result<Vec<StagedLayer>> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let done = Mutex::new(Vec::new());
        let work = || {
            while !failed.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(layer) = missing.get(number) else { return };
                let result = self.unpack_planned(number, layer, open);
                if let Err(_failure) = &result {
                    failed.store(true, Ordering::Relaxed);
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..workers {
                #[expect(clippy::let_underscore_must_use, reason = "without a thread it takes longer")]
                let _ = Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The first layer's failure is told, whichever thread was faster.
        done.sort_unstable_by_key(|(number, _)| *number);
        done.into_iter().map(|(_, result)| result).collect()
    }

    fn unpack_planned(&self, number: usize, layer: &PlannedLayer, open: Open<'_>) -> Result<StagedLayer> {
        let member = layer.member.as_str();
        let (source, size) = open(member)?.ok_or_else(|| self.bad(member.to_owned(), "is missing"))?;
        let task = self.progress.start(member, Some(size));
        let algorithm = layer.blob.as_ref().map_or(Algorithm::Sha256, |blob: &Blob| blob.digest.algorithm());
        let unpacked = self.unpack(number, Some(member), algorithm, source, &*task)?;
        self.check(layer, unpacked.staged.record().diff_id, unpacked.blob, unpacked.blob_size)?;
        task.finish("done");
        Ok(unpacked.staged)
    }
}
