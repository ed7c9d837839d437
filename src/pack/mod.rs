//! Trees become tars, and a tar that is made here becomes a layer.
//!
//! - [`rw_layer`]: the rw layer of a union as a layer's tar
//! - [`tree`]: every visible name of a union as a tar
//! - [`dir`]: a plain directory as a layer's tar
//! - [`layer`]: a layer of the store as the tar that it came as, bit for bit
//! - [`staged`]: a tar that is unpacked, indexed and hashed while it is written
//! - [`recorded`]: the error of a tar's writer, told apart from those of reading the tree

pub(crate) mod dir;
pub(crate) mod layer;
mod recorded;
pub(crate) mod rw_layer;
pub(crate) mod staged;
pub(crate) mod tree;

pub use rw_layer::pack;
