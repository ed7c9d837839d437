//! By which way data go.

use std::env::VarError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The environment variable with the default.
const VARIABLE: &str = "LAYERCTL_IO";

/// By which way the data of files go between programs and branches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Io {
    /// Through the kernel's page cache of the mount, and from there in large messages. What was read once is read
    /// again without a message, and no open is one.
    #[default]
    Cached,
    /// The kernel reads and writes files of the upper itself (`FUSE_PASSTHROUGH`, since Linux 6.9; root only). Each open
    /// and close is a message, and what is large goes at the speed of the file system.
    Passthrough,
    /// The kernel's overlayfs has the upper, over a read-only mount of the layers: writing is no message.
    Kernel,
    /// [`Io::Kernel`] where that works, else [`Io::Cached`].
    Auto,
}

impl Io {
    /// What was asked for: on the command line, else by `LAYERCTL_IO` in the environment.
    ///
    /// # Errors
    /// [`Error::Usage`] when the environment has another word.
    pub fn chosen(given: Option<Self>) -> Result<Self> {
        if let Some(io) = given {
            return Ok(io);
        }
        match std::env::var(VARIABLE) {
            Ok(word) if !word.is_empty() => word.parse(),
            Ok(_) | Err(VarError::NotPresent) => Ok(Self::default()),
            Err(VarError::NotUnicode(word)) => word.to_string_lossy().parse(),
        }
    }
}

impl FromStr for Io {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "cached" => Ok(Self::Cached),
            "passthrough" => Ok(Self::Passthrough),
            "kernel" => Ok(Self::Kernel),
            "auto" => Ok(Self::Auto),
            _ => Err(Error::Usage(format!("data go by the way of cached, passthrough, kernel or auto, not {word}"))),
        }
    }
}
