//! What rustix does not say in one call. The only module that may use `unsafe`.

mod xattr;

pub use xattr::{list_xattrs, proc_path, read_xattr, read_xattrs};
