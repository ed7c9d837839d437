//! How many threads answer a request at this moment. When all do, one more is started.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};

/// The threads of a mount that answer requests.
#[derive(Debug)]
pub(super) struct Load {
    /// How many answer a request.
    busy: AtomicUsize,
    /// How many there are, at least and at most.
    workers: AtomicUsize,
    least: usize,
    most: usize,
    /// What starts one more.
    starter: OnceLock<Thread>,
    has_ended: AtomicBool,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy<'a>(&'a Load);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

impl Load {
    pub(super) fn new(least: usize, most: usize) -> Self {
        Self {
            busy: AtomicUsize::default(),
            workers: AtomicUsize::default(),
            least: least.min(most),
            most,
            starter: OnceLock::new(),
            has_ended: AtomicBool::new(false),
        }
    }

    /// A thread begins to answer a request.
    pub(super) fn begin(&self) -> Busy<'_> {
        self.busy.fetch_add(1, SeqCst);
        if self.wants_another() {
            self.wake();
        }
        Busy(self)
    }

    fn wants_another(&self) -> bool {
        let workers = self.workers.load(SeqCst);
        workers < self.least || (workers < self.most && self.busy.load(SeqCst) >= workers)
    }

    fn wake(&self) {
        if let Some(starter) = self.starter.get() {
            starter.unpark();
        }
    }

    /// How many threads there are.
    pub(super) fn workers(&self) -> usize {
        self.workers.load(SeqCst)
    }

    /// There is one more thread.
    pub(super) fn add(&self) {
        self.workers.fetch_add(1, SeqCst);
    }

    /// A thread has broken off.
    pub(super) fn remove(&self) {
        self.workers.fetch_sub(1, SeqCst);
        self.wake();
    }

    /// Waits, on the thread that starts others, until one more is wanted; `false` when the connection has ended.
    pub(super) fn wait(&self) -> bool {
        self.starter.get_or_init(thread::current);
        loop {
            if self.has_ended() {
                return false;
            }
            if self.wants_another() {
                return true;
            }
            thread::park();
        }
    }

    /// The connection has ended.
    pub(super) fn end(&self) {
        self.has_ended.store(true, SeqCst);
        self.wake();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Waits for what another thread brings about.
    fn until(is_so: impl Fn() -> bool) {
        while !is_so() {
            thread::yield_now();
        }
    }

    #[test]
    fn another_thread_is_started_when_all_are_busy_and_when_one_breaks_off() {
        let load = Arc::new(Load::new(2, 3));
        let its = load.clone();
        let starter = thread::spawn(move || {
            let mut started = 0;
            while its.wait() {
                its.add();
                started += 1;
            }
            started
        });
        until(|| load.workers() == 2);
        let busy = [load.begin(), load.begin()];
        until(|| load.workers() == 3);
        // There are as many as there may be.
        let all = load.begin();
        load.remove();
        until(|| load.workers() == 3);
        drop((busy, all));
        load.remove();
        load.remove();
        until(|| load.workers() == 2);
        load.end();
        // Two, one, one in another's place, and one of two.
        assert_eq!(starter.join().unwrap(), 5);
        assert!(load.has_ended());
    }
}
