//! stub

pub use error::Error;
pub mod container;
pub mod error;
pub mod fuse;
pub mod id;
pub mod index;
pub mod ops;
pub mod progress;
pub mod stack;
pub mod store;
pub mod sys;
pub mod tarball;
pub mod union;
pub mod whiteout;
