//! The parts of a text that is JSON: the members of an object, the items of a list.

use std::borrow::Cow;

/// What a value is, by its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    String,
    List,
    Object,
}

impl Kind {
    pub(super) fn of(piece: &str) -> Self {
        match piece.as_bytes().first() {
            Some(b'n') | None => Self::Null,
            Some(b't' | b'f') => Self::Bool,
            Some(b'"') => Self::String,
            Some(b'[') => Self::List,
            Some(b'{') => Self::Object,
            Some(_) => Self::Number,
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::String => "a string",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

pub(super) const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// Takes what is before the next value away, and then the value.
#[derive(Debug, Clone)]
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// What is in the brackets of a list or object.
    fn inside(piece: &'a str) -> Self {
        Self(piece.get(1..).unwrap_or_default())
    }

    fn pass(&mut self) {
        self.0 = self.0.trim_start_matches(|c| is_space(c) || c == ',' || c == ':');
    }

    fn value(&mut self) -> Option<&'a str> {
        self.pass();
        if matches!(self.0.as_bytes().first(), None | Some(b']' | b'}')) {
            return None;
        }
        let (value, rest) = self.0.split_at_checked(length(self.0.as_bytes()))?;
        self.0 = rest;
        Some(value)
    }
}

/// The items of a list.
#[derive(Debug, Clone)]
pub(super) struct Items<'a>(Rest<'a>);

impl<'a> Items<'a> {
    pub(super) fn of(piece: &'a str) -> Self {
        Self(Rest::inside(piece))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0.value()
    }
}

/// The names, as they are written, and values of an object.
#[derive(Debug, Clone)]
pub(super) struct Members<'a>(Rest<'a>);

impl<'a> Members<'a> {
    pub(super) fn of(piece: &'a str) -> Self {
        Self(Rest::inside(piece))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        Some((self.0.value()?, self.0.value()?))
    }
}

/// Bytes of the value at the beginning.
fn length(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(b'"') => string_length(bytes),
        Some(b'[' | b'{') => {
            let (mut depth, mut at) = (0usize, 0usize);
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'"' => {
                        at = at.saturating_add(string_length(bytes.get(at..).unwrap_or_default()));
                        continue;
                    }
                    b'[' | b'{' => depth = depth.saturating_add(1),
                    b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                at = at.saturating_add(1);
                if depth == 0 {
                    break;
                }
            }
            at
        }
        _ => {
            let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
            bytes.iter().position(is_end).unwrap_or(bytes.len())
        }
    }
}

/// Bytes of a string, with its quotes.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at.saturating_add(1),
            b'\\' => at = at.saturating_add(2),
            _ => at = at.saturating_add(1),
        }
    }
    bytes.len()
}

/// What a string says.
pub(super) fn unquoted(piece: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    let plain = piece.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).filter(|text| !text.contains('\\'));
    plain.map_or_else(|| serde_json::from_str::<String>(piece).map(Cow::Owned), |text| Ok(Cow::Borrowed(text)))
}

/// Whether a field of this name is meant (Go's `foldName`).
pub(super) fn is_field(name: &str, field: &str) -> bool {
    let folded = |character| match character {
        'ſ' => 's',
        '\u{212a}' => 'k',
        character => character.to_ascii_lowercase(),
    };
    name.chars().map(folded).eq(field.chars().map(folded))
}
