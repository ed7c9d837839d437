//! Where things are made, and where they are moved to be removed: a directory under `tmp/` with a living
//! owner. The directory of a dead one is debris.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::lock::{Guard, Settled, flock};
use super::removal::remove_content;
use super::{Store, names_in, random};
use crate::error::{Context as _, Result};
use crate::id::Digest;

const OWNER: &str = "owner";

/// A directory that is removed with all that is in it when this is dropped, or after this process is dead.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    _owner: File,
}

impl Staging {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot go now goes as a dead one's.
        let _ = remove(&self.dir);
    }
}

fn remove(dir: &Path) -> std::io::Result<()> {
    remove_content(dir, OWNER)?;
    std::fs::remove_dir(dir)
}

impl Store {
    /// Makes a directory to make things in, and takes away what dead processes have left.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn stage(&self) -> Result<Staging> {
        let (staging, dead, swept) = {
            let guard = self.lock()?;
            let dead = self.dead(&guard)?;
            let mut swept = None;
            if !dead.is_empty() {
                // Who died may also have put things into their places already, and not come to their record.
                let debris = self.stage_under(&guard)?;
                // What cannot be taken away must not keep anybody from working.
                let _ = self.sweep(&guard, &debris);
                swept = Some(debris);
            }
            (self.stage_under(&guard)?, dead, swept)
        };
        drop(swept);
        for (dir, owner) in dead {
            let _ = remove(&dir);
            drop(owner);
        }
        Ok(staging)
    }

    fn stage_under(&self, _: &Guard<'_>) -> Result<Staging> {
        let name = Digest::from_bytes(random()?).hex();
        let dir = self.root.join("tmp").join(name.get(..16).unwrap_or_default());
        std::fs::create_dir(&dir).doing("create", &dir)?;
        let path = dir.join(OWNER);
        let owner = File::create_new(&path).doing("create", &path)?;
        flock(&owner, FlockOperation::NonBlockingLockExclusive).doing("lock", &path)?;
        Ok(Staging { dir, _owner: owner })
    }

    /// The directories whose owners are dead. Their locks are held now, so that nobody else removes them.
    pub(super) fn dead(&self, _: &dyn Settled) -> Result<Vec<(PathBuf, Option<File>)>> {
        let tmp = self.root.join("tmp");
        let mut dead = Vec::new();
        for name in names_in(&tmp)? {
            let dir = tmp.join(name);
            if !dir.is_dir() {
                continue;
            }
            // Owners are made under the lock and removed last: without one there is nobody. An owner that
            // cannot be opened, for want of descriptors say, may well live.
            match File::open(dir.join(OWNER)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => dead.push((dir, None)),
                Err(_) => {}
                Ok(owner) if flock(&owner, FlockOperation::NonBlockingLockExclusive).is_ok() => {
                    dead.push((dir, Some(owner)));
                }
                Ok(_) => {}
            }
        }
        Ok(dead)
    }
}
