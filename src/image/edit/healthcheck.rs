//! `HEALTHCHECK`: the command by which an engine finds out whether a container works. It is kept in the config, and run by none
//! of our commands.

use serde_json::{Map, Value, json};

use crate::image::edit::value;

/// The flags, each with the field of the config that it sets.
const DURATIONS: [(&str, &str); 4] = [
    ("--interval", "Interval"),
    ("--timeout", "Timeout"),
    ("--start-period", "StartPeriod"),
    ("--start-interval", "StartInterval"),
];
/// The shortest time that Docker takes, but for 0, which is the engine's default: a millisecond, in nanoseconds.
const SHORTEST: u128 = 1_000_000;
/// The units of Go's `time.ParseDuration`, in nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads what is after `HEALTHCHECK`: `NONE`, or flags and `CMD` with a command as `CMD` has it.
///
/// # Errors
/// What is wrong with it, as a clause.
pub(super) fn healthcheck(text: &str) -> Result<Value, String> {
    let mut fields = Map::new();
    let mut rest = text.trim();
    let mut retries = None;
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (name, value) = flag.split_once('=').ok_or_else(|| format!("{flag} needs a value, as {flag}=VALUE"))?;
        if name == "--retries" {
            let number = value.parse::<u32>().map_err(|_| format!("--retries={value} is no number"))?;
            retries = Some(number);
        } else {
            let field = DURATIONS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
            let field = field.ok_or_else(|| format!("{name} is not known"))?;
            fields.insert(field.to_owned(), duration(value).map_err(|why| format!("{name}={value} {why}"))?.into());
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.trim().is_empty() && fields.is_empty() && retries.is_none() => json!(["NONE"]),
        "NONE" => return Err("NONE stands alone".to_owned()),
        "CMD" => match value::exec_form(command)? {
            Some(words) if words.is_empty() => return Err("CMD has no command".to_owned()),
            Some(words) => [vec!["CMD".to_owned()], words].concat().into(),
            None if command.trim().is_empty() => return Err("CMD has no command".to_owned()),
            None => json!(["CMD-SHELL", command.trim()]),
        },
        _ => return Err(format!("{text:?} is neither NONE nor CMD and a command")),
    };
    let mut all = Map::new();
    all.insert("Test".to_owned(), test);
    // In the order in which Docker writes them, and only what is not the default.
    for (_, field) in DURATIONS {
        all.extend(fields.remove(field).filter(|time| *time != json!(0)).map(|time| (field.to_owned(), time)));
    }
    all.extend(retries.filter(|retries| *retries > 0).map(|retries| ("Retries".to_owned(), retries.into())));
    Ok(all.into())
}

/// A time as Go reads it, `1h2m3.5s`, in nanoseconds.
fn duration(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "is no time as 30s, 1m30s or 500ms";
    if text == "0" {
        return Ok(0);
    }
    let mut total: u128 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(WRONG);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(WRONG)?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(WRONG)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || number.len() > 20 {
            return Err(WRONG);
        }
        let digits = |digits: &str| if digits.is_empty() { Ok(0) } else { digits.parse::<u128>().map_err(|_| WRONG) };
        let scale = 10u128.checked_pow(u32::try_from(fraction.len()).map_err(|_| WRONG)?).ok_or(WRONG)?;
        let part = digits(whole)?.checked_mul(*unit).ok_or(WRONG)?;
        let part = part.checked_add(digits(fraction)?.checked_mul(*unit).ok_or(WRONG)? / scale).ok_or(WRONG)?;
        total = total.checked_add(part).ok_or(WRONG)?;
        rest = next;
    }
    if total > 0 && total < SHORTEST {
        return Err("is less than 1ms");
    }
    // Go counts with 63 bits.
    i64::try_from(total).map(i64::unsigned_abs).map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healthcheck_is_what_docker_makes_of_it() {
        for (text, wanted) in [
            ("NONE", json!({"Test": ["NONE"]})),
            ("none", json!({"Test": ["NONE"]})),
            (
                "CMD curl -f http://localhost/ || exit 1",
                json!({"Test": ["CMD-SHELL", "curl -f http://localhost/ || exit 1"]}),
            ),
            (r#"CMD ["curl", "-f"]"#, json!({"Test": ["CMD", "curl", "-f"]})),
            ("CMD ['x']", json!({"Test": ["CMD-SHELL", "['x']"]})),
            (
                "--retries=3 --interval=1m30s --timeout=0.5s --start-period=0s --start-interval=2h CMD true",
                json!({"Test": ["CMD-SHELL", "true"], "Interval": 90_000_000_000u64, "Timeout": 500_000_000,
                       "StartInterval": 7_200_000_000_000u64, "Retries": 3}),
            ),
        ] {
            assert_eq!(healthcheck(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_healthcheck_is_refused() {
        for text in [
            "",
            "CMD",
            "CMD []",
            "CMD [1]",
            "NONE x",
            "--interval=1s NONE",
            "curl",
            "--interval CMD x",
            "--interval=fast CMD x",
            "--interval=1 CMD x",
            "--interval=1us CMD x",
            "--interval=-1s CMD x",
            "--interval=99999999999h CMD x",
            "--retries=-1 CMD x",
            "--colour=red CMD x",
        ] {
            assert!(healthcheck(text).is_err(), "{text}");
        }
    }
}
