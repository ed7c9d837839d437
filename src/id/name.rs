//! Names of images for people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{BadId, Digest};

/// Names an image for people: `repository:tag`.
///
/// The grammar is that of Docker's references (`distribution/reference`), without a digest: an optional `host[:port]/`,
/// lower-case path components, and a tag of up to 128 characters (`latest` when none is given).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    repository: String,
    tag: String,
}

impl ImageName {
    /// The part before the tag.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// `alphanumerics`, with `.`, `_`, `__` or dashes between them.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = component.split(alphanumeric).filter(|between| !between.is_empty());
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && separators.all(|between| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-'))
}

/// What older versions of this program took for a path component.
fn was_path_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && component.chars().all(|c| alphanumeric(c) || matches!(c, '.' | '_' | '-'))
        && !component.contains("..")
        && !component.contains("___")
}

/// `name`, `name:port`, `[IPv6 address]` or `[IPv6 address]:port`.
fn is_host(host: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    if let Some((address, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let is_address = !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
        return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let is_label = |label: &str| {
        let alphanumeric = |c: char| c.is_ascii_alphanumeric();
        label.starts_with(alphanumeric)
            && label.ends_with(alphanumeric)
            && label.chars().all(|c| alphanumeric(c) || c == '-')
    };
    name.split('.').all(is_label) && is_port(port)
}

impl ImageName {
    /// Parses a name that may be in a store: older versions of this program also took some that no registry takes.
    ///
    /// # Errors
    /// [`BadId`] for what was never one.
    pub fn of_store(text: &str) -> Result<Self, BadId> {
        Self::parse(text, was_path_component).map_err(|bad| text.parse::<Self>().err().unwrap_or(bad))
    }

    fn parse(text: &str, is_component: fn(&str) -> bool) -> Result<Self, BadId> {
        let bad = || BadId { text: text.chars().take(300).collect(), wanted: "an image name" };
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (text, "latest"),
        };
        let mut components = repository.split('/').peekable();
        let first = components.peek().copied().unwrap_or_default();
        let has_host = repository.contains('/')
            && (first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase()));
        if has_host {
            if !is_host(first) {
                return Err(bad());
            }
            components.next();
        }
        if repository.len() > 255 || !is_tag(tag) || !components.all(is_component) {
            return Err(bad());
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
    }
}

impl FromStr for ImageName {
    type Err = BadId;

    /// Parses as `distribution/reference` does; a repository of 64 hexadecimal digits would be an id.
    fn from_str(text: &str) -> Result<Self, BadId> {
        let name = Self::parse(text, is_path_component)?;
        if Digest::from_hex(&name.repository).is_ok() {
            return Err(BadId { text: text.to_owned(), wanted: "an image name: it has the form of an id" });
        }
        Ok(name)
    }
}

impl TryFrom<String> for ImageName {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        Self::of_store(&text)
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl fmt::Debug for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_follow_dockers_grammar() {
        for (text, full) in [
            ("debian", "debian:latest"),
            ("lc:slim", "lc:slim"),
            ("localhost/lc:slim", "localhost/lc:slim"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("a_b/c-d.e:V1.0", "a_b/c-d.e:V1.0"),
            ("a__b/c---d", "a__b/c---d:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("[2001:db8::1]/x/y:1", "[2001:db8::1]/x/y:1"),
        ] {
            assert_eq!(text.parse::<ImageName>().map(|name| name.to_string()), Ok(full.to_owned()));
        }
        for bad in ["", ":", "A", "a:", "a//b", "/a", "a/", "../x", "a:b c", "<none>:<none>", "a:b/../c", "-a"] {
            assert!(bad.parse::<ImageName>().is_err() && ImageName::of_store(bad).is_err(), "{bad}");
        }
        for bad in ["[::1]", "[]/x", "[::1/x", "[::g]/x", "[::1]5000/x", "[::1]:/x", "x/[::1]", "a___b"] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
        // No registry takes them, but a store may have them.
        for was in ["a._b", "a.-b", "a-_b:1", &"ab".repeat(32), &format!("{}:1", "0".repeat(64))] {
            assert!(was.parse::<ImageName>().is_err() && ImageName::of_store(was).is_ok(), "{was}");
        }
    }
}
