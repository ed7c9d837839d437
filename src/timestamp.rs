//! Times as Docker and OCI write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::index::Time;

/// Seconds since 1970 as RFC 3339 has them, in UTC.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Reads RFC 3339, with any offset; `None` for what is none, or before 1970.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let (local, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let (sign, (hours, minutes)) = match offset.split_at_checked(1)? {
                ("+", rest) => (1, rest.split_once(':')?),
                ("-", rest) => (-1, rest.split_once(':')?),
                _ => return None,
            };
            let (hours, minutes) = (i64::from(hours.parse::<u8>().ok()?), i64::from(minutes.parse::<u8>().ok()?));
            let minutes = hours * 60 + minutes;
            (local, sign * minutes * 60)
        }
    };
    let time = humantime::parse_rfc3339_weak(local).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(i64::try_from(time.as_secs()).ok()?.checked_sub(offset)?).ok()
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time that a reproducible build asks for (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
///
/// # Errors
/// [`Error::Usage`] when it is no number: an image with another time would not be the one that was asked for.
pub(crate) fn source_date_epoch() -> Result<Option<u64>> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds.map(Some).ok_or_else(|| Error::Usage("SOURCE_DATE_EPOCH is no number of seconds since 1970".into()))
}

/// The latest time that files of a layer may have which is made here: theirs, unless a reproducible build is asked for.
///
/// # Errors
/// As [`source_date_epoch`].
pub(crate) fn latest_mtime() -> Result<Option<Time>> {
    let seconds = source_date_epoch()?;
    Ok(seconds.map(|seconds| Time { sec: i64::try_from(seconds).unwrap_or(i64::MAX), nsec: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_offset_are_read() {
        for (text, wanted) in [
            ("2001-09-09T01:46:40Z", Some(1_000_000_000)),
            ("2001-09-09T01:46:40.123456789Z", Some(1_000_000_000)),
            ("2001-09-09T03:46:40+02:00", Some(1_000_000_000)),
            ("2001-09-08T20:16:40.5-05:30", Some(1_000_000_000)),
            ("0001-01-01T00:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("yesterday", None),
            ("", None),
            ("Z", None),
            ("äöü+aa:bb", None),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }
}
