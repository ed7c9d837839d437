//! Times as Docker and OCI write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::index::Time;

/// Seconds since 1970 as RFC 3339 has them, in UTC.
pub(super) fn rfc3339(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time that a reproducible build asks for (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
///
/// # Errors
/// [`Error::Usage`] when it is no number: an image with another time would not be the one that was asked for.
pub(super) fn source_date_epoch() -> Result<Option<u64>> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds.map(Some).ok_or_else(|| Error::Usage("SOURCE_DATE_EPOCH is no number of seconds since 1970".into()))
}

/// The latest time that files of a layer may have which is made here: theirs, unless a reproducible build is asked for.
///
/// # Errors
/// As [`source_date_epoch`].
pub(super) fn latest_mtime() -> Result<Option<Time>> {
    let seconds = source_date_epoch()?;
    Ok(seconds.map(|seconds| Time { sec: i64::try_from(seconds).unwrap_or(i64::MAX), nsec: 0 }))
}
