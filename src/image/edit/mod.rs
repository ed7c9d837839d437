//! The config of an image that is made here: that of the image below it, or a new one, with what the user sets in it.
//!
//! - [`Setting`]: one thing that is set, spelled `KEY=VALUE`
//! - [`mod@instruction`]: the same in the spelling of a Dockerfile, as `docker commit --change` takes it, with its [`mod@words`] and
//!   its [`mod@healthcheck`]
//! - [`Document`]: the config that is being made
//!
//! What is not understood in a config is kept.

mod document;
mod healthcheck;
mod instruction;
mod setting;
mod value;
mod words;

pub(crate) use document::{Document, Step};
pub use instruction::instruction;
pub use setting::Setting;
