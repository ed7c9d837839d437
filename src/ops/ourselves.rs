//! Starting this program once more, as one of its hidden commands.

use std::io::{ErrorKind, Write as _};
use std::process::{Child, Command, Stdio};

use serde::Serialize;

use crate::error::{Context as _, Result};
use crate::sys;

pub(super) const OURSELVES: &str = "/proc/self/exe";

/// Starts it with limits of its own and none of our descriptors, and writes `order` to its standard input as a line of
/// JSON. Its standard output is a pipe.
///
/// # Errors
/// When no process can be started, or the order cannot be written.
pub(super) fn start_ourselves(command: &str, order: &impl Serialize, stderr: Stdio) -> Result<Child> {
    let mut line = serde_json::to_vec(order).doing("write an order for", command)?;
    line.push(b'\n');
    let mut process = Command::new(OURSELVES);
    process.arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    // A lock that a script holds must not live on in it, nor must a limit end it in the middle.
    sys::keep_only(&mut process, &[]);
    sys::lift_limits(&mut process);
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
