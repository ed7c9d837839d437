//! Image archives as other tools write them: what is in them, in one shape for all.
//!
//! | form | written by | found by |
//! |---|---|---|
//! | docker-archive | `docker save`, podman, buildah, skopeo | a member `manifest.json` that is a JSON array |
//! | OCI layout, a directory or a tar | buildah, skopeo, `docker save` since 25, `docker buildx` | `index.json` |
//! | the same of old | Docker before 1.10 | `repositories` |
//! | a root file system | `docker export`, `debootstrap` and `tar` | anything else that is a tar |
//!
//! - [`input`]: the user's argument, opened and looked at: a directory, a tar one can seek in, a stream
//! - [`cancellable`]: a pipe; [`replay`]: it can be begun again
//! - [`members`]: the files of an archive, by name, in a tar ([`tar_members`]) or a directory ([`dir_members`])
//! - [`documents`]: those that say what is in it; [`blob`]: the digests by which they name others
//! - [`mod@plans`]: which format that is; [`docker`], [`oci`] with [`oci_documents`], [`legacy`]: the formats' own documents become [`Plans`]
//! - [`saved`]: the same documents for an archive that is written
//!
//! Nothing here writes. Members are named by the archive's own names and are never used as paths.

mod blob;
mod budget;
mod cancellable;
mod checked_reader;
mod dir_members;
mod docker;
mod documents;
mod input;
mod legacy;
mod members;
mod oci;
mod oci_documents;
mod plan;
mod plans;
mod replay;
mod saved;
mod tar_members;

pub use blob::{Algorithm, Blob, BlobDigest};
pub use budget::{Budget, BudgetedReader};
pub use cancellable::{CancellableReader, Stop};
pub use checked_reader::{ExactReader, HashingReader, Seen};
pub use dir_members::DirMembers;
pub use documents::{DocumentLimits, Documents};
pub use input::{Input, Stream, read_failure, standard_input};
pub use members::{MemberKind, NameTells, Part, member, normal_name};
pub use plan::{Note, Plan, PlannedLayer, Plans, Wanted, named_digest, no_documents};
pub use plans::plans;
pub use replay::Replay;
pub use saved::{
    OCI_LAYOUT, SavedImage, SavedLayer, blob_name, docker_manifest, oci_index, oci_manifest, repositories,
};
pub use tar_members::TarMembers;
