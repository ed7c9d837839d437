//! What an image is: its config, its platform, its history. Data and rules; nothing here reads a store or an archive.
//!
//! - [`config`]: the image config of the OCI image specification (config.md), as it is read
//! - [`edit`]: a config that is made here, by `build`, `commit` and `import`
//! - [`platform`]: the operating system and processor of an image, and which image of several fits
//! - [`mod@history`]: the steps that made an image, and the layer of each

mod config;
mod edit;
mod history;
mod platform;

pub use config::{CONFIG, ImageConfig, PROCESS, Process, root_file_system_config};
pub(crate) use edit::{Document, Step};
pub use edit::{Setting, instruction};
pub use history::{HistoryStep, history};
pub use platform::{Platform, Platforms};
