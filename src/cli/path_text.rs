//! Paths of layers, which may hold any byte, as text.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A path as a line shows it: one with control characters, quotes, backslashes, or bytes that are no UTF-8 is in quotes with
/// the escapes of C, as git writes it. No other begins with a quote, as all begin with `/`.
pub(super) fn line(path: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) => text.into(),
        _ => quoted(path).into(),
    }
}

/// A path or a link's target as JSON has it: as it is, or, where it is no UTF-8 or begins with a quote, in quotes as
/// [`line()`] has it.
pub(super) fn json(path: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.starts_with('"') => text.into(),
        _ => quoted(path).into(),
    }
}

fn quoted(path: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                c if c.is_control() => c.to_string().bytes().for_each(|byte| octal(&mut text, byte)),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| octal(&mut text, *byte));
    }
    text.push('"');
    text
}

fn octal(text: &mut String, byte: u8) {
    #[expect(clippy::let_underscore_must_use, reason = "writing to a String cannot fail")]
    let _ = write!(text, "\\{byte:03o}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_as_git_quotes_them() {
        for (path, in_line, in_json) in [
            (&b"/a b/c"[..], "/a b/c", "/a b/c"),
            ("/ä/日".as_bytes(), "/ä/日", "/ä/日"),
            (b"/a\nb\t\"\\", r#""/a\nb\t\"\\""#, "/a\nb\t\"\\"),
            (b"\"x", r#""\"x""#, r#""\"x""#),
            (b"/\xff\x01x", r#""/\377\001x""#, r#""/\377\001x""#),
        ] {
            assert_eq!((&*line(path), &*json(path)), (in_line, in_json));
        }
    }
}
