//! What a mount's server says when no caller hears it. Its standard error is the container's log.

use std::io::Write as _;
use std::panic;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Error;

/// How many panics the log has. A program can end a thread of the protocol's library as often as it likes (see
/// `fuse::workers`), and must not fill the disk with that.
const PANICS_MAX: u32 = 8;

/// Writes an error to the log.
pub(super) fn log(error: &Error) {
    // There is no other place.
    drop(writeln!(std::io::stderr().lock(), "error: {error}"));
}

/// Keeps all panics but the first ones out of the log.
pub(super) fn bound_panics() {
    let say = panic::take_hook();
    let count = AtomicU32::new(0);
    panic::set_hook(Box::new(move |info| {
        let counted = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < PANICS_MAX).then(|| count.saturating_add(1))
        });
        // error: that many are in the log
        if counted.is_ok() {
            say(info);
        }
    }));
}
