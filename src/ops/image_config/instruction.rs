//! Settings in the spelling of a Dockerfile: what `docker commit --change` and `podman import --change` take.

use serde_json::Value;

use super::setting::Setting;
use super::value::{self, usage};
use crate::error::Result;

/// The instructions, for messages.
const INSTRUCTIONS: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, MAINTAINER, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR";

/// Reads one instruction: `CMD ["make"]`, `ENV A=1 B=2`; also with `=` after its name, as podman takes it.
///
/// # Errors
/// [`Error::Usage`](crate::Error::Usage) for another instruction, and for what it cannot be.
pub fn instruction(text: &str) -> Result<Vec<Setting>> {
    let text = text.trim();
    let (name, rest) = text.split_once(|c: char| c.is_whitespace() || c == '=').unwrap_or((text, ""));
    let name = name.to_ascii_uppercase();
    settings(&name, rest.trim()).map_err(|why| usage(format!("--change {name}: {why}")))
}

fn settings(name: &str, rest: &str) -> Result<Vec<Setting>, String> {
    let word = || words(rest).map(|words| words.join(" "));
    let one = |setting| Ok(vec![setting]);
    match name {
        "CMD" => one(Setting::Config("Cmd", value::command(rest)?)),
        "ENTRYPOINT" => one(Setting::Config("Entrypoint", value::command(rest)?)),
        _ if rest.is_empty() => Err("says nothing".into()),
        "ENV" => Ok(pairs(rest)?.into_iter().map(|(name, value)| Setting::Env { name, value }).collect()),
        "LABEL" => {
            let label = |(key, value): (String, String)| Setting::Member { field: "Labels", key, value: value.into() };
            Ok(pairs(rest)?.into_iter().map(label).collect())
        }
        "EXPOSE" => {
            let ports = words(rest)?.iter().map(|word| value::ports(word)).collect::<Result<Vec<_>, _>>()?;
            Ok(ports.into_iter().flatten().map(|key| Setting::member("ExposedPorts", key)).collect())
        }
        "VOLUME" => {
            let words = if rest.starts_with('[') { value::keys_or_none(rest)? } else { words(rest)? };
            let volumes = words.iter().map(|word| value::volume(word)).collect::<Result<Vec<_>, _>>()?;
            Ok(volumes.into_iter().flatten().map(|key| Setting::member("Volumes", key)).collect())
        }
        "USER" => one(Setting::Config("User", word()?.into())),
        "WORKDIR" => one(Setting::WorkingDir(word()?)),
        "STOPSIGNAL" => one(Setting::Config("StopSignal", value::signal(&word()?)?)),
        "MAINTAINER" => one(Setting::Image("author", Value::from(rest))),
        "ONBUILD" => one(Setting::Item("OnBuild", rest.to_owned())),
        _ => Err(format!("is not known: there are {INSTRUCTIONS}")),
    }
}

/// `A=1 B="2 3"`, or `A 1` as of old.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let all = words(text)?;
    if all.first().is_some_and(|first| !first.contains('=')) {
        let (key, value) = text.split_once(char::is_whitespace).ok_or_else(|| format!("{text:?} is no KEY=VALUE"))?;
        return Ok(vec![(key.to_owned(), words(value)?.join(" "))]);
    }
    all.iter().map(|word| value::pair(word, "KEY=VALUE")).collect()
}

/// Splits at blanks and takes quotes and backslashes away, as a Dockerfile does.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            (_, None) if c.is_whitespace() => words.extend(word.take()),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, Some(end)) if c == end => quote = None,
            ('\\', None) => word.get_or_insert_default().extend(rest.next()),
            ('\\', Some('"')) if matches!(rest.peek(), Some('"' | '\\' | '$')) => {
                word.get_or_insert_default().extend(rest.next());
            }
            // Taken as it is, it would be a PATH without the old one.
            ('$', None | Some('"')) if rest.peek().is_some_and(|c| c.is_alphabetic() || matches!(c, '_' | '{')) => {
                return Err(format!("{text:?} has a variable: none is known here, and a plain $ is written \\$"));
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_some() { Err(format!("{text:?} has a quote that does not end")) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn env(name: &str, value: &str) -> Setting {
        Setting::Env { name: name.into(), value: value.into() }
    }

    #[test]
    fn instructions_are_read_as_in_a_dockerfile() {
        let command = |words: Value| vec![Setting::Config("Cmd", words)];
        assert_eq!(instruction(r#"CMD ["a", "b c"]"#).unwrap(), command(json!(["a", "b c"])));
        assert_eq!(instruction("cmd echo $HOME").unwrap(), command(json!(["/bin/sh", "-c", "echo $HOME"])));
        assert_eq!(instruction("CMD=/bin/bash").unwrap(), command(json!(["/bin/sh", "-c", "/bin/bash"])));
        assert_eq!(instruction(r#"ENV A=1 B="2 3" C=\$x"#).unwrap(), [env("A", "1"), env("B", "2 3"), env("C", "$x")]);
        assert_eq!(instruction("ENV A one two").unwrap(), [env("A", "one two")]);
        assert_eq!(instruction("ENV=A=1").unwrap(), [env("A", "1")]);
        let ports = ["80/tcp", "53/udp"].map(|port| Setting::member("ExposedPorts", port.into()));
        assert_eq!(instruction("EXPOSE 80 53/udp").unwrap(), ports);
        assert_eq!(instruction(r#"VOLUME ["/a b"]"#).unwrap(), [Setting::member("Volumes", "/a b".into())]);
        assert_eq!(instruction("WORKDIR sub").unwrap(), [Setting::WorkingDir("sub".into())]);
        assert_eq!(instruction("ONBUILD RUN x").unwrap(), [Setting::Item("OnBuild", "RUN x".into())]);
    }

    #[test]
    fn what_is_no_instruction_is_refused() {
        for (text, why) in [
            ("RUN make", "RUN: is not known"),
            ("", ": says nothing"),
            ("USER", "says nothing"),
            ("ENV PATH=$PATH:/opt", "has a variable"),
            ("LABEL a='b", "does not end"),
            ("ENV A", "no KEY=VALUE"),
            ("ENV A=1 B", "no KEY=VALUE"),
            ("EXPOSE x", "no port"),
            ("CMD [\"a\"", "no JSON array"),
        ] {
            let error = instruction(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
