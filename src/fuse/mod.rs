//! The union as a FUSE file system: the only place that knows the protocol.
//!
//! - [`filesystem`]: each request is decoded, counted, answered by the union
//! - [`data`]: opening, reading and writing files
//! - [`renew`]: times that the disk does not have as the kernel does
//! - [`replies`]: from what the union gives to a reply
//! - [`mod@mounts`]: what is mounted where
//! - [`seek`]: where data are, of files with data that the kernel has not written yet
//! - [`session`]: the mount, and its beginning and end
//! - [`negotiation`]: what the kernel is told when the connection begins
//! - [`attr_invalidation`]: which directories' attributes the kernel may hold outdated answers about
//! - [`freeze`]: holding back all changes for a while
//! - [`behaviour`]: what a mount does otherwise than by default; [`ids`]: owners on the disk, and as they are shown
//! - [`mod@io`]: by which way data go
//! - [`deferred`]: requests that wait for a copy-up, and keep no others waiting
//! - [`load`]: how many threads are busy
//! - [`losses`]: what programs have written that could not be stored
//! - [`passthrough`]: which open files the kernel reads and writes itself
//! - [`page_cache`]: the kernel's limits for a mount
//! - [`read_ahead`]: having files ready before they are asked for
//! - [`room`]: that a write is told when the disk is full
//! - [`gathered`]: what the kernel has of a file and the union does not have yet
//! - [`workers`]: the threads that answer requests
//! - [`cpu_latency`]: processors that stay awake while requests come thick
//! - [`connection`]: the kernel's control of a mount's connection
//! - [`counters`]: how many messages of each kind the kernel has sent
//!
//! The server tells the kernel at the start that only the kernel's requests change the tree (see [`filesystem`]): the kernel
//! then keeps what it has seen, and asks for nothing twice.

mod attr_invalidation;
mod backing_file;
mod behaviour;
mod connection;
mod counters;
mod cpu_latency;
mod data;
mod deferred;
mod filesystem;
mod flush_failures;
mod freeze;
mod gathered;
mod ids;
mod io;
mod load;
mod losses;
mod mounts;
mod negotiation;
mod page_cache;
mod passthrough;
mod read_ahead;
mod renew;
mod replies;
mod room;
mod seek;
mod session;
mod under_overlay;
mod value;
mod workers;

pub use behaviour::Behaviour;
pub use connection::Connection;
pub use counters::{Counters, Operation};
pub use freeze::{Freeze, Frozen};
pub use gathered::{Gathered, Gatherer, WriteOut};
pub use ids::{IdMap, Ids};
pub use io::Io;
pub use losses::Losses;
pub use mounts::{Mount, abort, detach_only, is_mountpoint, mount_at, mounts, mounts_of, set_mount_flags, unmount};
pub use room::Remount;
pub use session::{MountOptions, Serving, Session};
