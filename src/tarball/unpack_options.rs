//! The options with which a tar is unpacked.

use super::{Limits, Modes, PathFilter};

/// What else there is to say of how a tar is to be unpacked.
#[derive(Clone, Copy)]
pub struct UnpackOptions<'a> {
    /// How much it may ask for.
    pub limits: &'a Limits,
    /// Which files' content is written: the others are empty, and all else is the same, the index and the split too.
    pub wanted: &'a PathFilter,
    /// Whether the tar's bytes are dear to get, as when they are decompressed: then they are read by one thread, and unpacked
    /// by another one.
    pub is_dear: bool,
    /// Whether the disk begins to write at once, since the caller will wait for that at the end.
    pub write_back: bool,
    /// Whether it is a layer's, so that names which begin with `.wh.` say what is gone; in any other tar they are refused,
    /// since a container cannot have them.
    pub is_layer: bool,
    /// Which modes its files have on disk.
    pub modes: Modes,
    /// Called when it has failed, while another thread may be waiting for more to come from the source.
    pub failed: &'a (dyn Fn() + Sync),
}

impl<'a> UnpackOptions<'a> {
    /// All of it.
    #[must_use]
    pub fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            wanted: &PathFilter::Everything,
            is_dear: false,
            write_back: false,
            is_layer: true,
            modes: Modes::Exact,
            failed: &|| {},
        }
    }
}
