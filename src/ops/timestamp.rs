//! Times as Docker and OCI write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970 as RFC 3339 has them, in UTC.
pub(super) fn rfc3339(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
