//! The names that a container's command finds, as it was asked for when the container was made.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Container;
use crate::error::{Context as _, Result};
use crate::sys::retry;

/// What is otherwise than on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// The name servers, in place of the host's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// The domains in which names are searched for, in place of the host's; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_search: Option<Vec<String>>,
    /// Lines of `/etc/hosts` beside the usual ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostEntry>,
    /// Whether `/etc/hosts` is the image's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_hosts: bool,
}

/// A name with its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

impl Network {
    /// Whether all is as by default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Container {
    /// The directory of its own files of names: `hostname`, `hosts`, `resolv.conf`.
    #[must_use]
    pub fn name_files(&self) -> PathBuf {
        self.dir().join("etc")
    }

    /// Makes that directory. Only its owner may enter it: a command writes to the files in it, and may give them any mode.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_name_files(&self) -> Result<()> {
        let dir = self.name_files();
        match retry(|| DirBuilder::new().mode(0o700).create(&dir)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made.doing("create", &dir),
        }
    }
}
