//! `--io kernel`: the kernel's overlayfs has the rw layer, over a read-only mount of ours that has the image.
//!
//! ```text
//! image's layers ─► image server ─► ROOT/run/images/<image-id>      one for all containers of the image
//!                                          │ lower
//! diff/<container-id>/ ─► upper ─► overlayfs ─► the container's tree
//! ```
//!
//! - [`image_mount`]: taking the mount of an image, which is made when it is first needed
//! - [`image_server`]: when it ends, as the server behind it sees it
//! - [`overlay`]: the container's own part
//! - [`command`]: a command, in whose mount namespace alone the overlay is
//! - [`requests`]: what its caller does for other processes, which ask by [`held`]; [`freezer`] and [`inhabitants`]: how
//! - [`directories`]: the same of a union of plain directories
//! - [`mod@end`]: unmounting; [`mod@layer`]: what `commit` takes, and [`read_only`]: what keeps it from changing meanwhile
//!
//! Nothing here has a daemon, and nothing depends on a process number in a file:
//!
//! | what | is known by |
//! |---|---|
//! | a command's container is mounted | its caller has the container's lock; after that is killed, the kernel has the upper until all is gone |
//! | a container without a command is mounted | the kernel's list of mounts, or the kernel has the upper |
//! | a process uses the mount of an image | a shared lock on `run/images/<image-id>.lock`, held by callers; the containers without a command |
//! | the server of an image is there | the lock of what it has registered |
//!
//! The kernel has an upper when it lets no other process mount it (`index=on`, [`is_upper_in_use`](crate::sys::is_upper_in_use)).

mod command;
mod directories;
mod end;
mod freezer;
mod held;
mod image_mount;
mod image_server;
mod inhabitants;
mod layer;
mod overlay;
mod read_only;
mod requests;

pub(crate) use command::run;
pub(crate) use directories::{end_union, is_union_at, sweep as sweep_unions, union};
pub(crate) use end::{clear, end, flush, forget};
pub(crate) use freezer::recover;
pub(crate) use held::tree;
pub(crate) use image_mount::sweep;
pub(crate) use image_server::{Ending, end as end_image, watch};
pub(crate) use layer::layer;
pub(crate) use overlay::{mount, prepare};
pub(crate) use read_only::{put_right, put_right_if_free, root, wait_for_lock};
