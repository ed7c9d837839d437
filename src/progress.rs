//! Progress of long work, which the library reports to a listener: a terminal, a test, or [`Quiet`].

/// Listens to one import or check. One [`Task`] per layer.
pub trait Progress: Sync {
    /// A piece of work begins, of `total` bytes where that is known.
    fn start(&self, name: &str, total: Option<u64>) -> Box<dyn Task>;
}

/// One piece of work; it ends when it is dropped.
pub trait Task: Send {
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
    /// How it ended, in a word: `done`, `exists`.
    fn finish(&self, how: &str);
}

/// Discards all progress events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn start(&self, _name: &str, _total: Option<u64>) -> Box<dyn Task> {
        Box::new(Self)
    }
}

impl Task for Quiet {
    fn advance(&self, _bytes: u64) {}
    fn finish(&self, _how: &str) {}
}
