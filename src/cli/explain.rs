//! `layerctl explain`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use clap::Args;
use serde_json::{Value, json};

use super::output::{cut, short, visible};
use super::{Context, path_text};
use crate::commands::{self, Action, Explanation, Given, Source};
use crate::error::Result;
use crate::index::Kind;

/// As wide as a command is shown.
const COMMAND: usize = 60;

/// Say which layer gives a path, what that hides, and what removed it
///
/// From the top down: what each layer does to the path, with the layer's number (the lowest is 1) and the step of the image's
/// history that made it. Links on the way are followed inside the root, and told; one at the end is not followed. A path that
/// was removed is explained too; the exit status is 1 when no layer ever had it.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Whose path it is
    #[arg(value_name = "CONTAINER|IMAGE")]
    name: String,
    /// The path, from the root on
    path: OsString,
}

impl Explain {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let explanation = commands::explain(&context.store, &self.name, self.path.as_bytes())?;
        if context.output.is_json() {
            context.output.json(&value(&explanation))?;
        } else {
            context.output.text(&text(&explanation))?;
        }
        Ok(0)
    }
}

const fn word(action: &Action) -> &'static str {
    match action {
        Action::Gives(_) => "gives",
        Action::Merges(_) => "merges",
        Action::Hidden(_) => "hidden",
        Action::Whiteout(_) => "whiteout",
        Action::Opaque(_) => "opaque",
        Action::Replaces(_) => "replaces",
        Action::Removes => "removes",
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::File => "file",
        Kind::Symlink => "link",
        Kind::CharDevice => "character device",
        Kind::BlockDevice => "block device",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

fn source(source: &Source) -> Value {
    match source {
        Source::Container => json!({ "Layer": null, "DiffID": null, "Step": null, "CreatedBy": null }),
        Source::Layer { number, diff_id, step } => json!({
            "Layer": number, "DiffID": diff_id, "Step": step.as_ref().map(|(number, _)| number),
            "CreatedBy": step.as_ref().map(|(_, step)| &step.created_by),
        }),
    }
}

fn value(explanation: &Explanation) -> Value {
    let with = |from: &Source, more: Value| {
        let mut fields = source(from);
        if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
            fields.extend(more);
        }
        fields
    };
    let links = explanation.links.iter().map(|link| {
        let (path, target) = (path_text::json(&link.path), path_text::json(&link.target));
        with(&link.source, json!({ "Path": path, "Target": target }))
    });
    let layers = explanation.actions.iter().map(|(from, action)| {
        let (at, given) = match action {
            Action::Gives(given) | Action::Merges(given) | Action::Hidden(given) => (None, Some(of_given(given))),
            Action::Whiteout(at) | Action::Opaque(at) | Action::Replaces(at) => (Some(path_text::json(at)), None),
            Action::Removes => (None, None),
        };
        with(from, json!({ "Action": word(action), "At": at, "Entry": given }))
    });
    json!({
        "Path": path_text::json(&explanation.path), "Present": explanation.is_present,
        "Links": links.collect::<Value>(), "Layers": layers.collect::<Value>(),
    })
}

fn of_given(given: &Given) -> Value {
    let target = Some(path_text::json(&given.target)).filter(|_| given.meta.kind == Kind::Symlink);
    json!({
        "Type": kind(given.meta.kind), "Mode": format!("{:04o}", given.meta.mode), "Uid": given.meta.uid,
        "Gid": given.meta.gid, "Size": given.meta.size, "Digest": given.digest, "Target": target,
        "Implied": given.is_implied, "Names": given.names.iter().map(|name| path_text::json(name)).collect::<Vec<_>>(),
    })
}

fn from(source: &Source) -> String {
    let Source::Layer { number, diff_id, step } = source else { return "the rw layer".to_owned() };
    let layer = format!("layer {number} ({})", short(&diff_id.hex()));
    match step {
        Some((number, step)) => {
            let by = visible(&step.created_by.clone().unwrap_or_default().replace('\t', " "));
            format!("{layer}, step {number}: {}", cut(by.trim(), COMMAND))
        }
        None => layer,
    }
}

fn entry(given: &Given) -> String {
    let meta = &given.meta;
    let mut text = format!("{} {:04o} {}:{}", kind(meta.kind), meta.mode, meta.uid, meta.gid);
    match meta.kind {
        Kind::File => text.push_str(&format!(", {} bytes", meta.size)),
        Kind::Symlink => text.push_str(&format!(" to {}", path_text::line(&given.target))),
        Kind::CharDevice | Kind::BlockDevice => text.push_str(&format!(" {}:{}", meta.rdev.0, meta.rdev.1)),
        _ => {}
    }
    if let Some(digest) = given.digest {
        text.push_str(&format!(", {digest}"));
    }
    if given.is_implied {
        text.push_str(", only implied by what is in it");
    }
    text
}

fn text(explanation: &Explanation) -> String {
    let mut lines = Vec::new();
    for link in &explanation.links {
        let (path, target) = (path_text::line(&link.path), path_text::line(&link.target));
        lines.push(format!("{path} is a link to {target}, in {}", from(&link.source)));
    }
    let state = if explanation.is_present { "" } else { " is removed" };
    lines.push(format!("{}{state}", path_text::line(&explanation.path)));
    for (source, action) in &explanation.actions {
        let from = from(source);
        lines.push(match action {
            Action::Gives(given) => format!("  given by {from}\n    {}", entry(given)),
            Action::Merges(given) => format!("  together with {from}\n    {}", entry(given)),
            Action::Hidden(given) => format!("  hidden in {from}\n    {}", entry(given)),
            Action::Whiteout(at) => format!("  removed by {from}\n    whiteout of {}", path_text::line(at)),
            Action::Opaque(at) => format!("  hidden below {from}\n    {} is opaque there", path_text::line(at)),
            Action::Replaces(at) => format!("  removed by {from}\n    {} is no directory there", path_text::line(at)),
            Action::Removes => format!("  removed by {from}"),
        });
        if let Action::Gives(given) | Action::Merges(given) | Action::Hidden(given) = action
            && !given.names.is_empty()
        {
            let names: Vec<_> = given.names.iter().map(|name| path_text::line(name)).collect();
            lines.push(format!("    one file with {}", names.join(", ")));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}
