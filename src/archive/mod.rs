//! Image archives as other tools write them: what is in them, in one shape for all.
//!
//! | form | written by | found by |
//! |---|---|---|
//! | docker-archive | `docker save`, podman, buildah, skopeo | a member `manifest.json` that is a JSON array |
//! | OCI layout, a directory or a tar | buildah, skopeo, `docker save` since 25, `docker buildx` | `index.json` |
//! | a root file system | `docker export`, `debootstrap` and `tar` | anything else that is a tar |
//!
//! - [`input`]: the user's argument, opened and looked at: a directory, a tar one can seek in, a stream
//! - [`incoming`]: a pipe
//! - [`members`]: the files of an archive, by name
//! - [`docker`], [`oci`]: the formats' own documents become [`Plan`]s
//! - [`config`]: the image config, [`mod@history`] what it tells of the layers
//! - [`saved`]: the same documents for an archive that is written
//!
//! Nothing here writes. Members are named by the archive's own names and are never used as paths.

mod config;
mod docker;
mod exact;
mod history;
mod incoming;
mod input;
mod members;
mod metered;
mod oci;
mod plan;
mod platform;
mod saved;

pub use config::{ImageConfig, Process, root_file_system_config};
pub use exact::{Checked, Exact, Seen};
pub use history::{HistoryStep, history};
pub use incoming::{Incoming, Stop};
pub use input::{Input, Stream, read_failure, standard_input};
pub use members::{DirMembers, DocumentLimits, Documents, MemberKind, Part, TarMembers, member_kind, normal_name};
pub use metered::{Meter, Metered};
pub use plan::{Blob, Plan, PlannedLayer, named_digest, plans};
pub use platform::Platform;
pub use saved::{
    OCI_LAYOUT, SavedImage, SavedLayer, blob_name, docker_manifest, oci_index, oci_manifest, repositories,
};
