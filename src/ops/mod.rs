//! What the commands do.
pub mod live;
pub mod union_options;
