//! `--filter KEY=VALUE`: what is listed. Of one key, any of its values is enough; of several keys, all must fit.

use clap::Args;
use glob::{MatchOptions, Pattern};

use crate::error::{Error, Result};
use crate::id::ImageName;
use crate::store::LEFT_OUT;

/// The option itself.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only those that fit; may be given several times
    #[arg(long, short, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl Filter {
    /// Reads what was given, and refuses a key that is not one of `known`.
    pub(super) fn parse(&self, known: &[&str]) -> Result<Filters> {
        let one = |text: &String| {
            let (key, value) =
                text.split_once('=').ok_or_else(|| Error::Usage(format!("--filter: {text:?} is not KEY=VALUE")))?;
            if !known.contains(&key) {
                let known = known.join(", ");
                return Err(Error::Usage(format!("--filter: there is no key {key:?}; there are {known}")));
            }
            Ok((key.to_owned(), value.to_owned()))
        };
        self.filter.iter().map(one).collect::<Result<_>>().map(Filters)
    }
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Filters(Vec<(String, String)>);

impl Filters {
    /// The values of a key.
    pub(super) fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Whether any value of a key fits, or none is given.
    pub(super) fn any(&self, key: &str, fits: impl FnMut(&str) -> bool) -> bool {
        self.of(key).next().is_none() || self.of(key).any(fits)
    }

    /// A key that is true or false.
    pub(super) fn truth(&self, key: &str) -> Result<Option<bool>> {
        self.of(key).last().map(|value| truth(key, value)).transpose()
    }

    /// A key whose values are these words.
    pub(super) fn check_words(&self, key: &str, words: &[&str]) -> Result<()> {
        match self.of(key).find(|value| !words.contains(value)) {
            Some(value) => {
                let words = words.join(", ");
                Err(Error::Usage(format!("--filter: {key} is one of {words}, and not {value:?}")))
            }
            None => Ok(()),
        }
    }
}

fn truth(key: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(Error::Usage(format!("--filter: {key} is true or false, and not {value:?}"))),
    }
}

/// A pattern for names of images, as Docker's `reference` has it: of the name with its tag, or without. `*` does not go
/// over a `/`.
#[derive(Debug)]
pub(super) struct Reference(Pattern);

impl Reference {
    pub(super) fn parse(text: &str) -> Result<Self> {
        Pattern::new(text)
            .map(Self)
            .map_err(|error| Error::Usage(format!("--filter: {text:?} is no pattern: {}", error.msg)))
    }

    pub(super) fn fits(&self, name: &ImageName) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
        let full = name.to_string();
        let short = LEFT_OUT.iter().find_map(|host| full.strip_prefix(host));
        let short = short.unwrap_or(&full);
        let without_tag = |name: &str| name.rsplit_once(':').map_or_else(String::new, |(name, _)| name.to_owned());
        [full.clone(), short.to_owned(), without_tag(&full), without_tag(short)]
            .iter()
            .any(|name| self.0.matches_with(name, options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_patterns_as_dockers() {
        for (pattern, name, fits) in [
            ("debian", "debian:12", true),
            ("debian:12", "debian:12", true),
            ("deb*", "debian:12", true),
            ("debian:1?", "debian:12", true),
            ("*:12", "debian:12", true),
            ("debian:13", "debian:12", false),
            ("*", "a/b:1", false),
            ("*/*", "a/b:1", true),
            ("**/b", "x/a/b:1", true),
            ("b", "localhost/b:1", true),
            ("b", "docker.io/library/b:1", true),
            ("a/b:1", "docker.io/a/b:1", true),
            ("[a-c]x", "bx:1", true),
        ] {
            let name = name.parse().expect("a name");
            assert_eq!(Reference::parse(pattern).expect("a pattern").fits(&name), fits, "{pattern} {name}");
        }
        assert!(Reference::parse("[").is_err());
    }
}
