//! Go's templates, as Docker's users type them, by the crate `gotmpl`: it forbids `unsafe`, denies what panics, limits
//! nesting and loops, and is tested against Go's own.
//!
//! Where a template cannot do what Go's can as our values have no types: a field that is not there is an error and never
//! `<no value>`; `index` gives an empty text for it.

mod functions;
mod printf;

use std::sync::Arc;

use gotmpl::parse::Node;
use gotmpl::{MissingKey, TemplateError, Value as Datum};
use serde_json::Value;

use crate::error::{Error, Result};
use functions::FUNCTIONS;

/// A template that can be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    source: String,
    /// It begins with `table`: in columns, under a head.
    pub(super) is_table: bool,
}

/// What is put in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Values,
    /// The heads of columns, which no function is to change.
    Heads,
}

impl Template {
    /// Reads a template, in which `\t` and `\n` stand for what they say.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (is_table, body) = match text.strip_prefix("table") {
            Some(rest) if rest.starts_with([' ', '\t', '\\', '{']) => (true, rest.trim_start_matches(' ')),
            _ => (false, text),
        };
        let template = Self { source: unescape(body), is_table };
        template.compile(Of::Values).map_err(|error| error.to_string())?;
        Ok(template)
    }

    /// What it makes of a value.
    pub(super) fn render(&self, value: &Value) -> Result<String> {
        self.run(Of::Values, value)
    }

    /// What it makes of the heads of columns.
    pub(super) fn head(&self, heads: &Value) -> Result<String> {
        self.run(Of::Heads, heads)
    }

    fn run(&self, of: Of, value: &Value) -> Result<String> {
        let rendered = self.compile(of).and_then(|template| template.execute_to_string(&datum(value)));
        let rendered = rendered.and_then(|mut text| if text.pop() == Some(END) { Ok(text) } else { Err(cut_off()) });
        rendered.map_err(|error| Error::Usage(format!("--format: {error}")))
    }

    fn compile(&self, of: Of) -> Result<gotmpl::Template, TemplateError> {
        let mut template = gotmpl::Template::new(NAME).missing_key(MissingKey::Error);
        for (name, function) in FUNCTIONS {
            let of_head = |arguments: &[Datum]| Ok(arguments.first().cloned().unwrap_or(Datum::Nil));
            template = match of {
                Of::Heads if name != "index" => template.func(name, of_head),
                _ => template.func(name, function),
            };
        }
        let template = template.parse(&format!("{}{END}", self.source))?;
        match template.lookup(NAME).and_then(|tree| tree.nodes.last()) {
            Some(Node::Text(text)) if text.text.ends_with(END) => Ok(template),
            _ => Err(cut_off()),
        }
    }
}

const NAME: &str = "format";
/// Stands behind every template, and in none: the parser takes an `{{end}}` too many as the end of all, which Go refuses.
const END: char = '\0';

fn cut_off() -> TemplateError {
    TemplateError::Exec("there is an {{end}} or {{else}} without its beginning".into())
}

/// `\t` and `\n`, but for those in an action, where Go's own rules are.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    for (number, part) in text.split("{{").enumerate() {
        let (action, plain) = match part.split_once("}}") {
            Some((action, plain)) if number > 0 => (Some(action), plain),
            _ if number > 0 => (Some(part), ""),
            _ => (None, part),
        };
        if let Some(action) = action {
            out.push_str("{{");
            out.push_str(action);
            if part.contains("}}") {
                out.push_str("}}");
            }
        }
        out.push_str(&plain.replace("\\t", "\t").replace("\\n", "\n"));
    }
    out
}

fn datum(value: &Value) -> Datum {
    match value {
        Value::Null => Datum::Nil,
        Value::Bool(bool) => Datum::Bool(*bool),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Datum::Int(number),
            (None, Some(number)) => Datum::Uint(number),
            (None, None) => Datum::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Datum::String(text.as_str().into()),
        Value::Array(values) => Datum::List(values.iter().map(datum).collect()),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (Arc::from(name.as_str()), datum(value)));
            Datum::Map(Arc::new(fields.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(template: &str, value: &Value) -> Result<String, String> {
        Template::parse(template)?.render(value).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_are_those_of_docker() {
        let value = json!({
            "Id": "sha256:ab", "RepoTags": ["a:1", "b:2"], "Size": 5_000_000_000_u64, "None": null,
            "Config": { "Env": ["A=1"], "Labels": { "x.y": "z" } },
        });
        for (template, text) in [
            ("{{.Id}}", "sha256:ab"),
            ("{{.Id}}\\t{{.Size}}\\n", "sha256:ab\t5000000000\n"),
            ("{{json .Config}}", r#"{"Env":["A=1"],"Labels":{"x.y":"z"}}"#),
            ("{{json .None}}", "null"),
            ("{{range .RepoTags}}<{{.}}>{{end}}", "<a:1><b:2>"),
            ("{{range $i, $t := .RepoTags}}{{$i}}{{$t}} {{end}}", "0a:1 1b:2 "),
            ("{{join .RepoTags \"\\n\"}}", "a:1\nb:2"),
            ("{{index .RepoTags 1}}", "b:2"),
            ("{{index .Config.Labels \"x.y\"}}{{index .Config.Labels \"no\"}}", "z"),
            ("{{if .None}}yes{{else}}no{{end}}{{with .Id}}{{.}}{{end}}", "nosha256:ab"),
            ("{{len .RepoTags}}{{println .Id}}", "2sha256:ab\n"),
            ("{{upper .Id}}{{lower \"AB\"}}{{title \"a big one\"}}", "SHA256:ABabA Big One"),
            ("{{pad \"x\" 1 2}}|{{truncate .Id 3}}|{{index (split \"a,b\" \",\") 1}}", " x  |sha|b"),
            ("{{printf \"%.2s|%d\" .Id 3}}", "sh|3"),
            ("{{printf \"%5d%%|%-*d|\" 5000 3 5000}}{{printf \"plain\"}}", " 5000%|5000|plain"),
            ("{{- /* nothing */ -}}", ""),
        ] {
            assert_eq!(made(template, &value).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn a_bad_template_is_an_error_and_nothing_else() {
        let value = json!({ "Id": "x", "List": [] });
        let deep = format!("{}1{}", "{{if 1}}".repeat(5000), "{{end}}".repeat(5000));
        let parentheses = format!("{{{{{}1{}}}}}", "(".repeat(50_000), ")".repeat(50_000));
        for template in [
            "{{.Id",
            "{{.Nope}}",
            "{{nope .Id}}",
            "{{range}}",
            "{{end}}",
            "{{.Id}}{{end}}{{.Id}}",
            "{{else}}",
            "{{break}}",
            "{{index .List 5}}",
            "{{index .List -1}}",
            "{{pad .Id 999999999999 1}}",
            "{{truncate .Id -1}}",
            "{{template \"x\"}}",
            "{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}",
            "{{printf \"%99999999999d\" 1}}",
            "{{printf \"%1001s\" .Id}}",
            "{{printf \"%.1001f\" 1.0}}",
            "{{printf \"%d %-*d\" 1 5000 1}}",
            "{{printf \"%d %-*d\" 1 -5000 1}}",
            "{{printf \"%[2]*[1]d\" 1 5000}}",
            "{{5000 | printf \"%.*d\"}}",
            "{{\"\\n}}",
            &deep,
            &parentheses,
        ] {
            let error = made(template, &value).expect_err(&template[..template.len().min(60)]);
            assert!(!error.is_empty());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_template_or_an_error(words in proptest::collection::vec(0..WORDS.len(), 0..24)) {
            let text: String = words.into_iter().map(|word| WORDS[word]).collect();
            let value = json!({ "Id": "x", "List": ["a", "b"], "Map": { "k": 1 }, "None": null });
            if let Err(error) = made(&text, &value) {
                assert!(!error.is_empty());
            }
        }
    }

    const WORDS: [&str; 52] = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        "{{/*",
        "*/}}",
        "{{end}}",
        "{{else}}",
        "{{if ",
        "{{range ",
        "{{with ",
        "{{define \"t\"}}",
        "{{template \"t\" .}}",
        "{{block \"t\" .}}",
        "{{break}}",
        "{{continue}}",
        "$",
        "$x",
        " := ",
        " = ",
        ",",
        "|",
        "(",
        ")",
        ".",
        ".Id",
        ".List",
        ".Map",
        ".None",
        ".k",
        " ",
        "\"",
        "`",
        "'",
        "\\",
        "\n",
        "0",
        "-1",
        "1e9",
        "0x",
        "nil",
        "true",
        "index ",
        "join ",
        "json ",
        "pad ",
        "truncate ",
        "split ",
        "printf \"%*d\" ",
        "slice ",
        "len ",
        "日",
    ];
}
