//! `layerctl layers`.

use clap::Args;
use serde_json::json;

use super::filter::Filter;
use super::list::{Cell, Column, List, Look, Place};
use super::output::{ago, size};
use super::{Context, report};
use crate::commands::rfc3339;
use crate::error::{Error, Result};
use crate::id::ImageId;

const COLUMNS: [Column; 7] = [
    Column { head: "LAYER ID", name: "ID", place: Place::Table },
    Column { head: "CREATED", name: "CreatedSince", place: Place::Table },
    Column { head: "SIZE", name: "Size", place: Place::Table },
    Column { head: "TAR SIZE", name: "TarSize", place: Place::Table },
    Column { head: "ENTRIES", name: "Entries", place: Place::Table },
    Column { head: "IMAGES", name: "Images", place: Place::Flexible },
    Column { head: "CREATED AT", name: "CreatedAt", place: Place::Template },
];
const KEYS: [&str; 3] = ["image", "dangling", "id"];

/// List the layers, and which images have them
///
/// Filters: image=IMAGE that has it, dangling=true|false (no image has it), id=BEGINNING.
#[derive(Debug, Args)]
pub(super) struct Layers {
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    filter: Filter,
}

impl Layers {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let store = &context.store;
        let filters = self.filter.parse(&KEYS)?;
        let dangling = filters.truth("dangling")?;
        let wanted: Vec<ImageId> =
            filters.of("image").map(|name| store.find_image(name).map(|found| found.id())).collect::<Result<_>>()?;
        let (references, []) = store.plans([])?;
        let mut list = List::new(&COLUMNS);
        let mut status = 0;
        for layer in &references.layers {
            let record = match store.layer(*layer) {
                Ok(record) => record,
                // It went while the list was made.
                Err(Error::NotFound { .. }) => continue,
                Err(error) => {
                    report(&error);
                    status = error.exit_code();
                    continue;
                }
            };
            let has = |layers: &Option<Vec<_>>| layers.as_ref().is_some_and(|layers| layers.contains(layer));
            let images: Vec<_> = references.images.iter().filter(|(_, image)| has(&image.layers)).collect();
            let is_listed = dangling.is_none_or(|wanted| wanted == images.is_empty())
                && (wanted.is_empty() || images.iter().any(|(image, _)| wanted.contains(image)))
                && filters.any("id", |id| layer.hex().starts_with(id.strip_prefix("sha256:").unwrap_or(id)));
            if !is_listed {
                continue;
            }
            let names = images.iter().map(|(image, known)| match known.names.first() {
                Some(name) => name.to_string(),
                None => self.look.id(&image.to_string()),
            });
            let id = self.look.id(&layer.to_string());
            let cells = vec![
                id.clone().into(),
                Cell::time(ago(record.created), record.created),
                Cell::number(size(record.content_bytes), record.content_bytes),
                Cell::number(size(record.size), record.size),
                Cell::number(record.entries.to_string(), record.entries),
                names.collect::<Vec<_>>().join(", ").into(),
                Cell::time(rfc3339(record.created), record.created),
            ];
            let value = json!({
                "Id": layer, "Created": record.created, "Size": record.content_bytes, "TarSize": record.size,
                "Entries": record.entries, "Images": images.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            });
            list.push(&id, value, [cells]);
        }
        list.print(context, &self.look)?;
        Ok(status)
    }
}
