//! The names that a command finds: a container's own `hostname`, `hosts` and `resolv.conf`.
//!
//! - [`options`]: what the user says of them when a container is made
//! - [`resolver`]: `resolv.conf(5)` of the host, and the one that a container gets
//! - [`name_files`]: the files, kept in the container's directory of the store

pub(crate) mod name_files;
mod options;
mod resolver;

pub use options::NetworkOptions;
