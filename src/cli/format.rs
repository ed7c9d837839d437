//! `--format`: text, JSON, or a template.

use std::convert::Infallible;

use super::template::Template;
use crate::error::{Error, Result};

/// How results are printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// For people, and for shell scripts: lines and tables.
    #[default]
    Text,
    /// For programs.
    Json,
    /// As the user writes it, for each thing.
    Template(Template),
    /// What is none of these, to be refused in a sentence of ours.
    Bad(String),
}

impl std::str::FromStr for Format {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.trim() {
            "text" | "table" => Self::Text,
            "json" => Self::Json,
            template if template.contains("{{") => match Template::parse(template) {
                Ok(template) => Self::Template(template),
                Err(why) => Self::Bad(why),
            },
            other => Self::Bad(format!("{other:?} is not text, json, or a template with {{{{ in it")),
        })
    }
}

impl Format {
    /// Refuses what cannot be done, before anything is.
    pub(super) fn check(&self, takes_template: bool) -> Result<()> {
        match self {
            Self::Bad(why) => Err(Error::Usage(format!("--format: {why}"))),
            Self::Template(_) if !takes_template => {
                Err(Error::Usage("--format: this command prints text or json, and takes no template".into()))
            }
            _ => Ok(()),
        }
    }
}
