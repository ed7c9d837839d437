//! The kernel's limits for what it may keep of a mount's files in memory
//! (Documentation/ABI/testing/sysfs-class-bdi).
//!
//! A FUSE mount is given 1 % of the memory for data not yet written, and is read ahead by 128 KiB, because its server
//! might be slow or hostile. This one is neither, so it gets what a disk gets, as long as there is room for it
//! ([`room`](super::room)). Only root may say so; for others all works, more slowly.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// Percent of the memory that may be dirty in all. The strict limit stays: it keeps a mount from filling all of what
/// its server needs to get rid of it.
const MAX_RATIO: &str = "50";
/// The least that `max_ratio` can say.
const LEAST_RATIO: &str = "1";
const READ_AHEAD_KIB: &str = "1024";
/// What is more than this is as good as no limit of its own.
const PLENTY: u64 = 4 << 30;

/// Sets the read-ahead of the mount with this device number (`major:minor`).
pub(super) fn widen(device: &str) {
    // error: reading is slower without it
    drop(crate::sys::fs::write(limits(device).join("read_ahead_kb"), READ_AHEAD_KIB));
}

/// Sets how many bytes the kernel may hold that are not written yet.
pub(super) fn limit(device: &str, bytes: u64) {
    let limits = limits(device);
    // Without the right to set it the kernel's 1 % stays, which is less than most disks have free.
    let set = |name: &str, value: &str| crate::sys::fs::write(limits.join(name), value);
    let is_set =
        if bytes >= PLENTY { Err(Error::from(ErrorKind::InvalidInput)) } else { set("max_bytes", &bytes.to_string()) };
    let ratio = match is_set {
        Ok(()) => None,
        // It is more than the kernel holds of all mounts.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Some(MAX_RATIO),
        // error: before Linux 6.2 there are only percents
        Err(_) => Some(if bytes >= PLENTY / 4 { MAX_RATIO } else { LEAST_RATIO }),
    };
    if let Some(ratio) = ratio {
        // error: the kernel's own limit stays, which is less
        drop(set("max_ratio", ratio));
    }
    // error: a FUSE mount has it from the first on
    drop(set("strict_limit", "1"));
}

fn limits(device: &str) -> PathBuf {
    Path::new("/sys/class/bdi").join(device)
}
