//! stub
pub mod error;
pub mod fuse;
pub mod id;
pub mod index;
pub mod progress;
pub mod stack;
pub mod sys;
pub mod tarball;
pub mod union;
pub mod whiteout;
