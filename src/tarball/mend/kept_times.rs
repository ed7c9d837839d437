//! The times of directories before something in them was changed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{Stat, Timespec, Timestamps};
use rustix::io::{Errno, Result};

use super::{Entry, Mend, readable};
use crate::index::NodeId;
use crate::sys::call;

/// By their paths. The first that are kept of a directory count.
#[derive(Debug, Default)]
pub(super) struct KeptTimes(BTreeMap<Vec<u8>, Timestamps>);

impl KeptTimes {
    pub(super) fn keep(&mut self, path: Vec<u8>, stat: &Stat) {
        self.0.entry(path).or_insert_with(|| times_of(stat));
    }

    pub(super) fn all(self) -> impl Iterator<Item = (Vec<u8>, Timestamps)> {
        self.0.into_iter()
    }
}

#[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
fn times_of(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: rustix::fs::Nsecs::try_from(nanoseconds).unwrap_or_default(),
    };
    Timestamps {
        last_access: time(stat.st_atime.into(), stat.st_atime_nsec.into()),
        last_modification: time(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
    }
}

impl Mend<'_> {
    /// A directory that the index does not describe has the times on disk that it had.
    pub(super) fn give_times_back(&mut self, path: &[u8], times: &Timestamps) -> Result<()> {
        let implied = match self.entry(path) {
            Some(Entry::Node(_, node)) => node.is_implied(),
            None if path.is_empty() => self.index.node(NodeId::ROOT).is_some_and(|root| root.is_implied()),
            _ => false,
        };
        if !implied {
            return Ok(());
        }
        let dirs: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        match self.walk.open(&dirs) {
            // It could not be put right, and is told.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(()),
            opened => call::futimens(&*opened?, times),
        }
    }

    /// Opens a directory of the layer in which something is about to be changed.
    pub(super) fn open_to_change(&mut self, dirs: &[&[u8]]) -> Result<Rc<OwnedFd>> {
        let dir = self.walk.open(dirs)?;
        // error: of a damaged directory there is no time to keep
        if let Some(stat) = readable(call::fstat(&dir))? {
            self.times.keep(dirs.join(&b'/'), &stat);
        }
        Ok(dir)
    }
}
