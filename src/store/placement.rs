//! Putting what is staged into its places under the store's lock, and taking it back when not all could be.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::lock::try_lock;
use super::{Staging, file};
use crate::error::{Context as _, Result};
use crate::id::DiffId;
use crate::sys::{call, fs};

/// What was put into place so far. Every step is one rename, and so is its way back, which needs no room on the disk.
#[derive(Debug)]
pub(super) struct Placement<'a> {
    staging: &'a Staging,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    from: PathBuf,
    to: PathBuf,
    way: Way,
    /// The layer that it is a part of.
    layer: Option<DiffId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing was there.
    Moved,
    /// What was there is where the new thing was.
    Exchanged,
    /// A layer's record: once it is there others may use the layer, and then it stays.
    Record,
}

impl<'a> Placement<'a> {
    /// Of what is in `staging`.
    pub(super) const fn new(staging: &'a Staging) -> Self {
        Self { staging, steps: Vec::new() }
    }

    /// Puts a part of a layer into place.
    pub(super) fn put_part(&mut self, layer: DiffId, from: PathBuf, to: PathBuf) -> Result<()> {
        self.step(from, to, Some(layer), None)
    }

    /// Puts the record of a layer into place, whose parts are.
    pub(super) fn put_record(&mut self, layer: DiffId, from: PathBuf, to: PathBuf) -> Result<()> {
        self.step(from, to, Some(layer), Some(Way::Record))
    }

    /// Puts anything else into place. At no moment is nothing there where something was.
    pub(super) fn put(&mut self, from: PathBuf, to: PathBuf) -> Result<()> {
        self.step(from, to, None, None)
    }

    fn step(&mut self, from: PathBuf, to: PathBuf, layer: Option<DiffId>, way: Option<Way>) -> Result<()> {
        if let Some(moved) = self.rename(&from, &to).doing("put into place", &to)? {
            self.steps.push(Step { from, to, way: way.unwrap_or(moved), layer });
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<Option<Way>> {
        match call::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Some(Way::Moved)),
            Err(Errno::EXIST) => match call::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
                Ok(()) => return Ok(Some(Way::Exchanged)),
                Err(Errno::INVAL | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            },
            Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        // A file system on which what was replaced cannot be had back.
        match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                self.staging.move_to_trash(to).map_err(|_| error)?;
                fs::rename(from, to)?;
            }
            renamed => renamed?,
        }
        Ok(None)
    }

    /// Makes it as it was. What cannot be taken back is whole, and is left.
    pub(super) fn take_back(self) {
        let mut in_use = BTreeSet::new();
        for Step { from, to, way, layer } in self.steps.into_iter().rev() {
            if layer.is_some_and(|layer| in_use.contains(&layer)) {
                continue;
            }
            let flags = if way == Way::Exchanged { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
            let take = || -> Result<bool> {
                if way == Way::Record {
                    let Some(record) = file::open(&to)? else { return Ok(false) };
                    if !try_lock(&record, FlockOperation::NonBlockingLockExclusive).doing("lock", &to)? {
                        return Ok(false);
                    }
                }
                call::renameat_with(CWD, &to, CWD, &from, flags).doing("take back", &to)?;
                Ok(true)
            };
            // error: the failure that led here is told, and what cannot be taken back is whole
            let taken = take().unwrap_or_default();
            in_use.extend(layer.filter(|_| !taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;
    use crate::store::Store;

    #[test]
    fn what_was_put_into_place_is_taken_back_but_for_a_layer_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let staging = store.stage().unwrap();
        let (at, staged) = (|name: &str| dir.path().join(name), |name: &str| staging.dir().join(name));
        for name in ["old", "name", "used", "used.json", "free", "free.json"] {
            std::fs::write(staged(name), format!("new {name}")).unwrap();
        }
        std::fs::write(at("name"), "old name").unwrap();
        std::fs::create_dir(staged("dir")).unwrap();
        std::fs::create_dir_all(at("dir/content")).unwrap();

        let mut placement = Placement::new(&staging);
        for layer in ["used", "free"] {
            let (id, record) = (DiffId(Digest::of(layer.as_bytes())), format!("{layer}.json"));
            placement.put_part(id, staged(layer), at(layer)).unwrap();
            placement.put_record(id, staged(&record), at(&record)).unwrap();
        }
        placement.put(staged("name"), at("name")).unwrap();
        placement.put(staged("dir"), at("dir")).unwrap();
        assert_eq!(std::fs::read(at("name")).unwrap(), b"new name");
        assert!(!at("dir/content").exists());
        assert!(placement.put(staged("missing"), at("x")).is_err());
        let user = std::fs::File::open(at("used.json")).unwrap();
        call::flock(&user, FlockOperation::LockShared).unwrap();
        placement.take_back();

        assert_eq!(std::fs::read(at("name")).unwrap(), b"old name");
        assert!(at("dir/content").exists() && staged("dir").exists());
        assert_eq!(
            ["used", "used.json", "free", "free.json"].map(|name| at(name).exists()),
            [true, true, false, false]
        );
        assert_eq!(std::fs::read(staged("name")).unwrap(), b"new name");
    }
}
