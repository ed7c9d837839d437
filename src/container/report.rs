//! What init tells the caller when the command cannot be started, or its end cannot be waited for.

use std::io;

use serde::{Deserialize, Serialize};

use super::Spec;
use crate::error::Error;

/// What init says when all is there but the command. Nothing after it means that the command is there too.
/// A report may come after it, being JSON, where a line break is nothing.
pub(super) const READY: &[u8] = b"\n";

/// An error on its way from init to [`super::run`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Report {
    NotFound,
    NoInterpreter,
    /// With the errno of execve.
    NotRunnable(i32),
    Usage(String),
    Failed(String),
    /// The command has run, and how it ends is not known. With the errno of wait4.
    NotWaitedFor(i32),
}

/// Whether the command may have run, by all that came through the pipe. Init may fail after the command's start too, and only
/// what execve says is certain to be said without it.
pub(super) fn tells_of_a_start(bytes: &[u8]) -> bool {
    let Some(report) = bytes.strip_prefix(READY) else { return false };
    report.is_empty()
        || !matches!(Report::parse(report), Report::NotFound | Report::NoInterpreter | Report::NotRunnable(_))
}

impl Report {
    /// What came through the pipe, however it came.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Self::Failed("its first process ended too soon".into()))
    }

    /// The error of the caller.
    pub(super) fn into_error(self, spec: &Spec) -> Error {
        let command = String::from_utf8_lossy(spec.args.first().map_or(&[], Vec::as_slice)).into_owned();
        match self {
            Self::NotFound => Error::CommandNotFound { command },
            Self::NoInterpreter => Error::InterpreterNotFound { command },
            Self::NotRunnable(errno) => {
                Error::CommandNotRunnable { command, source: io::Error::from_raw_os_error(errno) }
            }
            Self::Usage(text) => Error::Usage(text),
            Self::NotWaitedFor(errno) => {
                let why = format!("{}; the command was killed", io::Error::from_raw_os_error(errno));
                Error::Io { doing: "wait for the command in", path: spec.rootfs.clone(), source: io::Error::other(why) }
            }
            Self::Failed(text) => {
                Error::Io { doing: "start a container in", path: spec.rootfs.clone(), source: io::Error::other(text) }
            }
        }
    }
}

impl From<&Error> for Report {
    fn from(error: &Error) -> Self {
        match error {
            Error::CommandNotFound { .. } => Self::NotFound,
            Error::InterpreterNotFound { .. } => Self::NoInterpreter,
            Error::CommandNotRunnable { source, .. } => {
                Self::NotRunnable(source.raw_os_error().unwrap_or(libc::EACCES))
            }
            Error::Usage(text) => Self::Usage(text.clone()),
            other => Self::Failed(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Security;
    use super::*;

    #[test]
    fn a_command_may_have_run_once_all_was_ready() {
        let sent = |ready: &[u8], error: &Error| [ready, &serde_json::to_vec(&Report::from(error)).unwrap()].concat();
        let not_found = Error::CommandNotFound { command: "run".to_owned() };
        // As init says it, which forwards signals when the command is there.
        let failed = Error::Io { doing: "forward", path: "signals".into(), source: io::Error::other("no thread") };
        assert!(tells_of_a_start(READY));
        assert!(tells_of_a_start(&sent(READY, &failed)));
        assert!(!tells_of_a_start(&sent(READY, &not_found)));
        assert!(!tells_of_a_start(&sent(b"", &failed)));
        assert!(!tells_of_a_start(b""));
    }

    #[test]
    fn an_error_is_the_same_after_its_way() {
        let spec = Spec {
            overlay: None,
            files: Vec::new(),
            rootfs: "/r".into(),
            hostname: String::new(),
            args: vec![b"run".to_vec()],
            env: Vec::new(),
            working_dir: Vec::new(),
            user: String::new(),
            read_only: false,
            security: Security::default(),
        };
        let command = || "run".to_owned();
        let io = || io::Error::from_raw_os_error(libc::ENOEXEC);
        for (error, text) in [
            (Error::CommandNotFound { command: command() }, "run: command not found"),
            (Error::InterpreterNotFound { command: command() }, "run: the interpreter that it names is not there"),
            (
                Error::CommandNotRunnable { command: command(), source: io() },
                "run: cannot be run: Exec format error (os error 8)",
            ),
            (Error::Usage("no such user".into()), "no such user"),
            (
                Error::Io { doing: "mount", path: "/proc".into(), source: io() },
                "cannot start a container in /r: cannot mount /proc: Exec format error (os error 8)",
            ),
        ] {
            let sent = [READY, &serde_json::to_vec(&Report::from(&error)).unwrap()].concat();
            let received = Report::parse(&sent).into_error(&spec);
            assert_eq!((received.to_string(), received.exit_code()), (text.to_owned(), error.exit_code()));
        }
        let unknown = serde_json::to_vec(&Report::NotWaitedFor(libc::EIO)).unwrap();
        assert_eq!(
            Report::parse(&unknown).into_error(&spec).to_string(),
            "cannot wait for the command in /r: Input/output error (os error 5); the command was killed"
        );
        assert!(tells_of_a_start(&[READY, &unknown].concat()));
        assert!(matches!(Report::parse(b"").into_error(&spec), Error::Io { .. }));
    }
}
