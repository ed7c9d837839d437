//! The commands. Each one is found here; a command of more than a few steps is a module of its own beside this one.
//!
//! | command | is in |
//! |---|---|
//! | `import`, `build`, `save`, `diff`, `explain` | the module of that name |
//! | `verify`, `verify --repair` | [`crate::verify`] |
//! | `cp` | [`crate::copy`] |
//! | `run-mount` | [`crate::run`] |
//! | `umount`, `rm` | [`crate::mount`] |
//! | `commit`, `df`, `exists`, `export`, `history`, `inspect`, `prune`, `union` | a file here |
//!
//! `images`, `layers`, `ps`, `rmi`, `tag` and `untag` are one call of the [store](crate::store) each, and [`crate::cli`] makes it.
//! A new command is a file of [`crate::cli`] for its words and its output, and a file here for what it does.

mod commit;
mod df;
mod exists;
mod export;
mod history;
mod inspect;
mod prune;
mod union;

pub use crate::build::{Build, build};
pub use crate::copy::{Copy, Place, copy};
pub use crate::diff::{Difference, DifferenceKind, diff, diff_tar};
pub use crate::explain::{Action, Explanation, Followed, Given, Source, explain};
pub use crate::fuse::Io;
pub use crate::image::{Setting, instruction};
pub use crate::import::{ImportLimits, ImportOptions, Imported, Policy, TakenAs, import};
pub use crate::mount::remove::remove;
pub use crate::mount::umount::{Umount, umount};
pub use crate::mount::{Live, LiveBranch, LiveRecord, MOUNT_TASK, SERVE, mount_task};
pub use crate::mount_options::UnionOptions;
pub use crate::network::NetworkOptions;
pub use crate::pack::pack;
pub use crate::run::{Mounted, Outcome, RunMount, run_mount, take_back};
pub use crate::save::{Save, SaveForm, save};
pub use crate::server::serve;
pub(crate) use crate::timestamp::{rfc3339, seconds};
pub use crate::verify::{Finding, Repair, Repaired, Verify, repair, verify};
pub use commit::{Commit, commit};
pub use df::{Df, DfContainer, DfImage, DfLayer, DfRow, df};
pub use exists::{Kind, exists};
pub use export::export;
pub use history::{History, history};
pub use inspect::inspect;
pub use prune::{Prune, Pruned, prune};
pub use union::{mount_helper, mount_program, union};
