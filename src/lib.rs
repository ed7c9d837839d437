//! layerctl: a Docker-style image layer store without a daemon, with its own FUSE union.
//!
//! ```text
//!  bytes ─► archive ─► tarball ─► staging ─► diff/<diff-id>/     files
//!             │                          └─► layers/<diff-id>.*  index + split
//!             └─ config + manifest ────────► images/<image-id>/
//!                                              │
//!  container = fresh rw layer + image's chain ◄┘
//!                  │ stack
//!  kernel ◄─ fuse ◄─ union ◄─ indexes of the layers (immutable) + upper directory (live)
//! ```
//!
//! Each module uses only modules that stand below it, and of those only what its row names.
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`cli`] | arguments in, text and JSON out; the only place that knows flags and terminals | `commands`, `container`, `archive`, `image`, `store`, `tarball`, `index` |
//! | [`commands`] | each command: its steps, or the module that has them | all below |
//! | [`build`] | an image of tars and directories | `import`, `pack`, `output_file`, `store`, `archive`, `image`, `tarball`, `timestamp`, `index` |
//! | [`copy`] | `cp`: files between a container and the host | `import`, `view`, `mount`, `rw_layer`, `pack`, `output_file`, `store`, `archive`, `union`, `tarball`, `stack`, `index` |
//! | [`import`] | from an archive to layers and images: read, decompress, hash, check, unpack, index, publish | `output_file`, `store`, `archive`, `image`, `tarball`, `index` |
//! | [`save`] | from images to an archive | `pack`, `output_file`, `store`, `archive`, `image`, `tarball` |
//! | [`verify`] | whether layers and records are what they were, and their repair | `store`, `archive`, `image`, `tarball`, `index` |
//! | [`diff`], [`explain`] | what is different in two trees; which layer gives a path | `view`, `mount`, `pack`, `output_file`, `store`, `image`, `union`, `tarball`, `index` |
//! | [`run`] | a container of an image, mounted, and the command in it | `mount`, `network`, `store`, `container`, `image`, `fuse` |
//! | [`view`] | a container or image as one tree, read without a mount | `mount`, `rw_layer`, `store`, `union`, `stack`, `index` |
//! | [`server`] | the process behind a mount: start, ready, requests of clients, end | `mount`, `network`, `rw_layer`, `pack`, `store`, `fuse`, `union`, `timestamp`, `stack`, `index` |
//! | [`mount`] | live mounts as commands see them: started, found, waited for, ended | `network`, `rw_layer`, `pack`, `store`, `archive`, `container`, `fuse`, `union`, `timestamp`, `stack`, `index` |
//! | [`mount_options`] | the text of `-o` | `fuse`, `index` |
//! | [`network`] | a container's own `hostname`, `hosts`, `resolv.conf` | `store`, `container` |
//! | [`rw_layer`] | a container's rw layer, in AUFS' or in overlayfs' spelling | `store`, `union`, `stack`, `index` |
//! | [`pack`] | trees become tars, and tars that are made here become layers | `store`, `fuse`, `union`, `tarball`, `index` |
//! | [`output_file`] | a file that a command writes: whole, or not at all | |
//! | [`store`] | what is on disk: layers, images, containers, leases, garbage collection | `stack`, `index` |
//! | [`archive`] | docker-archive, OCI layout: what is in them | `image`, `tarball` |
//! | [`image`] | config, platform, history: data and rules | `timestamp` |
//! | [`container`] | a command in namespaces of its own | |
//! | [`fuse`] | the union behind the kernel's protocol | `union`, `index` |
//! | [`union`] | the rules of the union, without FUSE | `stack`, `index` |
//! | [`tarball`] | a layer's tar, in and out, bit for bit | `index` |
//! | [`timestamp`] | times as Docker and OCI write them | `index` |
//! | [`stack`] | one upper and the lowers: all that the store and the union know of each other | `index` |
//! | [`index`] | the tree of a layer | |
//! | [`whiteout`], [`private_xattr`], [`id`], [`error`], [`progress`], [`json`], [`sys`] | words that all share | each other |
//!
//! The store never looks into the union nor the union into the store; `tests/it/architecture.rs` reads this table and holds the
//! sources to it.
//!
//! Words: a *layer* is a directory tree with whiteouts, named by its *diffID*, the sha256 of its tar. An *image* is
//! a config that names layers, lowest first. A *whiteout* hides a name of the layers below, an *opaque* directory all
//! that they have in it. *Upper* is the writable directory of a union, *lower* each layer under it; the first
//! change of a lower file is its *copy-up*.

// The documentation is for developers of layerctl, and is built with private items.
#![allow(rustdoc::private_intra_doc_links)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
// A failed system call is never an answer: `clippy.toml` has the list, `tests/it/lost_errors.rs` the rest.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::let_underscore_must_use))]

pub mod archive;
mod build;
pub mod cli;
pub mod commands;
pub mod container;
mod copy;
mod diff;
pub mod error;
mod explain;
pub mod fuse;
pub mod id;
pub mod image;
mod import;
pub mod index;
pub mod json;
mod mount;
mod mount_options;
mod network;
mod output_file;
mod pack;
pub mod private_xattr;
pub mod progress;
mod run;
mod rw_layer;
mod save;
mod server;
pub mod stack;
pub mod store;
pub mod sys;
pub mod tarball;
mod timestamp;
pub mod union;
mod verify;
mod view;
pub mod whiteout;

pub use error::Error;
