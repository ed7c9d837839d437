//! Starting this program once more, as one of its hidden commands.

use std::io::{ErrorKind, Write as _};
use std::process::{Child, Command, Stdio};

use serde::Serialize;

use crate::error::{Context as _, Result};
use crate::sys;

pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// Does what a process that [`start_ourselves`] has started does before all else: it gets limits of its own and lets go of the
/// caller's descriptors.
///
/// # Errors
/// When they cannot be closed.
pub(crate) fn begin() -> Result<()> {
    // A lock that a script holds must not live on in it, nor must a limit end it in the middle.
    sys::lift_limits();
    sys::close_others(&[]).doing("close the descriptors of the caller of", OURSELVES)
}

/// Starts it, and writes `order` to its standard input as a line of
/// JSON. Its standard output is a pipe.
///
/// # Errors
/// When no process can be started, or the order cannot be written.
pub(crate) fn start_ourselves(command: &str, order: &impl Serialize, stderr: Stdio) -> Result<Child> {
    let mut line = serde_json::to_vec(order).doing("write an order for", command)?;
    line.push(b'\n');
    let mut process = Command::new(OURSELVES);
    process.arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = process.spawn().doing("start", OURSELVES)?;
    let written = child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(&line));
    match written {
        // One that is dead already says why by its silence.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(child),
        Err(error) => {
            // With the end of its input it ends.
            drop(child.stdin.take());
            child.wait().doing("wait for", OURSELVES)?;
            Err(error).doing("write to", OURSELVES)
        }
        Ok(()) => Ok(child),
    }
}
