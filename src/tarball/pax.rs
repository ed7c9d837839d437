//! Extended headers (POSIX pax, "pax Extended Header").

use crate::index::Time;

/// A keyword and its value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// Splits an extended header into its records, `LENGTH KEYWORD=VALUE\n` each; `None` when it is malformed.
pub(super) fn records(mut body: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body.iter().take(20).position(|byte| *byte == b' ')?;
        let length = usize::try_from(number(body.get(..space)?)?).ok()?;
        let (record, rest) = body.split_at_checked(length)?;
        let record = record.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (keyword, value) = (record.get(..equals)?, record.get(equals.checked_add(1)?..)?);
        if keyword.is_empty() || keyword.contains(&0) {
            return None;
        }
        records.push((keyword.to_vec(), value.to_vec()));
        body = rest;
    }
    Some(records)
}

/// A decimal number of nothing but digits, at most `i64::MAX`.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number| i64::try_from(*number).is_ok())
}

/// Seconds since 1970, with a sign and a fraction, of which nanoseconds are kept.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let sec = i64::try_from(number(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nsec = digits.fold(0u32, |nsec, digit| nsec * 10 + u32::from(*digit - b'0'));
    Some(match (negative, nsec) {
        (false, nsec) => Time { sec, nsec },
        (true, 0) => Time { sec: sec.checked_neg()?, nsec: 0 },
        (true, nsec) => Time { sec: sec.checked_neg()?.checked_sub(1)?, nsec: 1_000_000_000 - nsec },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_long_as_they_say() {
        let record = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(records(b"9 a=b\n=\n\n11 path=x/y\n"), None, "a length must end at a newline");
        assert_eq!(records(b"9 a=b\n=c\n12 path=x/y\n"), Some(vec![record("a", "b\n=c"), record("path", "x/y")]));
        for bad in [&b"6 a=b"[..], b"7 a=b\n", b"x", b"0 a=b\n", b"5 =b\n", b"99999999999999999999 a=b\n", b"+6 a=b\n"]
        {
            assert_eq!(records(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn times_before_1970_count_forward() {
        for (text, sec, nsec) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.", 1, 0),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.000000001", -1, 999_999_999),
            ("12.1234567899", 12, 123_456_789),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Time { sec, nsec }), "{text}");
        }
        for bad in ["", "-", ".5", "1.x", "--1", "1e9", "nan", "9223372036854775808"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }
}
