//! A document with each field once, in Go's spelling.

use serde_json::{Map, Value};

use super::Error;
use super::pieces::{Items, Kind, Members, is_field, unquoted};
use super::text;

/// What a value is for Go.
#[derive(Debug)]
pub enum Shape {
    /// A number, string or truth value, or something whose parts have no names of ours.
    Scalar,
    /// A list of these.
    List(&'static Self),
    /// Keys that are data.
    Map,
    /// A structure with these fields; others are kept as they are.
    Object(&'static [(&'static str, &'static Self)]),
}

/// Reads a document in which each field stands once, in Go's spelling; fields that are not known are kept.
///
/// # Errors
/// When it is no JSON, or nested deeper than any document is.
pub fn canonical(bytes: &[u8], shape: &Shape) -> Result<Value, Error> {
    let text = text::checked(bytes)?;
    value(&[text.trim_matches(super::pieces::is_space)], shape)
}

fn value(pieces: &[&str], shape: &Shape) -> Result<Value, Error> {
    let last = pieces.last().copied().unwrap_or("null");
    let is_null = |piece: &&str| Kind::of(piece) == Kind::Null;
    // Those before `null` are emptied by it, and those before something else are replaced.
    let is_other = |piece: &&str| Kind::of(piece) != Kind::Object;
    let start = pieces.iter().rposition(is_other).map_or(0, |at| at.saturating_add(1));
    let objects = pieces.get(start..).unwrap_or_default();
    let are_objects = !objects.is_empty();
    match shape {
        Shape::Scalar => {
            let said = pieces.iter().rev().find(|piece| !is_null(piece));
            Ok(serde_json::from_str(said.copied().unwrap_or("null"))?)
        }
        Shape::List(item) if Kind::of(last) == Kind::List => {
            Items::of(last).map(|piece| value(&[piece], item)).collect()
        }
        Shape::Map if are_objects => {
            let mut map = Map::new();
            for (name, piece) in objects.iter().flat_map(|object| Members::of(object)) {
                map.insert(unquoted(name)?.into_owned(), serde_json::from_str(piece)?);
            }
            Ok(map.into())
        }
        Shape::Object(fields) if are_objects => object(objects, fields),
        Shape::List(_) | Shape::Map | Shape::Object(_) => Ok(serde_json::from_str(last)?),
    }
}

fn object(objects: &[&str], fields: &[(&'static str, &'static Shape)]) -> Result<Value, Error> {
    // In the order in which they come first.
    let mut order: Vec<(String, Option<&'static Shape>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    let mut said: Vec<Vec<&str>> = Vec::new();
    for (name, piece) in objects.iter().flat_map(|object| Members::of(object)) {
        let name = unquoted(name)?;
        let field = fields.iter().find(|(field, _)| is_field(&name, field));
        let spelled = field.map_or(&*name, |(field, _)| field);
        let place = *places.entry(spelled.to_owned()).or_insert_with(|| {
            order.push((spelled.to_owned(), field.map(|(_, shape)| *shape)));
            said.push(Vec::new());
            order.len().saturating_sub(1)
        });
        if let Some(pieces) = said.get_mut(place) {
            pieces.push(piece);
        }
    }
    let mut map = Map::new();
    for ((name, shape), pieces) in order.into_iter().zip(said) {
        let last = || Ok(serde_json::from_str(pieces.last().copied().unwrap_or("null"))?);
        let value = shape.map_or_else(last, |shape| value(&pieces, shape))?;
        map.insert(name, value);
    }
    Ok(map.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    static INNER: Shape = Shape::Object(&[("Cmd", &Shape::List(&Shape::Scalar)), ("Labels", &Shape::Map)]);
    static OUTER: Shape =
        Shape::Object(&[("config", &INNER), ("history", &Shape::List(&STEP)), ("os", &Shape::Scalar)]);
    static STEP: Shape = Shape::Object(&[("created_by", &Shape::Scalar)]);

    #[test]
    fn each_field_stands_once_in_gos_spelling() {
        for (text, wanted) in [
            (
                r#"{"CONFIG":{"cmd":["a"],"LABELS":{"x":"1"}},"Other":1,"config":{"Labels":{"X":"2"},"other":2}}"#,
                r#"{"config":{"Cmd":["a"],"Labels":{"x":"1","X":"2"},"other":2},"Other":1}"#,
            ),
            (
                r#"{"History":[{"CREATED_BY":"x"},null],"os":"a","OS":null}"#,
                r#"{"history":[{"created_by":"x"},null],"os":"a"}"#,
            ),
            (r#"{"config":{"Cmd":["a"]},"config":null}"#, r#"{"config":null}"#),
            (r#"{"config":{"Cmd":["a"],"cmd":null,"Labels":null}}"#, r#"{"config":{"Cmd":null,"Labels":null}}"#),
            (r#"{"other":{"a":1,"A":2},"other":3}"#, r#"{"other":3}"#),
            (r#"{"config":7,"history":"x"}"#, r#"{"config":7,"history":"x"}"#),
        ] {
            assert_eq!(canonical(text.as_bytes(), &OUTER).unwrap().to_string(), wanted);
        }
    }
}
