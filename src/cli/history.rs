//! `layerctl history`.

use clap::Args;
use serde_json::json;

use super::Context;
use super::list::{Cell, Column, List, Look, Place};
use super::output::{ago, cut, size};
use crate::commands;
use crate::error::Result;

const COLUMNS: [Column; 7] = [
    Column { head: "IMAGE", name: "ID", place: Place::Table },
    Column { head: "CREATED", name: "CreatedSince", place: Place::Table },
    Column { head: "CREATED BY", name: "CreatedBy", place: Place::Flexible },
    Column { head: "SIZE", name: "Size", place: Place::Table },
    Column { head: "COMMENT", name: "Comment", place: Place::Flexible },
    Column { head: "CREATED AT", name: "CreatedAt", place: Place::Template },
    Column { head: "LAYER", name: "Layer", place: Place::Template },
];
/// As wide as Docker shows a command.
const COMMAND: usize = 45;
/// What Docker calls the images between the steps, which no archive has.
const MISSING: &str = "<missing>";

/// Show how an image was made, the last step first
///
/// SIZE is that of the files in the layer which the step made; a step that changed no file made none.
#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    look: Look,
    /// A name, an id, or the beginning of one
    image: String,
}

impl History {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let history = commands::history(&context.store, &self.image)?;
        let mut list = List::new(&COLUMNS);
        for (number, (step, bytes)) in history.steps.iter().enumerate() {
            let (id, names) = match number {
                0 => (history.id.to_string(), Some(&history.names)),
                _ => (MISSING.to_owned(), None),
            };
            let created = step.created.as_deref().and_then(commands::seconds);
            let by = step.created_by.clone().unwrap_or_default();
            let by_shown = by.replace('\t', " ");
            let by_shown = if self.look.no_trunc { by_shown.into() } else { cut(&by_shown, COMMAND) };
            let id_shown = if number == 0 { self.look.id(&id) } else { id.clone() };
            let value = json!({
                "Id": id, "Created": created, "CreatedBy": by, "Tags": names, "Size": bytes,
                "Comment": step.comment.clone().unwrap_or_default(), "Layer": step.layer, "EmptyLayer": step.is_empty,
            });
            let cells = vec![
                id_shown.clone().into(),
                Cell::time(created.map_or_else(|| "N/A".to_owned(), ago), created.unwrap_or_default()),
                by_shown.into_owned().into(),
                Cell::number(size(*bytes), *bytes),
                step.comment.clone().unwrap_or_default().into(),
                step.created.clone().unwrap_or_default().into(),
                step.layer.map(|layer| self.look.id(&layer.to_string())).unwrap_or_default().into(),
            ];
            list.push(&id_shown, value, [cells]);
        }
        list.print(context, &self.look)?;
        Ok(0)
    }
}
