//! What a mount's server says when no caller hears it. Its standard error is the container's log.

use std::io::Write as _;
use std::panic;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::error::Error;

/// How many panics of the protocol's library the log has. A program can end a thread of it as often as it likes (see
/// `fuse::workers`), and must not fill the disk with that.
const PANICS_MAX: u32 = 8;

/// Writes an error to the log.
pub(crate) fn log(error: &Error) {
    // There is no other place.
    drop(writeln!(std::io::stderr().lock(), "error: {error}"));
}

/// Keeps all panics of the protocol's library but the first ones out of the log.
pub(crate) fn bound_panics() {
    let say = panic::take_hook();
    let count = AtomicU32::new(0);
    panic::set_hook(Box::new(move |info| {
        let is_library = thread::current().name().is_some_and(|name| name.starts_with("fuser-"));
        let before = if is_library { count.fetch_add(1, Ordering::Relaxed) } else { 0 };
        match before {
            ..PANICS_MAX => say(info),
            PANICS_MAX => log(&Error::Unsupported("more requests that end a thread are not told of".into())),
            _ => {}
        }
    }));
}
