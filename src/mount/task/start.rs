//! Starting such a process, and waiting for it.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::error::{Context as _, Error, Result};
use crate::mount::ourselves::{OURSELVES, start_ourselves};
use crate::mount::task::{MOUNT_TASK, Order, Outcome};
use crate::mount::wait::{STEP, Wait};
use crate::sys::call;

/// A process that does what an [`Order`] says.
#[derive(Debug)]
pub(crate) struct Task {
    child: Child,
    mountpoint: PathBuf,
}

impl Task {
    /// Starts it. It holds nothing of this process.
    ///
    /// # Errors
    /// When no process can be started.
    pub(crate) fn start(order: &Order) -> Result<Self> {
        // A process that cannot be killed must not keep a reader of our output waiting.
        let child = start_ourselves(MOUNT_TASK, order, Stdio::null())?;
        Ok(Self { child, mountpoint: order.mountpoint.clone().into() })
    }

    /// Waits for its end, however long that takes.
    ///
    /// # Errors
    /// When it ended without an answer.
    pub(crate) fn end(mut self) -> Result<Outcome> {
        let outcome = self.outcome();
        let status = self.child.wait().doing("wait for", OURSELVES)?;
        outcome?.ok_or_else(|| {
            let mountpoint = self.mountpoint.display();
            let why = format!("the process that was to change this mount ended without an answer ({status})");
            Error::Unsupported(format!("{mountpoint}: {why}: run the command again"))
        })
    }

    /// Waits for its end as long as `wait` lets it; `None` if it was given up then.
    ///
    /// # Errors
    /// As [`Task::end`].
    pub(crate) fn end_within(mut self, wait: &mut Wait) -> Result<Option<Outcome>> {
        while !self.has_answered()? {
            if !wait.goes_on()? {
                // It may be that it cannot end. Then it does with the server.
                self.child.kill().doing("kill", OURSELVES)?;
                return Ok(None);
            }
        }
        self.end().map(Some)
    }

    /// Whether there is an answer, or will never be; looked for as long as one step of a [`Wait`] takes.
    fn has_answered(&self) -> Result<bool> {
        let Some(stdout) = &self.child.stdout else { return Ok(true) };
        let timeout = Timespec::try_from(STEP).unwrap_or_default();
        match call::poll(&mut [PollFd::new(stdout, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => Ok(false),
            ready => Ok(ready.doing("wait for", OURSELVES)? > 0),
        }
    }

    /// `None` when it gave no answer.
    fn outcome(&mut self) -> Result<Option<Outcome>> {
        let mut line = Vec::new();
        if let Some(stdout) = &mut self.child.stdout {
            stdout.read_to_end(&mut line).doing("read from", OURSELVES)?;
        }
        match serde_json::from_slice(&line) {
            Ok(Outcome::Failed { message, code }) => Err(Error::Relayed { message, code }),
            Ok(outcome) => Ok(Some(outcome)),
            Err(_) => Ok(None),
        }
    }
}

/// Has an order carried out, as long as `wait` lets it; `None` if it was given up then.
///
/// # Errors
/// What kept it from being carried out.
pub(crate) fn run(order: &Order, wait: &mut Wait) -> Result<Option<Outcome>> {
    Task::start(order)?.end_within(wait)
}
