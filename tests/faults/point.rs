//! Where a run is disturbed, and how.

use std::fmt;
use std::str::FromStr;

use super::call::{OF_ROOM, REPLY};

/// Calls of one kind: which process makes them, which of its threads, and what they do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Site {
    /// `command`, `server`, `init`, or one of these before it has become another program (`server-child`).
    pub(crate) process: String,
    /// `main`, or the thread's name without its number.
    pub(crate) thread: String,
    /// The name of a group of calls.
    pub(crate) call: String,
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// The call is not made and fails so.
    Error(&'static str, i32),
    /// The process is killed instead of the call.
    Kill,
    /// From this call on the disk is full: each that takes room there fails with ENOSPC, in all processes.
    Full,
}

/// The errors that each call is made to fail with.
pub(crate) const ERRORS: [Fault; 5] = [
    Fault::Error("EIO", libc::EIO),
    Fault::Error("ENOSPC", libc::ENOSPC),
    Fault::Error("EMFILE", libc::EMFILE),
    Fault::Error("ENOMEM", libc::ENOMEM),
    Fault::Error("EINTR", libc::EINTR),
];

impl Fault {
    /// Whether a call can fail so at all: getrandom(2) can only be interrupted, and Rust's library relies on that.
    pub(crate) fn can_happen(&self, call: &str) -> bool {
        match self {
            Self::Error(name, _) => call != REPLY && (call != "random" || *name == "EINTR"),
            Self::Kill => true,
            Self::Full => OF_ROOM.contains(&call),
        }
    }
}

/// The `nth` call of a site, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Point {
    pub(crate) site: Site,
    pub(crate) nth: u32,
    pub(crate) fault: Fault,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.process, self.thread, self.call)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error(name, _) => name,
            Self::Kill => "KILL",
            Self::Full => "FULL",
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.site, self.nth, self.fault)
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not PROCESS:THREAD:CALL:N:FAULT");
        let [process, thread, call, nth, fault] = *text.split(':').collect::<Vec<_>>() else { return Err(wrong()) };
        let known = ERRORS.iter().chain([&Fault::Kill, &Fault::Full]).find(|known| known.to_string() == fault);
        Ok(Self {
            site: Site { process: process.to_owned(), thread: thread.to_owned(), call: call.to_owned() },
            nth: nth.parse().map_err(|_| wrong())?,
            fault: *known.ok_or_else(wrong)?,
        })
    }
}
