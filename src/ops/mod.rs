//! What the commands do: the only place where the store, the union and containers meet.
//!
//! - [`import()`]: archives become images
//! - [`run_mount()`], [`umount()`], [`remove()`]: the life of a container; its command finds names by its [`name_files`], for which
//!   the host's [`resolver`] is read, and [`network_options`]
//! - [`kernel`]: the same where the kernel's overlayfs has the rw layer; [`rw_layer`] reads it in either spelling
//! - [`commit()`]: a container's changes become a layer, by way of [`pack()`]; of a mounted one its server does the [`packing`]
//! - [`build()`]: tars and directories ([`dir_tar`]) become the layers of an image, with an [`image_config`] as `commit` makes
//!   it; layers that are made here are [`packed_layer`]s
//! - [`save()`]: images become archives, each layer bit for bit ([`layer_tar`]), into an [`output_file`]
//! - [`export()`]: a container or image, opened as a [`view`], becomes one tar ([`tree_tar`])
//! - [`copy()`]: files between a container and the host
//! - [`union()`]: the same for plain [`directories`], with [`union_options`], and [`foreign_options`] that other unions' users pass, in [`option_text`]
//! - [`inspect()`]: what is known of anything; [`exists()`]: whether it is there
//! - [`diff()`]: what is different in two trees
//! - [`explain()`]: which layer gives a path, and what removed it
//! - [`history()`]: how an image was made
//! - [`verify()`]: whether all is as it was imported; [`repair()`]: it is so again
//! - [`prune()`], [`df()`]: what nobody needs, by one plan
//! - [`ending`]: the end of a live mount: [`placed`] finds it, a [`mod@mount_task`] does what may have to [`wait`] for its server
//! - [`command_mounts`]: what is in a mount because a command's file systems are mounted there
//! - [`serve()`]: the process behind a mount, started by [`launch`] as [`serve_spec`] says; while it lives it is
//!   registered ([`registration`]) as [`live`]; whoever else wants the container's tree gets [`access`] to it

mod access;
mod build;
mod command_mounts;
mod commit;
mod copy;
mod descriptors;
mod df;
mod diff;
mod dir_tar;
mod directories;
mod ending;
mod exists;
mod explain;
mod export;
mod foreign_options;
mod history;
mod image_config;
mod import;
mod inspect;
mod kernel;
mod launch;
mod layer_tar;
mod live;
mod mount_task;
mod mountpoint;
mod name_files;
mod network_options;
mod option_text;
mod ourselves;
mod output_file;
mod pack;
mod packed_layer;
mod packing;
mod placed;
mod prune;
mod recorded;
mod registration;
mod remove;
mod resolver;
mod run_mount;
mod rw_layer;
mod save;
mod serve;
mod serve_spec;
mod server_limits;
mod server_log;
mod temporary;
mod timestamp;
mod tree_tar;
mod umount;
mod union;
mod union_options;
mod verify;
mod view;
mod wait;

pub use build::{Build, build};
pub use commit::{Commit, commit};
pub use copy::{Copy, Place, copy};
pub use explain::{Action, Explanation, Followed, Given, Source, explain};
pub use export::export;

pub use crate::fuse::Io;
pub use df::{Df, DfContainer, DfImage, DfLayer, DfRow, df};
pub use diff::{Difference, DifferenceKind, diff, diff_tar};
pub use exists::{Kind, exists};
pub use history::{History, history};
pub use image_config::{Setting, instruction};
pub use import::{ImportLimits, ImportOptions, Imported, Policy, TakenAs, import};
pub use inspect::inspect;
pub use launch::SERVE;
pub use live::{Live, LiveBranch, LiveRecord};
pub use mount_task::{MOUNT_TASK, mount_task};
pub use network_options::NetworkOptions;
pub use pack::pack;
pub use prune::{Prune, Pruned, prune};
pub use remove::remove;
pub use run_mount::{Mounted, Outcome, RunMount, run_mount, take_back};
pub use save::{Save, SaveForm, save};
pub use serve::serve;
pub(crate) use timestamp::{rfc3339, seconds};
pub use umount::{Umount, umount};
pub use union::{mount_helper, mount_program, union};
pub use union_options::UnionOptions;
pub use verify::{Finding, Repair, Repaired, Verify, repair, verify};
