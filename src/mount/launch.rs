//! Starting a server process, and waiting until its mount is live.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::error::{Context as _, Error, Result};
use crate::mount::mountpoint;
use crate::mount::ourselves::{OURSELVES, start_ourselves};
use crate::mount::serve_spec::{Reply, ServeSpec};

/// The hidden command by which this program becomes a server.
pub const SERVE: &str = "serve";

/// Starts a server and returns when its mount is live. The server appends messages that it can send to no client to the
/// file `log`. It closes its standard output when it ends, or to end the command that the mount is for.
///
/// # Errors
/// What kept the server from mounting.
pub(crate) fn launch(spec: &ServeSpec, log: Option<&Path>) -> Result<Child> {
    // It would fail all the same, with what the kernel says to the first thing that only root may do.
    if !rustix::process::geteuid().is_root() {
        let mountpoint = PathBuf::from(spec.mountpoint.clone());
        return Err(Error::Unsupported(format!("{}: only root can mount here", mountpoint.display())));
    }
    let stderr = match log {
        Some(path) => std::os::unix::fs::OpenOptionsExt::mode(File::options().create(true).append(true), 0o600)
            .open(path)
            .doing("open", path)?
            .into(),
        None => Stdio::null(),
    };
    let mut child = start_ourselves(SERVE, spec, stderr)?;
    let mut answer = String::new();
    let heard = match child.stdout.as_mut() {
        Some(stdout) => BufReader::new(stdout).read_line(&mut answer).map(drop),
        None => Ok(()),
    };
    // error: it is given back below, after the server has ended
    let reply = heard.is_ok().then(|| serde_json::from_str(&answer));
    match reply {
        Some(Ok(Reply::Ready)) => return Ok(child),
        Some(Ok(Reply::Failed { message, code })) => {
            child.wait().doing("wait for", OURSELVES)?;
            return Err(Error::Relayed { message, code });
        }
        _ => {}
    }
    // It sees that it is not wanted any more, and ends.
    drop((child.stdin.take(), child.stdout.take()));
    let status = child.wait().doing("wait for", OURSELVES)?;
    // Killed right after it had mounted.
    mountpoint::clear_stale(&PathBuf::from(spec.mountpoint.clone()))?;
    heard.doing("read the answer of", OURSELVES)?;
    let log = log.map_or_else(String::new, |log| format!("; {} may say why", log.display()));
    let mountpoint = PathBuf::from(spec.mountpoint.clone());
    let mountpoint = mountpoint.display();
    Err(Error::Unsupported(format!(
        "{mountpoint}: the server ended before the mount was live ({status}): mount again{log}"
    )))
}
