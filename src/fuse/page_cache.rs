//! The kernel's limits for what it may keep of a mount's files in memory
//! (Documentation/ABI/testing/sysfs-class-bdi).
//!
//! A FUSE mount is given 1 % of the memory for data not yet written, and is read ahead by 128 KiB, because its server
//! might be slow or hostile. This one is neither, so it gets what a disk gets. Only root may say so; for others all
//! works, more slowly.

use std::path::Path;

/// Percent of the memory that may be dirty in all. The strict limit stays: it keeps a mount from filling all of what
/// its server needs to get rid of it.
const MAX_RATIO: &str = "50";
const READ_AHEAD_KIB: &str = "1024";

/// Sets the limits of the mount with this device number (`major:minor`).
pub(super) fn widen(device: &str) {
    let bdi = Path::new("/sys/class/bdi").join(device);
    for (limit, value) in [("max_ratio", MAX_RATIO), ("read_ahead_kb", READ_AHEAD_KIB)] {
        // error: the limit stays what it was, and all works, more slowly.
        crate::sys::fs::write(bdi.join(limit), value).unwrap_or_default();
    }
}
