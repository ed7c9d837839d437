//! Live mounts, as the commands see them: started, found, waited for and ended.
//!
//! - [`mountpoint`]: a directory where something can be mounted
//! - [`launch`]: starts the server of a mount, as a [`serve_spec`] describes it, as one more [process](ourselves) of this program
//! - [`live`]: the registry of live mounts in `ROOT/run/`; [`placed`] finds the mount namespace that shows one
//! - [`access`]: the way to a container's tree, mounted or not; [`packing`] asks a server for its rw layer
//! - [`umount`], [`remove`]: the end of a container's mount, and of the container; [`ending`] ends a mount, a
//!   [short-lived process](mod@task) does the part that may have to [`wait`] for the server
//! - [`command_mounts`]: the mount points that a union shows for a command's own file systems
//! - [`kernel`]: `--io kernel`, where the kernel's overlayfs has the rw layer

pub(crate) mod access;
pub(crate) mod command_mounts;
pub(crate) mod ending;
pub(crate) mod kernel;
pub(crate) mod launch;
pub(crate) mod live;
pub(crate) mod mountpoint;
pub(crate) mod ourselves;
pub(crate) mod packing;
pub(crate) mod placed;
pub(crate) mod remove;
pub(crate) mod serve_spec;
pub(crate) mod task;
pub(crate) mod umount;
pub(crate) mod wait;

pub use launch::SERVE;
pub use live::{Live, LiveBranch, LiveRecord};
pub use task::{MOUNT_TASK, mount_task};
