//! The end of a live mount, as a command brings it about: all is written, the mount goes, its server ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::mount::live::{self, LiveRecord, Watched};
use crate::mount::placed::{Placed, placed};
use crate::mount::task::{self, Action, Outcome};
use crate::mount::wait::{Wait, say};

/// How long is waited for a server whose mount is nowhere to be seen, and which does nothing: a process still uses it.
const UNSEEN_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to kill a command, and what is then done at the end of its mount.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// What may be done to end a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Force {
    /// Nothing is taken away from a process that uses it, and nothing is lost.
    None,
    /// All is written as long as the server does that, then it ends, whatever uses it.
    Users,
    /// What was written is to be removed, so that nothing is waited for.
    Discard,
}

/// A live mount that is to end.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    /// What it is called: `container c`.
    pub(crate) name: String,
    /// Its registration, and what that says.
    pub(crate) dir: &'a Path,
    pub(crate) record: &'a LiveRecord,
    /// Whether it is there for a command, which has it in a mount namespace of its own.
    pub(crate) has_command: bool,
    /// How long a server that shows no progress is waited for.
    pub(crate) patience: Duration,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The server has put all in order. What it could not bring to the rw layer, as a clause.
    InOrder { lost: Option<String> },
    /// The server was killed.
    Killed,
}

impl Ending<'_> {
    /// Lets it vanish; it ends when its last user does.
    ///
    /// # Errors
    /// What keeps it from being unmounted.
    pub(crate) fn detach(&self) -> Result<()> {
        let place = placed(self.record)?;
        if place == Placed::Nowhere {
            return Ok(());
        }
        let mut wait = self.wait("it has vanished");
        match task::run(&place.order(self.record, self.dir, Action::Detach), &mut wait)? {
            Some(Outcome::Covered) => Err(self.covered()),
            Some(_) => Ok(()),
            None => Err(self.given_up("is not unmounted")),
        }
    }

    /// Ends it, and waits until its server is gone.
    ///
    /// # Errors
    /// [`Error::InUse`] while a process uses it, unless that may be forced; [`Error::Unsupported`] when its server shows no
    /// progress for too long: then it stays as it is.
    pub(crate) fn end(&self, force: Force) -> Result<Ended> {
        let Some(server) = live::watch(self.dir)? else { return Ok(Ended::InOrder { lost: None }) };
        if self.has_command && force != Force::None && self.end_command(&server)? {
            return Ok(Ended::InOrder { lost: None });
        }
        let place = placed(self.record)?;
        if place == Placed::Nowhere {
            return self.end_unseen(&server, force);
        }
        let action = match force {
            Force::None => Action::End,
            Force::Users => Action::EndInUse,
            Force::Discard => Action::Abort,
        };
        let mut wait = self.wait("all that was written to it is in its rw layer");
        let mut lost = None;
        let outcome = match task::run(&place.order(self.record, self.dir, action), &mut wait) {
            // It does not say what is lost, for one.
            Err(error) if force != Force::None => {
                say(&error.to_string());
                None
            }
            outcome => outcome?,
        };
        match outcome {
            Some(Outcome::Done { lost: said }) => lost = said,
            Some(Outcome::Gone) => {}
            Some(Outcome::Busy) => return Err(self.in_use("a process has a file open there or works there")),
            Some(Outcome::Covered) if force == Force::None => return Err(self.covered()),
            Some(Outcome::Covered | Outcome::Failed { .. }) => return self.kill(&server),
            None if force == Force::None => return Err(self.given_up("is still mounted")),
            None => {
                self.say_what_is_lost();
                let mut wait = Wait::new(self.until("its connection has ended"), None, COMMAND_PATIENCE);
                // Whether it ends or not, its server is killed if that does not end.
                task::run(&place.order(self.record, self.dir, Action::Abort), &mut wait)?;
                let mut wait = Wait::new(self.until("its server has ended"), None, COMMAND_PATIENCE);
                return if server.end_within(&mut wait)? {
                    Ok(Ended::InOrder { lost: None })
                } else {
                    self.kill(&server)
                };
            }
        }
        if server.end_within(&mut self.wait("its server has ended"))? {
            return Ok(Ended::InOrder { lost });
        }
        if force == Force::None {
            return Err(self.given_up("is unmounted, but its server has not ended"));
        }
        self.kill(&server)
    }

    /// Of a mount that was unmounted: its server ends when its last user does.
    fn end_unseen(&self, server: &Watched, force: Force) -> Result<Ended> {
        if force != Force::Discard {
            let patience = self.patience.min(UNSEEN_PATIENCE);
            let mut wait = Wait::new(self.until("its server has ended"), Some(self.record.pid), patience);
            if server.end_within(&mut wait)? {
                return Ok(Ended::InOrder { lost: None });
            }
        }
        match force {
            Force::None => {
                Err(self.in_use("it is unmounted, but a process still has a file open in it or works there"))
            }
            Force::Users => {
                self.say_what_is_lost();
                self.kill(server)
            }
            Force::Discard => self.kill(server),
        }
    }

    /// Has the command killed that the mount is there for, after which the mount ends; false if that takes too long.
    fn end_command(&self, server: &Watched) -> Result<bool> {
        server.signal(self.record.pid, live::END_COMMAND)?;
        let mut wait = Wait::new(self.until("its command has ended"), Some(self.record.pid), COMMAND_PATIENCE);
        server.end_within(&mut wait)
    }

    fn kill(&self, server: &Watched) -> Result<Ended> {
        server.signal(self.record.pid, Signal::KILL)?;
        let mut wait = Wait::new(self.until("its server has ended"), Some(self.record.pid), self.patience);
        if server.end_within(&mut wait)? {
            Ok(Ended::Killed)
        } else {
            Err(self.given_up("has a server that cannot be killed"))
        }
    }

    fn say_what_is_lost(&self) {
        say(&format!("{}: what programs have written there and not flushed (fsync) may be lost", self.name));
    }

    fn wait(&self, until: &str) -> Wait {
        Wait::new(self.until(until), Some(self.record.pid), self.patience)
    }

    fn until(&self, until: &str) -> String {
        format!("{}: {until}", self.name)
    }

    fn in_use(&self, by: &str) -> Error {
        let (kind, name) = match self.name.split_once(' ') {
            Some(("container", name)) => ("container", name.to_owned()),
            _ => ("mountpoint", self.record.mountpoint.display().to_string()),
        };
        Error::InUse { kind, name, by: by.to_owned() }
    }

    fn covered(&self) -> Error {
        self.in_use("something else is mounted over it")
    }

    fn given_up(&self, state: &str) -> Error {
        Error::Unsupported(format!(
            "{} {state}: its server (process {}) has shown no progress for {} seconds; `umount --force` ends it",
            self.name,
            self.record.pid,
            self.patience.as_secs(),
        ))
    }
}

/// Brings what a server has written to the disk, as umount(8) does with a union of the kernel's.
///
/// # Errors
/// When not all could be written.
pub(crate) fn flush(name: &str, upper: PathBuf) -> Result<()> {
    use crate::error::Context as _;
    let dir = match std::fs::File::open(&upper) {
        // With `--rm` the server has taken it away.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        dir => dir.doing("open", &upper)?,
    };
    let run = move || crate::sys::call::syncfs(&dir).doing("flush", &upper);
    let mut wait = Wait::new(format!("{name}: all of it is on the disk"), Some(std::process::id()), Duration::MAX);
    wait.thread(run)
}
