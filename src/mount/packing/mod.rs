//! Streams a mounted container's rw layer as a tar from the mount's server to the committing process. Only the server
//! reads the upper directory while it is mounted.
//!
//! ```text
//! commit ─ syncfs ─► the kernel writes out what it has gathered
//!        ─ Wish ──► server: the files that were changed once more, for kernels whose syncfs does not wait
//!                           changes wait; the tar is sent; changes go on
//! ```
//!
//! What was written before the commit began is in the layer. Of what is written meanwhile, the layer has all up to one moment,
//! in the order in which it came to the server, as a power cut would leave it.
//! With [`Wish::live`] changes wait only while the one file is read that they may belong to, and the layer is not of one
//! moment.
//!
//! - [`client`]: the process that asks; `server::packing` answers
//! - [`frames`]: the tar on the socket, so that its end is told from the server's

mod client;
pub(crate) mod frames;

use serde::{Deserialize, Serialize};

pub(crate) use client::mounted_layer;

/// The name of the socket in the directory of a live mount.
pub(crate) const SOCKET: &str = "pack";

/// What is asked for: a line of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    /// Whether changes go on meanwhile.
    pub(crate) live: bool,
    /// The latest time that a file may have, in seconds since 1970.
    pub(crate) latest: Option<i64>,
    /// Whether the kernel holds nothing any more that was written before the wish.
    #[serde(default)]
    pub(crate) is_written: bool,
}

/// How it ended: JSON after the tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    Packed {
        is_changed: bool,
        /// What could not be brought to the rw layer, as a clause.
        #[serde(default)]
        lost: Option<String>,
    },
    Failed {
        message: String,
        code: u8,
    },
}
