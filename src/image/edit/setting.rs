//! What a user sets in a config: `KEY=VALUE`.

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::image::edit::value::{self, usage};

/// One thing that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// A field of the image; null takes it away.
    Image(&'static str, Value),
    /// A field of its `config`; null takes it away.
    Config(&'static str, Value),
    /// One variable of `Env`.
    Env {
        /// Its name.
        name: String,
        /// What it is.
        value: String,
    },
    /// One member of an object in its `config`: a label, a port, a volume.
    Member {
        /// Which object.
        field: &'static str,
        /// The member.
        key: String,
        /// What it is.
        value: Value,
    },
    /// An instruction of a Dockerfile with variables in it, which are those of the image that it is for.
    Instruction {
        /// Which instruction, in upper case.
        name: String,
        /// What is after that.
        rest: String,
    },
    /// One more of a list in its `config`.
    Item(&'static str, String),
    /// Where a command starts; one that is not absolute counts from where it was.
    WorkingDir(String),
    /// When the image was made, in RFC 3339.
    Created(String),
    /// What the history says of the image.
    Comment(String),
}

/// The keys, for messages and for `--help`.
pub(super) const KEYS: &str = "Cmd, Entrypoint, Env, User, WorkingDir, Labels, ExposedPorts, Volumes, StopSignal, author, comment, created, \
     architecture, os and variant";

impl Setting {
    /// Reads `KEY=VALUE`. Upper and lower case of the key are the same, and so are the words of buildah, umoci and
    /// Dockerfiles for it.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for an unknown key and for a value that it cannot have.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(usage(format!("--config {text:?} is no KEY=VALUE")));
        };
        let about = |why: String| usage(format!("--config {key}: {why}"));
        let word = key.to_ascii_lowercase().replace(['-', '_'], "");
        let is_json = value.starts_with(['[', '{']);
        let one = |setting| Ok(vec![setting]);
        match word.as_str() {
            "cmd" => one(Self::Config("Cmd", value::command(value).map_err(about)?)),
            "entrypoint" => one(Self::Config("Entrypoint", value::command(value).map_err(about)?)),
            "env" if is_json || value.is_empty() => {
                let words = value::words_or_none(value).map_err(about)?;
                for word in words.iter().flatten() {
                    value::pair(word, "NAME=VALUE").map_err(about)?;
                }
                one(Self::Config("Env", words.into()))
            }
            "env" => {
                let (name, value) = value::pair(value, "NAME=VALUE").map_err(about)?;
                one(Self::Env { name, value })
            }
            "user" => one(Self::Config("User", value::text_or_null(value))),
            "workingdir" | "workdir" => one(Self::WorkingDir(value.to_owned())),
            "labels" | "label" if is_json || value.is_empty() => {
                one(Self::Config("Labels", value::labels(value).map_err(about)?))
            }
            "labels" | "label" => {
                let (key, value) = value::pair(value, "KEY=VALUE").map_err(about)?;
                one(Self::Member { field: "Labels", key, value: value.into() })
            }
            "exposedports" | "exposedport" | "expose" | "ports" | "port" => {
                Self::set("ExposedPorts", value, is_json, value::ports).map_err(about)
            }
            "volumes" | "volume" => Self::set("Volumes", value, is_json, value::volume).map_err(about),
            "stopsignal" => one(Self::Config("StopSignal", value::signal(value).map_err(about)?)),
            "author" => one(Self::Image("author", value::text_or_null(value))),
            "comment" => one(Self::Comment(value.to_owned())),
            "created" => one(Self::Created(value::time(value).map_err(about)?)),
            "architecture" | "arch" => one(Self::Image("architecture", value::word(value).map_err(about)?)),
            "os" => one(Self::Image("os", value::word(value).map_err(about)?)),
            "variant" if value.is_empty() => one(Self::Image("variant", Value::Null)),
            "variant" => one(Self::Image("variant", value::word(value).map_err(about)?)),
            _ => Err(usage(format!("--config {key:?} is not known: there are {KEYS}"))),
        }
    }

    /// An object whose members are keys without values. JSON sets all of it, anything else adds to it.
    fn set(
        field: &'static str,
        text: &str,
        is_json: bool,
        keys: fn(&str) -> Result<Vec<String>, String>,
    ) -> Result<Vec<Self>, String> {
        if !is_json && !text.is_empty() {
            return Ok(keys(text)?.into_iter().map(|key| Self::member(field, key)).collect());
        }
        let mut members = Map::new();
        for word in value::keys_or_none(text)? {
            members.extend(keys(&word)?.into_iter().map(|key| (key, json!({}))));
        }
        members.sort_keys();
        Ok(vec![Self::Config(field, if members.is_empty() { Value::Null } else { members.into() })])
    }

    pub(super) fn member(field: &'static str, key: String) -> Self {
        Self::Member { field, key, value: json!({}) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Setting {
        Setting::parse(text).unwrap().remove(0)
    }

    #[test]
    fn keys_are_known_by_the_words_of_other_tools() {
        for text in ["ExposedPorts=80", "exposed-ports=80/tcp", "port=80", "EXPOSE=80"] {
            assert_eq!(one(text), Setting::member("ExposedPorts", "80/tcp".into()), "{text}");
        }
        assert_eq!(one("stop-signal=SIGINT"), Setting::Config("StopSignal", "SIGINT".into()));
        assert_eq!(one("arch=arm64"), Setting::Image("architecture", "arm64".into()));
    }

    #[test]
    fn json_sets_the_whole_and_nothing_takes_it_away() {
        assert_eq!(one(r#"Env=["A=1"]"#), Setting::Config("Env", json!(["A=1"])));
        assert_eq!(one("Env="), Setting::Config("Env", Value::Null));
        assert_eq!(one(r#"Volumes={"/a":{}}"#), Setting::Config("Volumes", json!({"/a": {}})));
        assert_eq!(one(r#"Volumes=["/b","/a"]"#), Setting::Config("Volumes", json!({"/a": {}, "/b": {}})));
        assert_eq!(one(r#"Labels={"a":"b"}"#), Setting::Config("Labels", json!({"a": "b"})));
        assert_eq!(one("Labels="), Setting::Config("Labels", Value::Null));
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_the_key_in_the_sentence() {
        for (text, words) in [
            ("Cmd", "no KEY=VALUE"),
            ("Colour=red", "is not known"),
            ("Cmd=[\"a\"", "Cmd: \"[\\\"a\\\"\" is no JSON array of strings"),
            ("Cmd=[1]", "no JSON array of strings"),
            ("Env=PATH", "Env: \"PATH\" is no NAME=VALUE"),
            ("Env==x", "no NAME=VALUE"),
            ("Env=[\"PATH\"]", "no NAME=VALUE"),
            ("Labels=x", "no KEY=VALUE"),
            ("Labels={\"a\":1}", "no JSON object of strings"),
            ("ExposedPorts=http", "no port"),
            ("ExposedPorts=0", "no port"),
            ("ExposedPorts=90-80", "no port"),
            ("StopSignal=SIGNOTHING", "no signal"),
            ("created=yesterday", "no time"),
            ("os=", "no word"),
        ] {
            let error = Setting::parse(text).unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
