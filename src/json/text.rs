//! The text of a document.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::Error;

/// Bytes of an escape of four digits: `\ud83d`.
const ESCAPE: usize = 6;

/// The text, which is JSON and has no broken characters.
pub(super) fn checked(bytes: &[u8]) -> Result<Cow<'_, str>, Error> {
    let text = match utf8(bytes) {
        Cow::Borrowed(text) => match lone_surrogates(text) {
            lone if lone.is_empty() => Cow::Borrowed(text),
            lone => Cow::Owned(replaced(text.to_owned(), &lone)),
        },
        Cow::Owned(text) => {
            let lone = lone_surrogates(&text);
            Cow::Owned(replaced(text, &lone))
        }
    };
    serde_json::from_str::<IgnoredAny>(&text)?;
    Ok(text)
}

/// As Go does it, each byte that is no part of a character becomes a character of its own.
fn utf8(mut bytes: &[u8]) -> Cow<'_, str> {
    let mut text = String::new();
    loop {
        let error = match std::str::from_utf8(bytes) {
            Ok(rest) if text.is_empty() => return Cow::Borrowed(rest),
            Ok(rest) => {
                text.push_str(rest);
                return Cow::Owned(text);
            }
            Err(error) => error,
        };
        let (good, rest) = bytes.split_at_checked(error.valid_up_to()).unwrap_or((bytes, &[]));
        text.push_str(&String::from_utf8_lossy(good));
        text.push(char::REPLACEMENT_CHARACTER);
        bytes = rest.get(1..).unwrap_or_default();
    }
}

/// Where surrogates are escaped that have no other half.
fn lone_surrogates(text: &str) -> Vec<usize> {
    let mut lone = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0usize;
    let unit = |at: usize| -> Option<u32> {
        let digits = bytes.get(at..at.checked_add(ESCAPE)?)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        at = at.saturating_add(found);
        let next = at.saturating_add(ESCAPE);
        at = match unit(at) {
            Some(0xd800..=0xdbff) if unit(next).is_some_and(|low| (0xdc00..=0xdfff).contains(&low)) => {
                next.saturating_add(ESCAPE)
            }
            Some(0xd800..=0xdfff) => {
                lone.push(at);
                next
            }
            Some(_) => next,
            None => at.saturating_add(2),
        };
    }
    lone
}

fn replaced(text: String, lone: &[usize]) -> String {
    let mut bytes = text.into_bytes();
    for at in lone {
        if let Some(escape) = at.checked_add(ESCAPE).and_then(|end| bytes.get_mut(*at..end)) {
            escape.copy_from_slice(b"\\ufffd");
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
