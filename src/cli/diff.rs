//! `layerctl diff`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{Context, path_text};
use crate::commands::{self, Difference, DifferenceKind};
use crate::error::Result;

/// Show what was added (A), changed (C) and deleted (D)
///
/// In a container that is what it has changed of its image, mounted or not; in an image what its last layer has changed of
/// those below; with a second image what is different from that one. As Docker's, a directory is changed when its mode, owner
/// or attributes are, or something in it is; all else also when only its time is another. Of a directory that is gone only
/// its own name is shown. Nothing that is only written anew and is the same is shown.
///
/// Paths with control characters, quotes, backslashes, or bytes that are no UTF-8 are in quotes with the escapes of C, as git
/// shows them; in JSON only those that are no UTF-8.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// Write it as the tar of a layer; of an image alone its last layer, bit for bit
    #[arg(long)]
    tar: bool,
    /// Where the tar goes: a file, or - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", requires = "tar", hide_default_value = true)]
    output: PathBuf,
    /// End paths with a NUL in place of a line's end, and quote none
    #[arg(short = 'z', long, conflicts_with = "tar")]
    nul: bool,
    /// What is shown
    #[arg(value_name = "CONTAINER|IMAGE")]
    name: String,
    /// What it is compared with
    #[arg(value_name = "IMAGE")]
    base: Option<String>,
}

const fn letter(kind: DifferenceKind) -> &'static str {
    match kind {
        DifferenceKind::Added => "A",
        DifferenceKind::Changed => "C",
        DifferenceKind::Deleted => "D",
    }
}

impl Diff {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        if self.tar {
            commands::diff_tar(&context.store, &self.name, self.base.as_deref(), &self.output)?;
            return Ok(0);
        }
        let differences = commands::diff(&context.store, &self.name, self.base.as_deref())?;
        if self.nul {
            let mut bytes = Vec::new();
            for one in &differences {
                bytes.extend_from_slice(letter(one.kind).as_bytes());
                bytes.push(b' ');
                bytes.extend_from_slice(&one.path);
                bytes.push(0);
            }
            context.output.bytes(&bytes)?;
        } else if context.output.template().is_some() {
            let value = |one: &Difference| json!({ "Kind": letter(one.kind), "Path": path_text::json(&one.path) });
            context.output.json(&differences.iter().map(value).collect())?;
        } else if context.output.is_json() {
            let of = |kind| -> Value {
                let paths = differences.iter().filter(|one| one.kind == kind);
                paths.map(|one| Value::from(path_text::json(&one.path))).collect()
            };
            context.output.json(&json!({
                "added": of(DifferenceKind::Added), "changed": of(DifferenceKind::Changed),
                "deleted": of(DifferenceKind::Deleted),
            }))?;
        } else {
            let line = |one: &Difference| format!("{} {}\n", letter(one.kind), path_text::line(&one.path));
            context.output.text(&differences.iter().map(line).collect::<String>())?;
        }
        Ok(0)
    }
}
