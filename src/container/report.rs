//! What init tells the caller when the command cannot be started.

use std::io;

use serde::{Deserialize, Serialize};

use super::Spec;
use crate::error::Error;

/// An error on its way from init to [`super::run`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Report {
    NotFound,
    /// With the errno of execve.
    NotRunnable(i32),
    Usage(String),
    Failed(String),
}

impl Report {
    /// What came through the pipe, however it came.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Self::Failed("its init did not say why".into()))
    }

    /// The error of the caller.
    pub(super) fn into_error(self, spec: &Spec) -> Error {
        let command = String::from_utf8_lossy(spec.args.first().map_or(&[], Vec::as_slice)).into_owned();
        match self {
            Self::NotFound => Error::CommandNotFound { command },
            Self::NotRunnable(errno) => {
                Error::CommandNotRunnable { command, source: io::Error::from_raw_os_error(errno) }
            }
            Self::Usage(text) => Error::Usage(text),
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
            Error::CommandNotRunnable { source, .. } => {
                Self::NotRunnable(source.raw_os_error().unwrap_or(libc::EACCES))
            }
            Error::Usage(text) => Self::Usage(text.clone()),
            other => Self::Failed(other.to_string()),
        }
    }
}
