//! `layerctl layers`.

use clap::Args;
use serde_json::json;

use super::output::{ago, short, size};
use super::{Context, report};
use crate::error::{Error, Result};

/// List the layers, and which images have them
///
/// With --quiet only their ids.
#[derive(Debug, Args)]
pub(super) struct Layers {
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
}

impl Layers {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let store = &context.store;
        let (reach, []) = store.plans([])?;
        let id = |id: String, hex: String| if self.no_trunc { id } else { short(&hex) };
        let mut rows = Vec::new();
        let mut values = Vec::new();
        let mut status = 0;
        for layer in &reach.layers {
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
            let images: Vec<_> = reach.images.iter().filter(|(_, image)| has(&image.layers)).collect();
            let names = images.iter().map(|(image, known)| match known.names.first() {
                Some(name) => name.to_string(),
                None => id(image.to_string(), image.hex()),
            });
            rows.push([
                id(layer.to_string(), layer.hex()),
                ago(record.created),
                size(record.content_bytes),
                size(record.size),
                record.entries.to_string(),
                names.collect::<Vec<_>>().join(", "),
            ]);
            values.push(json!({
                "Id": layer, "Created": record.created, "Size": record.content_bytes, "TarSize": record.size,
                "Entries": record.entries, "Images": images.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            }));
        }
        if context.output.is_json() {
            context.output.json(&values.into())?;
        } else if context.quiet {
            for row in &rows {
                context.output.line(row.first().map_or("", String::as_str))?;
            }
        } else {
            context.output.table(["LAYER ID", "CREATED", "SIZE", "TAR SIZE", "ENTRIES", "IMAGES"], &rows)?;
        }
        Ok(status)
    }
}
