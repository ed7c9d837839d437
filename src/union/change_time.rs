//! Change times (`ctime`) as they were shown.
//!
//! No disk can be given one, but what `stat` has told never changes by itself as long as the union is open and
//! remembers it, which it does for the last 50,000 files at least. It would in two cases. The kernel has the times of regular files itself (`FUSE_WRITEBACK_CACHE`), and what it tells of them arrives on the
//! disk somewhat later. And the union changes files and directories of the upper in ways that no program is to see: it copies
//! up, marks, and makes private directories.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use rustix::fs::Stat;

use super::Union;
use super::errno::FsResult;
use super::tree::Tree;
use super::types::Ino;
use crate::index::Time;
use crate::sys::call;

/// The times of a file on disk by which a change is noticed: of change, of modification.
type DiskTimes = (Time, Time);

/// So many are remembered: some ten megabytes.
const MOST: usize = 100_000;

/// The change times that are not those of the disk. Also of inodes that the kernel has forgotten, so their number is bound: when
/// there are too many, the half goes that was not set for the longest time.
#[derive(Debug, Default)]
pub(super) struct ChangeTimes {
    shown: HashMap<Ino, Shown>,
    /// How many were ever set.
    count: u64,
}

#[derive(Debug)]
struct Shown {
    ctime: Time,
    /// It counts as long as the disk has these; always, where the kernel has told it.
    disk: Option<DiskTimes>,
    /// Its place in the order in which they were set.
    number: u64,
}

impl ChangeTimes {
    /// What is shown of an inode that has these times on disk.
    pub(super) fn shown(&self, ino: Ino, disk: DiskTimes) -> Time {
        match self.shown.get(&ino) {
            Some(shown) if shown.disk.is_none_or(|then| then == disk) => shown.ctime,
            _ => disk.0,
        }
    }

    /// Whether the kernel has told it.
    pub(super) fn is_told(&self, ino: Ino) -> bool {
        self.shown.get(&ino).is_some_and(|shown| shown.disk.is_none())
    }

    /// The kernel shows this one.
    pub(super) fn told(&mut self, ino: Ino, ctime: Time) {
        self.set(ino, ctime, None);
    }

    fn set(&mut self, ino: Ino, ctime: Time, disk: Option<DiskTimes>) {
        self.count = self.count.saturating_add(1);
        self.shown.insert(ino, Shown { ctime, disk, number: self.count });
        if self.shown.len() > MOST {
            let mut numbers: Vec<u64> = self.shown.values().map(|shown| shown.number).collect();
            let (_, middle, _) = numbers.select_nth_unstable(MOST / 2);
            let middle = *middle;
            self.shown.retain(|_, shown| shown.number > middle);
        }
    }

    /// Goes on to show this one, whose change was none that a program is to see.
    pub(super) fn keep(&mut self, ino: Ino, ctime: Time, disk: DiskTimes) {
        if !self.is_told(ino) {
            self.set(ino, ctime, Some(disk));
        }
    }

    /// A program changes the inode. Where the kernel has its times, it will tell.
    pub(super) fn moved(&mut self, ino: Ino) {
        if !self.is_told(ino) {
            self.shown.remove(&ino);
        }
    }

    /// The inode is gone.
    pub(super) fn forget(&mut self, ino: Ino) {
        self.shown.remove(&ino);
    }
}

impl Union {
    /// Runs `change` on a directory of the upper, of which no program is to see anything: the change time that is shown stays.
    pub(super) fn unseen<T>(
        tree: &mut Tree,
        ino: Ino,
        dir: BorrowedFd<'_>,
        change: impl FnOnce() -> FsResult<T>,
    ) -> FsResult<T> {
        let before = disk_times(&call::fstat(dir)?);
        let changed = change()?;
        match call::fstat(dir).as_ref().map(disk_times) {
            Ok(after) if after == before => {}
            Ok(after) => {
                let shown = tree.ctimes.shown(ino, before);
                tree.ctimes.keep(ino, shown, after);
            }
            // error: the change is done, and its change time is shown as the disk has it.
            Err(_) => tree.ctimes.moved(ino),
        }
        Ok(changed)
    }
}

#[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
pub(super) fn disk_times(stat: &Stat) -> DiskTimes {
    let time = |sec: i64, nsec: u64| Time { sec, nsec: u32::try_from(nsec).unwrap_or_default() };
    (time(stat.st_ctime.into(), stat.st_ctime_nsec.into()), time(stat.st_mtime.into(), stat.st_mtime_nsec.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_stays_until_a_program_changes_something() {
        let time = |sec| Time { sec, nsec: 0 };
        let (ino, mut times) = (Ino(7), ChangeTimes::default());
        assert_eq!(times.shown(ino, (time(5), time(1))), time(5));
        times.keep(ino, time(5), (time(6), time(1)));
        assert_eq!(times.shown(ino, (time(6), time(1))), time(5));
        assert_eq!(times.shown(ino, (time(8), time(1))), time(8), "changed");
        assert_eq!(times.shown(ino, (time(6), time(6))), time(6), "changed within one step of the clock");
        times.moved(ino);
        assert_eq!(times.shown(ino, (time(6), time(1))), time(6));
        times.told(ino, time(4));
        times.moved(ino);
        times.keep(ino, time(9), (time(9), time(9)));
        assert_eq!(times.shown(ino, (time(9), time(9))), time(4), "the kernel knows it");
        times.forget(ino);
        assert_eq!(times.shown(ino, (time(9), time(9))), time(9));
    }
    #[test]
    fn the_times_of_many_files_take_bound_memory() {
        let time = |sec| Time { sec, nsec: 0 };
        let mut times = ChangeTimes::default();
        let many = MOST as u64 * 3;
        for number in 0..many {
            times.keep(Ino(number), time(1), (time(2), time(2)));
            times.keep(Ino(7), time(1), (time(2), time(2)));
            assert!(times.shown.len() <= MOST);
        }
        let is_kept = |number: u64| times.shown(Ino(number), (time(2), time(2))) == time(1);
        assert!((many - MOST as u64 / 2..many).all(is_kept), "the last ones");
        assert!(is_kept(7) && !is_kept(8));
    }
}
