//! Go's `printf`, with the same limit as `pad`: a width or precision needs as much memory as it says.

use std::iter::Peekable;
use std::str::Chars;

use gotmpl::{TemplateError, Value as Datum};

/// The most spaces that a field is padded with.
pub(super) const PADDING_MAX: usize = 1000;

pub(super) fn wrong(name: &str, wanted: &str) -> TemplateError {
    TemplateError::Exec(format!("{name} wants {wanted}"))
}

/// `printf`.
pub(super) fn printf(arguments: &[Datum]) -> Result<Datum, TemplateError> {
    if let Some((Datum::String(format), values)) = arguments.split_first()
        && !is_within_limits(format, values)
    {
        return Err(wrong("printf", "widths and precisions up to 1000"));
    }
    // The crate's own cannot be called, but by a template.
    let words: String = (0..arguments.len()).map(|number| format!(" (index . {number})")).collect();
    let template = gotmpl::Template::new("printf").parse(&format!("{{{{printf{words}}}}}"))?;
    let text = template.execute_to_string(&Datum::List(arguments.iter().cloned().collect()))?;
    Ok(Datum::String(text.into()))
}

/// Whether all widths and precisions of a format are, those among the values too.
fn is_within_limits(format: &str, values: &[Datum]) -> bool {
    let mut rest = format.chars().peekable();
    let mut next = 0usize;
    while let Some(char) = rest.next() {
        if char != '%' {
            continue;
        }
        while rest.next_if(|char| "+-# 0".contains(*char)).is_some() {}
        index(&mut rest, &mut next);
        if !is_length_within_limits(&mut rest, &mut next, values) {
            return false;
        }
        if rest.next_if_eq(&'.').is_some() {
            index(&mut rest, &mut next);
            if !is_length_within_limits(&mut rest, &mut next, values) {
                return false;
            }
        }
        index(&mut rest, &mut next);
        if rest.next().is_some_and(|verb| verb != '%') {
            next = next.saturating_add(1);
        }
    }
    true
}

/// Reads `[N]`: the value that is next, from 1 on.
fn index(rest: &mut Peekable<Chars<'_>>, next: &mut usize) {
    if rest.next_if_eq(&'[').is_some() {
        *next = number(rest).saturating_sub(1);
        while rest.next().is_some_and(|char| char != ']') {}
    }
}

fn is_length_within_limits(rest: &mut Peekable<Chars<'_>>, next: &mut usize, values: &[Datum]) -> bool {
    if rest.next_if_eq(&'*').is_none() {
        return number(rest) <= PADDING_MAX;
    }
    let value = values.get(*next);
    *next = next.saturating_add(1);
    match value {
        Some(Datum::Int(length)) => length.unsigned_abs() <= PADDING_MAX as u64,
        Some(Datum::Uint(length)) => *length <= PADDING_MAX as u64,
        _ => true,
    }
}

fn number(rest: &mut Peekable<Chars<'_>>) -> usize {
    let mut number = 0usize;
    while let Some(digit) = rest.peek().and_then(|char| char.to_digit(10)) {
        rest.next();
        number = number.saturating_mul(10).saturating_add(digit as usize);
    }
    number
}
