//! Starting a server process, and waiting until its mount is live.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::mountpoint;
use super::serve_spec::{Reply, ServeSpec};
use crate::error::{Context as _, Error, Result};
use crate::sys;

/// The hidden command by which this program becomes a server.
pub const SERVE: &str = "serve";
const OURSELVES: &str = "/proc/self/exe";

/// Starts a server and returns when its mount is live. What it says to nobody goes to the file `log`. It closes its
/// standard output when it ends, or wants the command to end that the mount is for.
///
/// # Errors
/// What kept the server from mounting.
pub(super) fn launch(spec: &ServeSpec, log: Option<&Path>) -> Result<Child> {
    // It would fail all the same, with what the kernel says to the first thing that only root may do.
    if !rustix::process::geteuid().is_root() {
        let mountpoint = PathBuf::from(spec.mountpoint.clone());
        return Err(Error::Unsupported(format!("{}: only root can mount here", mountpoint.display())));
    }
    let stderr = match log {
        Some(path) => File::options().create(true).append(true).open(path).doing("open", path)?.into(),
        None => Stdio::null(),
    };
    let mut command = Command::new(OURSELVES);
    command.arg(SERVE).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    // A lock that a script holds must not live on in a server.
    sys::keep_only(&mut command, &[]);
    let mut child = command.spawn().doing("start", OURSELVES)?;
    let line = serde_json::to_vec(spec).map_err(|error| Error::Unsupported(error.to_string()))?;
    let mut answer = String::new();
    if let (Some(stdin), Some(stdout)) = (child.stdin.as_mut(), child.stdout.as_mut()) {
        // A server that is dead already says why by its silence.
        let _ = stdin.write_all(&line).and_then(|()| stdin.write_all(b"\n"));
        let _ = BufReader::new(stdout).read_line(&mut answer);
    }
    match serde_json::from_str(&answer) {
        Ok(Reply::Ready) => Ok(child),
        Ok(Reply::Failed { message, code }) => {
            let _ = child.wait();
            Err(Error::Relayed { message, code })
        }
        Err(_) => {
            let status = child.wait().doing("wait for", OURSELVES)?;
            // Killed right after it had mounted.
            let _ = mountpoint::clear_stale(&PathBuf::from(spec.mountpoint.clone()));
            Err(Error::Unsupported(format!("the server ended before the mount was live: {status}")))
        }
    }
}
