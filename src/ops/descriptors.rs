//! How many files this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Allows as many as the hard limit does: a server keeps many open, an import one for each layer that the store has.
/// Not in a process that starts other programs, since some look at all numbers up to the limit.
pub(super) fn allow_all() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // error: with fewer it works as well, but slower, and not with more than a thousand layers
    setrlimit(Resource::Nofile, limit).unwrap_or_default();
}
