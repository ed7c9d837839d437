//! How many threads answer a request at this moment. When all do, one more is started.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};

/// The threads of a mount that answer requests.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// How many answer a request.
    busy: AtomicUsize,
    /// How many there are; `usize::MAX` when there will not be more.
    workers: AtomicUsize,
    /// What starts one more.
    starter: OnceLock<Thread>,
    has_ended: AtomicBool,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy<'a>(&'a Load);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Load {
    /// A thread begins to answer a request.
    pub(super) fn begin(&self) -> Busy<'_> {
        let others = self.busy.fetch_add(1, Ordering::Relaxed);
        if others.saturating_add(1) >= self.workers.load(Ordering::Relaxed)
            && let Some(starter) = self.starter.get()
        {
            starter.unpark();
        }
        Busy(self)
    }

    /// So many threads answer requests from now on.
    pub(super) fn set_workers(&self, count: usize) {
        self.workers.store(count, Ordering::Relaxed);
    }

    /// Waits, on the thread that starts others, until all are busy; `false` when the connection has ended.
    pub(super) fn wait(&self) -> bool {
        self.starter.get_or_init(thread::current);
        loop {
            if self.has_ended() {
                return false;
            }
            if self.busy.load(Ordering::Relaxed) >= self.workers.load(Ordering::Relaxed) {
                return true;
            }
            thread::park();
        }
    }

    /// The connection has ended.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        if let Some(starter) = self.starter.get() {
            starter.unpark();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_starter_wakes_when_all_are_busy_and_at_the_end() {
        let load = Arc::new(Load::default());
        load.set_workers(2);
        let seen = Arc::new(AtomicUsize::new(0));
        let (its_load, its_seen) = (load.clone(), seen.clone());
        let starter = thread::spawn(move || {
            while its_load.wait() {
                its_seen.fetch_add(1, Ordering::Relaxed);
                its_load.set_workers(usize::MAX);
            }
        });
        drop(load.begin());
        let first = load.begin();
        assert_eq!(seen.load(Ordering::Relaxed), 0);
        let second = load.begin();
        while seen.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
            // The thread may not have been there when the request began.
            drop(load.begin());
        }
        drop((first, second));
        while !starter.is_finished() {
            load.end();
        }
        assert!(starter.join().is_ok());
        assert_eq!(seen.load(Ordering::Relaxed), 1);
    }
}
