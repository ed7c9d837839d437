//! What a union gives to the kernel's overlayfs.

use super::UnionOptions;
use crate::error::{Error, Result};
use crate::fuse::Behaviour;
use crate::sys::Upper;

impl UnionOptions {
    /// What `io=kernel` gives to overlayfs.
    ///
    /// # Errors
    /// [`Error::Usage`] for what lacks, and for options that overlayfs does not know.
    pub(crate) fn overlay_upper(&self) -> Result<Upper> {
        let needs = |what: &str| Error::Usage(format!("io=kernel needs {what}: name it, or use io=cached"));
        let upper = self.upper.as_ref().ok_or_else(|| needs("upperdir=DIR"))?;
        let work = self.work.as_ref();
        let work = work.ok_or_else(|| needs("workdir=DIR, an empty directory on the file system of upperdir"))?;
        if self.lowers.is_empty() {
            return Err(needs("lowerdir=DIR"));
        }
        let behaviour = &self.behaviour;
        let plain =
            Behaviour { volatile: behaviour.volatile, propagation: behaviour.propagation, ..Default::default() };
        if *behaviour != plain {
            return Err(Error::Usage(
                "io=kernel knows no uidmapping, gidmapping, squash_to_*, noacl and context: leave them out, or use io=cached".into(),
            ));
        }
        Ok(Upper { dir: upper.clone(), work: work.clone(), volatile: behaviour.volatile })
    }
}
