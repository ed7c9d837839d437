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
//! | module | what it is | may use |
//! |---|---|---|
//! | [`cli`] | the command line | all |
//! | [`ops`] | what the commands do; the server process | all below |
//! | [`container`] | a command in namespaces of its own | the last row |
//! | [`archive`] | docker-archive, OCI layout: what is in them | `tarball` and the last row |
//! | [`store`] | layers, images, containers on disk | `stack`, `index` and the last row |
//! | [`fuse`] | the union behind the kernel's protocol | `union` and the last row |
//! | [`union`] | the rules of the union, without FUSE | `stack`, `index` and the last row |
//! | [`tarball`] | a layer's tar, in and out, bit for bit | `index` and the last row |
//! | [`stack`] | one upper and the lowers: all that the store and the union know of each other | `index` |
//! | [`index`] | the tree of a layer | the last row |
//! | [`whiteout`], [`mark`], [`id`], [`error`], [`progress`], [`json`], [`sys`] | words that all share | each other |
//!
//! The store never looks into the union nor the union into the store; `tests/it/architecture.rs` holds all of
//! this table to be true.
//!
//! Words: a *layer* is a directory tree with whiteouts, named by its *diffID*, the sha256 of its tar. An *image* is
//! a config that names layers, lowest first. A *whiteout* hides a name of the layers below, an *opaque* directory all
//! that they have in it. *Upper* is the writable directory of a union, *lower* each layer under it; the first
//! change of a lower file is its *copy-up*.

// The documentation is for those who work on it, and is built with all items.
#![allow(rustdoc::private_intra_doc_links)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
// A failed system call is never an answer: `clippy.toml` has the list, `tests/it/lost_errors.rs` the rest.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::let_underscore_must_use))]

pub mod archive;
pub mod cli;
pub mod container;
pub mod error;
pub mod fuse;
pub mod id;
pub mod index;
pub mod json;
pub mod mark;
pub mod ops;
pub mod progress;
pub mod stack;
pub mod store;
pub mod sys;
pub mod tarball;
pub mod union;
pub mod whiteout;

pub use error::Error;
