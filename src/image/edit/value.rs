//! Values of a config, from text.

use serde_json::{Map, Value, json};

use crate::error::Error;

/// The names of signal(7), without `SIG`.
const SIGNALS: [&str; 34] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
    "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
    "WINCH", "IO", "POLL", "PWR", "SYS",
];

pub(super) fn usage(why: String) -> Error {
    Error::Usage(why)
}

fn array(text: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(text).map_err(|_| format!("{text:?} is no JSON array of strings"))
}

/// `Cmd` and `Entrypoint`: a JSON array is what is run, any other text is for the shell, and no text is nothing.
pub(super) fn command(text: &str) -> Result<Value, String> {
    let text = text.trim();
    let words = match text {
        "" => Vec::new(),
        _ if text.starts_with('[') => array(text)?,
        _ => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()],
    };
    Ok(if words.is_empty() { Value::Null } else { words.into() })
}

/// The words of a JSON array, as an instruction may have them. What only begins like one is for the shell, as in a Dockerfile:
/// `None`.
///
/// # Errors
/// When it is a JSON array of other things than strings.
pub(super) fn exec_form(text: &str) -> Result<Option<Vec<String>>, String> {
    match serde_json::from_str::<Vec<Value>>(text.trim()) {
        Ok(_) => array(text.trim()).map(Some),
        Err(_) => Ok(None),
    }
}

/// A JSON array; `None` when there is nothing in it.
pub(super) fn words_or_none(text: &str) -> Result<Option<Vec<String>>, String> {
    let words = if text.is_empty() { Vec::new() } else { array(text)? };
    Ok(Some(words).filter(|words| !words.is_empty()))
}

/// The keys of a JSON object, as a config has them, or the strings of an array.
pub(super) fn keys_or_none(text: &str) -> Result<Vec<String>, String> {
    match serde_json::from_str(text) {
        _ if text.is_empty() => Ok(Vec::new()),
        Ok(Value::Object(members)) => Ok(members.into_iter().map(|(key, _)| key).collect()),
        _ => array(text).map_err(|why| format!("{why}, and no JSON object")),
    }
}

/// A JSON object of strings, sorted; null when there is nothing in it.
pub(super) fn labels(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let labels: std::collections::BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|_| format!("{text:?} is no JSON object of strings"))?;
    Ok(if labels.is_empty() { Value::Null } else { json!(labels) })
}

/// What is before and after the first `=`.
pub(super) fn pair(text: &str, form: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| format!("{text:?} is no {form}"))
}

pub(super) fn text_or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

/// A word as Go has them for architectures and systems.
pub(super) fn word(text: &str) -> Result<Value, String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.is_empty() || !text.chars().all(inner) {
        return Err(format!("{text:?} is no word of letters, digits, _ . and -"));
    }
    Ok(text.into())
}

/// `80`, `80/udp`, `8000-8010/tcp`: each port by itself, as Docker's `EXPOSE` has them.
pub(super) fn ports(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{text:?} is no port as 80, 53/udp or 8000-8010");
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

pub(super) fn volume(text: &str) -> Result<Vec<String>, String> {
    if text.starts_with('/') { Ok(vec![text.to_owned()]) } else { Err(format!("{text:?} is no absolute path")) }
}

/// A signal's name or number; no text is none.
pub(super) fn signal(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let real_time = |rest: &str| rest.is_empty() || rest.get(1..).is_some_and(|number| number.parse::<u8>().is_ok());
    let is_known = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
        || SIGNALS.contains(&name)
        || name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX")).is_some_and(real_time);
    if is_known { Ok(text.into()) } else { Err(format!("{text:?} is no signal")) }
}

/// RFC 3339 in UTC, or seconds since 1970.
pub(super) fn time(text: &str) -> Result<String, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(crate::timestamp::rfc3339(seconds));
    }
    match humantime::parse_rfc3339(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is no time as 2001-09-09T01:46:40Z, and no number of seconds since 1970")),
    }
}

/// A path below `base`, or an absolute one, without `.` and `..`.
pub(super) fn directory(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The object at `key`, which becomes one if it is none.
pub(super) fn object<'a>(fields: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let slot = fields.entry(key).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut()
}

/// The array at `key`, which becomes one if it is none.
pub(super) fn list<'a>(fields: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Vec<Value>> {
    let slot = fields.entry(key).or_insert(Value::Null);
    if !slot.is_array() {
        *slot = json!([]);
    }
    slot.as_array_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_for_the_shell_or_for_exec() {
        assert_eq!(command("make -C /src").unwrap(), json!(["/bin/sh", "-c", "make -C /src"]));
        assert_eq!(command(r#" ["make", "-C", "/src"]"#).unwrap(), json!(["make", "-C", "/src"]));
        assert_eq!((command("").unwrap(), command("[]").unwrap()), (Value::Null, Value::Null));
    }

    #[test]
    fn ports_come_one_by_one() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(ports("8000-8002").unwrap(), ["8000/tcp", "8001/tcp", "8002/tcp"]);
        for bad in ["", "80/", "80/x", "70000", "-", "1-", "2-1"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for good in ["SIGTERM", "TERM", "9", "64", "SIGRTMIN+3", "RTMAX-1", "SIGRTMIN"] {
            assert!(signal(good).is_ok(), "{good}");
        }
        for bad in ["0", "65", "SIG", "term", "SIGRTMIN+x", "RTMINé"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn directories_are_absolute() {
        for (base, path, whole) in [
            ("", "/a/b/", "/a/b"),
            ("/a", "b", "/a/b"),
            ("/a", "../../c", "/c"),
            ("", "x/./y", "/x/y"),
            ("/a", "/", "/"),
        ] {
            assert_eq!(directory(base, path), whole);
        }
    }
}
