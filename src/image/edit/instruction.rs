//! Settings in the spelling of a Dockerfile: what `docker commit --change` and `podman import --change` take.

use serde_json::Value;

use crate::error::Result;
use crate::image::edit::healthcheck::healthcheck;
use crate::image::edit::setting::Setting;
use crate::image::edit::value::{self, usage};
use crate::image::edit::words::{Variables, words};

/// The instructions, for messages.
const INSTRUCTIONS: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, MAINTAINER, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR";

/// Those in which Docker puts the variables of the image's Env.
const EXPANDED: [&str; 7] = ["ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"];

/// Reads one instruction: `CMD ["make"]`, `ENV A=1 B=2`; also with `=` after its name, as podman takes it.
///
/// # Errors
/// [`Error::Usage`](crate::Error::Usage) for another instruction, and for what it cannot be.
pub fn instruction(text: &str) -> Result<Vec<Setting>> {
    let text = text.trim();
    let (name, rest) = text.split_once(|c: char| c.is_whitespace() || c == '=').unwrap_or((text, ""));
    let (name, rest) = (name.to_ascii_uppercase(), rest.trim());
    if EXPANDED.contains(&name.as_str()) && rest.contains('$') {
        // What the variables are is known when the image below is.
        let unset = |_: &str| Some("1".to_owned());
        words(rest, &unset).map_err(|why| usage(format!("--change {name}: {why}")))?;
        return Ok(vec![Setting::Instruction { name, rest: rest.to_owned() }]);
    }
    expanded(&name, rest, &|_| None)
}

/// What an instruction sets, with the variables of the image that it is for.
///
/// # Errors
/// As [`instruction`].
pub(super) fn expanded(name: &str, rest: &str, variables: &Variables<'_>) -> Result<Vec<Setting>> {
    settings(name, rest, variables).map_err(|why| usage(format!("--change {name}: {why}")))
}

/// A command as it is run, or for the shell.
fn command(rest: &str) -> Result<Value, String> {
    Ok(match value::exec_form(rest)? {
        Some(words) if words.is_empty() => Value::Null,
        Some(words) => words.into(),
        None if rest.is_empty() => Value::Null,
        None => vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.to_owned()].into(),
    })
}

fn settings(name: &str, rest: &str, variables: &Variables<'_>) -> Result<Vec<Setting>, String> {
    let words = |text: &str| words(text, variables);
    let word = || words(rest).map(|words| words.join(" "));
    let one = |setting| Ok(vec![setting]);
    match name {
        "CMD" => one(Setting::Config("Cmd", command(rest)?)),
        "ENTRYPOINT" => one(Setting::Config("Entrypoint", command(rest)?)),
        _ if rest.is_empty() => Err("says nothing".into()),
        "HEALTHCHECK" => one(Setting::Config("Healthcheck", healthcheck(rest)?)),
        "ENV" => Ok(pairs(rest, variables)?.into_iter().map(|(name, value)| Setting::Env { name, value }).collect()),
        "LABEL" => {
            let label = |(key, value): (String, String)| Setting::Member { field: "Labels", key, value: value.into() };
            Ok(pairs(rest, variables)?.into_iter().map(label).collect())
        }
        "EXPOSE" => {
            // Here a variable may stand for several.
            let all = words(rest)?.join(" ");
            let ports = all.split_whitespace().map(value::ports).collect::<Result<Vec<_>, _>>()?;
            Ok(ports.into_iter().flatten().map(|key| Setting::member("ExposedPorts", key)).collect())
        }
        "VOLUME" => {
            let words = match value::exec_form(rest)? {
                // In these words there are variables, and nothing else that is not as it is.
                Some(paths) => paths.iter().map(|path| words(&quoted(path)).map(|words| words.concat())).collect(),
                None => words(rest),
            }?;
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

/// Text that may only have variables in it, as one word.
fn quoted(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| Some('\\').filter(|_| matches!(c, '"' | '\\')).into_iter().chain([c]));
    ['"'].into_iter().chain(escaped).chain(['"']).collect()
}

/// `A=1 B="2 3"`, or `A 1` as of old. Whether it is the one or the other is seen before variables are put in.
fn pairs(text: &str, variables: &Variables<'_>) -> Result<Vec<(String, String)>, String> {
    let first = text.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).ok_or_else(|| format!("{text:?} is no KEY=VALUE"))?;
        let key = words(key, variables)?.concat();
        return Ok(vec![(key, words(value, variables)?.join(" "))]);
    }
    words(text, variables)?.iter().map(|word| value::pair(word, "KEY=VALUE")).collect()
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
        assert_eq!(instruction("CMD ['x']").unwrap(), command(json!(["/bin/sh", "-c", "['x']"])));
        assert_eq!(instruction("CMD [\"a\"").unwrap(), command(json!(["/bin/sh", "-c", "[\"a\""])));
        assert_eq!(instruction("CMD []").unwrap(), command(Value::Null));
        assert_eq!(instruction("CMD=/bin/bash").unwrap(), command(json!(["/bin/sh", "-c", "/bin/bash"])));
        assert_eq!(instruction(r#"ENV A=1 B="2 3" C=\x"#).unwrap(), [env("A", "1"), env("B", "2 3"), env("C", "x")]);
        let later = Setting::Instruction { name: "ENV".into(), rest: "A='$x'".into() };
        assert_eq!(instruction("ENV A='$x'").unwrap(), [later]);
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
            ("ENV A=${B", "does not end"),
            ("ENV A=${B%x}", "not understood"),
            ("HEALTHCHECK curl", "neither NONE nor CMD"),
            ("LABEL a='b", "does not end"),
            ("ENV A", "no KEY=VALUE"),
            ("ENV A=1 B", "no KEY=VALUE"),
            ("EXPOSE x", "no port"),
            ("CMD [1]", "no JSON array"),
        ] {
            let error = instruction(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
