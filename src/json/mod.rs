//! JSON as Go reads it, which wrote most of what comes here (Go's `encoding/json`).
//!
//! Names of fields match in any case, keys of maps only as they are. A field that comes twice is decoded into the same
//! value: objects and maps are merged, a later list or scalar takes the place of the one before. `null` empties lists,
//! maps and pointers (an `Option` of a structure) and leaves scalars and structures as they are. Broken UTF-8 and
//! surrogates without their other half are U+FFFD.
//!
//! A document is no tree in memory: a value is the pieces of the text that say it ([`pieces`]), and each is read when
//! a field of a struct asks for it ([`decode`]). [`canonical()`] writes each field once, in Go's spelling.

mod canonical;
mod decode;
mod pieces;
mod text;

use serde::de::DeserializeOwned;

pub use canonical::{Shape, canonical};

/// What is wrong with a document, as a clause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// Says in which field it is.
    fn within(self, field: &str) -> Self {
        Self(format!("{field}: {}", self.0))
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl serde::de::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Reads a document.
///
/// # Errors
/// When it is no JSON, or something else than a `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let text = text::checked(bytes)?;
    T::deserialize(decode::Value::of(text.trim_matches(pieces::is_space)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        env: Option<Vec<String>>,
        user: Option<String>,
        labels: BTreeMap<String, String>,
        size: u64,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Outer {
        config: Option<Inner>,
        plain: Inner,
        list: Vec<Inner>,
        skip: bool,
    }

    fn read(text: &str) -> Outer {
        from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn fields_match_in_any_case_and_keys_of_maps_do_not() {
        let outer = read(r#"{"CONFIG":{"eNv":["a"],"u\u0073er":"u","labels":{"A":"1","a":"2"}}, "ſ\u212aip":true}"#);
        let inner = outer.config.unwrap();
        assert_eq!((inner.env, inner.user.as_deref()), (words(&["a"]), Some("u")));
        assert_eq!(
            inner.labels.into_iter().collect::<Vec<_>>(),
            [("A", "1"), ("a", "2")].map(|(k, v)| (k.into(), v.into()))
        );
        assert!(outer.skip);
    }

    #[test]
    fn what_comes_twice_is_decoded_into_the_same_value() {
        let outer = read(
            r#"{"config":{"Env":["a","b"],"User":"one","Labels":{"x":"1","y":"1"}},
                "Config":{"env":["c"],"Labels":{"y":"2"},"Size":7}}"#,
        );
        let inner = outer.config.unwrap();
        assert_eq!((inner.env, inner.user.as_deref(), inner.size), (words(&["c"]), Some("one"), 7));
        assert_eq!(inner.labels.into_iter().map(|(k, v)| k + &v).collect::<String>(), "x1y2");
    }

    #[test]
    fn null_empties_lists_maps_and_pointers_and_leaves_the_rest() {
        let outer = read(
            r#"{"config":{"User":"gone"},"config":null,"config":{"Size":1},
                "plain":{"User":"u","User":null,"Size":3,"Size":null,"Env":["a"],"Env":null,"Labels":{"a":"b"},"Labels":null},
                "plain":null, "list":[null,{"Size":2}]}"#,
        );
        assert_eq!(outer.config, Some(Inner { size: 1, ..Inner::default() }));
        let plain = Inner { user: Some("u".into()), size: 3, env: Some(Vec::new()), ..Inner::default() };
        assert_eq!(outer.plain, plain);
        assert_eq!(outer.list, [Inner::default(), Inner { size: 2, ..Inner::default() }]);
        assert_eq!(read(r#"{"config":null,"list":null,"skip":null}"#), Outer::default());
        assert_eq!(read("null"), Outer::default());
    }

    #[test]
    fn broken_text_is_replaced() {
        let mut bytes = br#"{"plain":{"User":"a"#.to_vec();
        bytes.extend_from_slice(b"\xff\xc3");
        bytes.extend_from_slice(br#"b\ud800c\ud83d\ude00\\ud800\udc00\ud800\ud800"}}"#);
        let outer: Outer = from_slice(&bytes).unwrap();
        let text = "a\u{fffd}\u{fffd}b\u{fffd}c\u{1f600}\\ud800\u{fffd}\u{fffd}\u{fffd}";
        assert_eq!(outer.plain.user.as_deref(), Some(text));
        assert!(from_slice::<Outer>(b"{\"plain\":\xff}").is_err());
    }

    #[test]
    fn what_is_something_else_is_refused() {
        for (text, word) in [
            (r#"{"config":[]}"#, "config: "),
            (r#"{"plain":{"Env":{}}}"#, "plain: Env: "),
            (r#"{"plain":{"User":5,"User":"x"}}"#, "User: "),
            (r#"{"plain":{"Size":-1}}"#, "Size: "),
            (r#"{"plain":{"Size":1.5}}"#, "Size: "),
            (r#"{"plain":{"Labels":{"a":1}}}"#, "Labels: "),
            ("[]", "list"),
            ("{} x", "trailing"),
            ("{\"a\":}", "expected value"),
            ("", "EOF"),
        ] {
            let error = from_slice::<Outer>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(from_slice::<Outer>(deep.as_bytes()).is_err());
        // A value that no field asks for may be as deep as it likes.
        assert_eq!(read(&format!(r#"{{"unknown":{deep}}}"#)), Outer::default());
    }
}
