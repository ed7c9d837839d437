//! Docker's functions for templates.

use std::sync::Arc;

use super::printf::{PADDING_MAX, wrong};
use gotmpl::{TemplateError, Value as Datum};
use serde_json::Value;

pub(super) type Function = fn(&[Datum]) -> Result<Datum, TemplateError>;

/// Docker's functions beside Go's own, and those of Go's own that are not as they are there.
pub(super) const FUNCTIONS: [(&str, Function); 10] = [
    ("index", index),
    ("join", join),
    ("json", json),
    ("lower", |arguments| text(arguments, "lower", str::to_lowercase)),
    ("pad", pad),
    ("printf", super::printf::printf),
    ("split", split),
    ("title", |arguments| text(arguments, "title", title)),
    ("truncate", truncate),
    ("upper", |arguments| text(arguments, "upper", str::to_uppercase)),
];

fn string(text: impl Into<Arc<str>>) -> Datum {
    Datum::String(text.into())
}

fn text(arguments: &[Datum], name: &str, change: impl Fn(&str) -> String) -> Result<Datum, TemplateError> {
    match arguments {
        [Datum::String(text)] => Ok(string(change(text))),
        _ => Err(wrong(name, "a text")),
    }
}

fn title(text: &str) -> String {
    let mut at_start = true;
    let change = |c: char| {
        let begins = std::mem::replace(&mut at_start, !c.is_alphanumeric() && !matches!(c, '_' | '\''));
        if begins { c.to_uppercase().to_string() } else { c.to_string() }
    };
    text.chars().map(change).collect()
}

fn value(datum: &Datum) -> Value {
    match datum {
        Datum::Bool(bool) => (*bool).into(),
        Datum::Int(number) => (*number).into(),
        Datum::Uint(number) => (*number).into(),
        Datum::Float(number) => (*number).into(),
        Datum::String(text) => (**text).into(),
        Datum::List(values) => values.iter().map(value).collect(),
        Datum::Map(fields) => fields.iter().map(|(name, datum)| (name.to_string(), value(datum))).collect(),
        _ => Value::Null,
    }
}

fn json(arguments: &[Datum]) -> Result<Datum, TemplateError> {
    match arguments {
        [one] => Ok(string(value(one).to_string())),
        _ => Err(wrong("json", "one value")),
    }
}

fn index(arguments: &[Datum]) -> Result<Datum, TemplateError> {
    let (first, keys) = arguments.split_first().ok_or_else(|| wrong("index", "a value and a key"))?;
    keys.iter().try_fold(first.clone(), |at, key| {
        let is_nothing = |datum: &Datum| matches!(datum, Datum::Nil);
        if is_nothing(&at) {
            return Ok(string(""));
        }
        at.index(key).map(|found| if is_nothing(&found) { string("") } else { found })
    })
}

fn join(arguments: &[Datum]) -> Result<Datum, TemplateError> {
    match arguments {
        [Datum::List(values), Datum::String(by)] => {
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            Ok(string(texts.join(by)))
        }
        [Datum::Nil, Datum::String(_)] => Ok(string("")),
        _ => Err(wrong("join", "a list and a text")),
    }
}

fn split(arguments: &[Datum]) -> Result<Datum, TemplateError> {
    match arguments {
        // As Go has it, nothing splits into characters.
        [Datum::String(text), Datum::String(by)] if by.is_empty() => {
            Ok(Datum::List(text.chars().map(|c| string(c.to_string())).collect()))
        }
        [Datum::String(text), Datum::String(by)] => Ok(Datum::List(text.split(&**by).map(string).collect())),
        _ => Err(wrong("split", "two texts")),
    }
}

fn count(datum: &Datum) -> Option<usize> {
    match datum {
        Datum::Int(number) => usize::try_from(*number).ok(),
        Datum::Uint(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

fn pad(arguments: &[Datum]) -> Result<Datum, TemplateError> {
    let wanted = || wrong("pad", "a text and two numbers up to 1000");
    let [Datum::String(text), before, after] = arguments else { return Err(wanted()) };
    let (Some(before), Some(after)) = (count(before), count(after)) else { return Err(wanted()) };
    if before.max(after) > PADDING_MAX {
        return Err(wanted());
    }
    if text.is_empty() {
        return Ok(string(""));
    }
    Ok(string(format!("{:before$}{text}{:after$}", "", "")))
}

fn truncate(arguments: &[Datum]) -> Result<Datum, TemplateError> {
    let [Datum::String(text), length] = arguments else { return Err(wrong("truncate", "a text and a number")) };
    let length = count(length).ok_or_else(|| wrong("truncate", "a text and a number"))?;
    Ok(string(text.chars().take(length).collect::<String>()))
}
