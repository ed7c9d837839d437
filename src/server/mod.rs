//! The process behind a mount, from its start to its end.
//!
//! ```text
//! ServeSpec on standard input ─► serve ─► union ─► FUSE session ─► registered ─► "ready" ─► requests ─► end
//! ```
//!
//! - [`serve()`]: the process
//! - [`registration`]: what it shows of itself in `ROOT/run/`, and the socket on which clients ask it
//! - [`packing`]: the rw layer of a live mount, sent to a process that commits it
//! - [`end`]: the ways in which its mount ends
//! - [`directories`]: the branches of a union that belong to no container
//! - [`limits`]: resource limits and priorities of its own; [`log`]: its messages once no caller reads them

mod directories;
mod end;
mod limits;
mod log;
mod packing;
mod registration;
mod serve;

pub use serve::serve;
