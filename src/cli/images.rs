//! `layerctl images`.

use clap::Args;
use serde_json::json;

use super::output::{ago, short, size};
use super::{Context, report};
use crate::error::{Error, Result};

/// List the images
#[derive(Debug, Args)]
pub(super) struct Images {}

impl Images {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let names = context.store.image_names()?;
        let mut rows = Vec::new();
        let mut values = Vec::new();
        let mut status = 0;
        for id in context.store.images()? {
            let image = match context.store.image(id) {
                Ok(image) => image,
                // It went while the list was made.
                Err(Error::NotFound { .. }) => continue,
                // It can be removed, so it must be known of.
                Err(error) => {
                    report(&error);
                    status = error.exit_code();
                    continue;
                }
            };
            let its: Vec<_> = names.iter().filter(|(_, image)| *image == id).map(|(name, _)| name).collect();
            let row = |repository: &str, tag: &str| {
                [
                    repository.to_owned(),
                    tag.to_owned(),
                    short(&id.hex()),
                    ago(image.record.imported),
                    size(image.record.size),
                ]
            };
            rows.extend(its.iter().map(|name| row(name.repository(), name.tag())));
            if its.is_empty() {
                rows.push(row("<none>", "<none>"));
            }
            values.push(json!({
                "Id": id, "RepoTags": its, "Size": image.record.size, "Imported": image.record.imported,
            }));
        }
        if context.output.is_json() {
            context.output.json(&values.into())?;
        } else {
            rows.sort_unstable();
            context.output.table(["REPOSITORY", "TAG", "IMAGE ID", "IMPORTED", "SIZE"], &rows)?;
        }
        Ok(status)
    }
}
