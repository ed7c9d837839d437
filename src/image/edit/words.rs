//! The words of an instruction, with the variables of an image's Env in them: as a Dockerfile has them.
//!
//! In `'...'` everything stands for itself; a backslash takes the meaning from what is after it. `$NAME` and `${NAME}` are the
//! variable's value, or nothing when there is none; `${NAME:-WORD}` is WORD then, `${NAME:+WORD}` is WORD in the other case,
//! and `${NAME:?WORD}` is refused then. Without the colon an empty variable counts as one that is there.

use std::iter::Peekable;
use std::str::Chars;

/// What variables are there.
pub(super) type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// More of `${A:-${B:-...}}` than this is in no instruction.
const NESTING_MAX: usize = 100;

struct Reader<'a> {
    /// For messages.
    text: &'a str,
    rest: Peekable<Chars<'a>>,
    variables: &'a Variables<'a>,
    nesting: usize,
}

/// Splits at blanks, takes quotes and backslashes away, and puts variables in. The value of a variable is not split.
pub(super) fn words(text: &str, variables: &Variables<'_>) -> Result<Vec<String>, String> {
    let mut reader = Reader { text, rest: text.chars().peekable(), variables, nesting: 0 };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    while let Some(c) = reader.rest.next() {
        if c.is_whitespace() {
            words.extend(word.take());
        } else {
            reader.take(c, word.get_or_insert_default())?;
        }
    }
    words.extend(word);
    Ok(words)
}

impl Reader<'_> {
    /// Reads what begins with `c`, which is not in quotes.
    fn take(&mut self, c: char, word: &mut String) -> Result<(), String> {
        match c {
            '\'' => loop {
                match self.rest.next() {
                    Some('\'') => return Ok(()),
                    Some(c) => word.push(c),
                    None => return Err(self.open_quote()),
                }
            },
            '"' => loop {
                match self.rest.next() {
                    Some('"') => return Ok(()),
                    Some('\\') if matches!(self.rest.peek(), Some('"' | '\\' | '$')) => word.extend(self.rest.next()),
                    Some('$') => word.push_str(&self.variable()?),
                    Some(c) => word.push(c),
                    None => return Err(self.open_quote()),
                }
            },
            '\\' => word.extend(self.rest.next()),
            '$' => word.push_str(&self.variable()?),
            _ => word.push(c),
        }
        Ok(())
    }

    fn open_quote(&self) -> String {
        format!("{:?} has a quote that does not end", self.text)
    }

    fn open_brace(&self) -> String {
        format!("{:?} has a ${{ that does not end", self.text)
    }

    /// Reads what is after a `$`, and gives its value.
    fn variable(&mut self) -> Result<String, String> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { (self.variables)(&name).unwrap_or_default() });
        }
        let name = self.name();
        let wrong = |reader: &Self| format!("{:?} has a ${{ that is not understood", reader.text);
        if name.is_empty() {
            return Err(wrong(self));
        }
        let value = (self.variables)(&name);
        let mut next = self.rest.next();
        if next == Some('}') {
            return Ok(value.unwrap_or_default());
        }
        let counts_empty = next != Some(':');
        if !counts_empty {
            next = self.rest.next();
        }
        let value = value.filter(|value| counts_empty || !value.is_empty());
        if next.is_none() {
            return Err(self.open_brace());
        }
        let operator = next.filter(|operator| matches!(operator, '-' | '+' | '?')).ok_or_else(|| wrong(self))?;
        let word = self.up_to_brace()?;
        match (operator, value) {
            ('-', Some(value)) => Ok(value),
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => Err(format!("the variable {name} is not set")),
            (_, None) => Err(format!("the variable {name} is not set: {word}")),
        }
    }

    /// Reads a word to the `}` that ends it.
    fn up_to_brace(&mut self) -> Result<String, String> {
        self.nesting += 1;
        let mut word = String::new();
        while self.nesting <= NESTING_MAX {
            match self.rest.next() {
                Some('}') => {
                    self.nesting -= 1;
                    return Ok(word);
                }
                Some(c) => self.take(c, &mut word)?,
                None => break,
            }
        }
        Err(self.open_brace())
    }

    /// The name of a variable; none where something else begins. A number is one too, of a variable that no image has.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let is_number = self.rest.peek().is_some_and(char::is_ascii_digit);
        let is_part = |c: &char| c.is_ascii_digit() || (!is_number && (c.is_ascii_alphabetic() || *c == '_'));
        while let Some(c) = self.rest.next_if(is_part) {
            name.push(c);
        }
        if name.is_empty() {
            name.extend(self.rest.next_if(|c| matches!(c, '@' | '*' | '#' | '?' | '-' | '!')));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<Vec<String>, String> {
        words(text, &|name| match name {
            "PATH" => Some("/bin:/usr/bin".to_owned()),
            "BLANK" => Some("a b".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_stand_for_their_values_as_in_a_dockerfile() {
        for (text, wanted) in [
            ("P=$PATH:/x", "P=/bin:/usr/bin:/x"),
            ("${PATH}x", "/bin:/usr/binx"),
            ("\"$PATH\"", "/bin:/usr/bin"),
            ("'$PATH'", "$PATH"),
            (r"\$PATH", "$PATH"),
            (r#""\$PATH""#, "$PATH"),
            ("$NONE.", "."),
            ("$BLANK", "a b"),
            ("$", "$"),
            ("a$,", "a$,"),
            ("$1", ""),
            ("$1x", "x"),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${PATH:+set}", "set"),
            ("${EMPTY:+set}", ""),
            ("${EMPTY+set}", "set"),
            ("${NONE:-${BLANK}c}", "a bc"),
            ("${NONE:-'}'}", "}"),
            ("${PATH:?gone}", "/bin:/usr/bin"),
        ] {
            assert_eq!(expanded(text), Ok(vec![wanted.to_owned()]), "{text}");
        }
        assert_eq!(expanded("a  'b c'\td"), Ok(vec!["a".into(), "b c".into(), "d".into()]));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let deep = "${A:-".repeat(500);
        for text in
            ["${", "${}", "${PATH", "${PATH%x}", "${PATH:", "${NONE:-x", "'x", "\"x", "${NONE?}", "${NONE:?why}", &deep]
        {
            assert!(expanded(text).is_err(), "{text}");
        }
    }
}
