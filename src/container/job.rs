//! The command as a process group of init's session.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpgrp, kill_process_group, pidfd_open, pidfd_send_signal, setpgid, wait,
};
use rustix::termios::tcsetpgrp;

use super::NOT_STARTED;
use super::message::Message;
use crate::error::{Context as _, Result};
use crate::sys::{self, Disposition};

/// Makes this process, which becomes the command, a process group, and that the foreground of the terminal if it is to be.
pub(super) fn enter(terminal: Option<&OwnedFd>, in_foreground: bool) -> Result<()> {
    let enter = || {
        setpgid(None, None)?;
        let Some(terminal) = terminal.filter(|_| in_foreground) else { return Ok(()) };
        // The kernel stops a process of the background that does this.
        let was_ignored = sys::is_ignored(libc::SIGTTOU);
        sys::set_disposition(libc::SIGTTOU, Disposition::Ignore)?;
        tcsetpgrp(terminal, getpgrp())?;
        if was_ignored { Ok(()) } else { sys::set_disposition(libc::SIGTTOU, Disposition::Default) }
    };
    enter().doing("make a process group of", "the container's command")
}

/// The command, for init.
pub(super) struct Job {
    command: Pid,
    pidfd: OwnedFd,
    terminal: Option<OwnedFd>,
}

impl Job {
    /// Of a child that was not waited for yet, so that there is no other process of the same number.
    pub(super) fn new(command: Pid, terminal: Option<OwnedFd>) -> Result<Self> {
        let doing = "open";
        // The command does the same, and either may be first. It has executed its program already if it may not any more.
        match setpgid(Some(command), Some(command)) {
            Ok(()) | Err(Errno::ACCESS) => {}
            Err(error) => return Err(error).doing(doing, "the container's command"),
        }
        // Init is never in the foreground, and changes it.
        sys::set_disposition(libc::SIGTTOU, Disposition::Ignore).doing(doing, "the container's command")?;
        let pidfd = pidfd_open(command, PidfdFlags::empty()).doing(doing, "the container's command")?;
        Ok(Self { command, pidfd, terminal })
    }

    /// Does what comes in, for as long as there is a caller; without one the command ends.
    pub(super) fn obey(&self, mut requests: BufReader<File>) {
        while let Some(message) = Message::read(&mut requests) {
            // error: the command may be gone, and its group, or have set its terminal up otherwise
            self.obey_one(message).unwrap_or_default();
        }
        // error: it has ended
        pidfd_send_signal(&self.pidfd, Signal::KILL).unwrap_or_default();
    }

    fn obey_one(&self, message: Message) -> rustix::io::Result<()> {
        let in_front = match message {
            Message::Signal(signal) => return pidfd_send_signal(&self.pidfd, signal),
            Message::Group(signal) => return kill_process_group(self.command, signal),
            Message::Foreground => self.command,
            Message::Background => getpgrp(),
        };
        let set = self.terminal.as_ref().map_or(Ok(()), |terminal| tcsetpgrp(terminal, in_front));
        kill_process_group(self.command, Signal::CONT)?;
        set
    }
}

/// Waits for all children, own and adopted, until the command ends, and reports each stop of the command. Its exit status;
/// the others end with init.
///
/// # Errors
/// As `wait4(2)`. The command ends with init then.
pub(super) fn reap(command: Pid, mut reports: File) -> rustix::io::Result<u8> {
    loop {
        match wait(WaitOptions::UNTRACED) {
            Ok(Some((pid, status))) if pid == command => {
                if let Some(signal) = status.stopping_signal() {
                    let number = [u8::try_from(signal).unwrap_or_default()];
                    // error: without a caller init is about to end
                    drop(reports.write_all(&number));
                    continue;
                }
                let signal = status.terminating_signal().map(|signal| signal.saturating_add(128));
                let status = status.exit_status().or(signal);
                return Ok(status.and_then(|status| u8::try_from(status).ok()).unwrap_or(NOT_STARTED));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
