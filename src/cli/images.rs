//! `layerctl images`.

use clap::Args;
use serde_json::json;

use super::filter::{Filter, Filters, Reference};
use super::list::{Cell, Column, List, Look, Place};
use super::output::{ago, size};
use super::{Context, report};
use crate::commands::{self, rfc3339};
use crate::error::{Error, Result};
use crate::id::ImageName;
use crate::image::ImageConfig;
use crate::store::Image;

const COLUMNS: [Column; 8] = [
    Column { head: "REPOSITORY", name: "Repository", place: Place::Flexible },
    Column { head: "TAG", name: "Tag", place: Place::Table },
    Column { head: "IMAGE ID", name: "ID", place: Place::Table },
    Column { head: "CREATED", name: "CreatedSince", place: Place::Table },
    Column { head: "SIZE", name: "Size", place: Place::Table },
    Column { head: "IMPORTED", name: "ImportedSince", place: Place::Table },
    Column { head: "IMPORTED AT", name: "ImportedAt", place: Place::Template },
    Column { head: "CREATED AT", name: "CreatedAt", place: Place::Template },
];
const KEYS: [&str; 6] = ["reference", "dangling", "label", "before", "since", "id"];

/// List the images
///
/// Filters: reference=PATTERN (of names, with or without the tag), dangling=true|false (without a name), label=KEY[=VALUE],
/// before=IMAGE and since=IMAGE (made earlier, later than this one), id=BEGINNING.
#[derive(Debug, Args)]
pub(super) struct Images {
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    filter: Filter,
    /// As all are listed anyway
    #[arg(long, short, hide = true)]
    all: bool,
    /// Only names that fit: as --filter reference=PATTERN
    #[arg(value_name = "PATTERN")]
    reference: Option<String>,
}

/// What is listed.
struct Chosen {
    filters: Filters,
    references: Vec<Reference>,
    dangling: Option<bool>,
    before: Vec<u64>,
    since: Vec<u64>,
}

fn config(image: &Image) -> ImageConfig {
    ImageConfig::parse(&image.config).unwrap_or_default()
}

fn created(config: &ImageConfig) -> u64 {
    config.created.as_deref().and_then(commands::seconds).unwrap_or_default()
}

impl Images {
    fn chosen(&self, context: &Context) -> Result<Chosen> {
        let store = &context.store;
        let filters = self.filter.parse(&KEYS)?;
        let references = filters.of("reference").chain(self.reference.as_deref());
        let references = references.map(Reference::parse).collect::<Result<_>>()?;
        let made = |key: &str| -> Result<Vec<u64>> {
            let made = |name| store.find_image(name).and_then(|found| store.image(found.id()));
            filters.of(key).map(|name| made(name).map(|image| created(&config(&image)))).collect()
        };
        let (before, since) = (made("before")?, made("since")?);
        Ok(Chosen { dangling: filters.truth("dangling")?, filters, references, before, since })
    }

    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let chosen = self.chosen(context)?;
        let names = context.store.image_names()?;
        let mut list = List::sorted(&COLUMNS);
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
            if !chosen.has(&image, its.is_empty()) {
                continue;
            }
            let fitting: Vec<&ImageName> = its.iter().copied().filter(|name| chosen.has_name(name)).collect();
            if fitting.is_empty() && !chosen.references.is_empty() {
                continue;
            }
            let value = json!({
                "Id": id, "RepoTags": its, "Size": image.record.size, "Imported": image.record.imported,
            });
            let shown = self.look.id(&id.to_string());
            let row = |repository: &str, tag: &str| self.row(&image, &shown, repository, tag);
            let mut rows: Vec<Vec<Cell>> = fitting.iter().map(|name| row(name.repository(), name.tag())).collect();
            if rows.is_empty() {
                rows.push(row("<none>", "<none>"));
            }
            list.push(&shown, value, rows);
        }
        list.print(context, &self.look)?;
        Ok(status)
    }

    fn row(&self, image: &Image, id: &str, repository: &str, tag: &str) -> Vec<Cell> {
        let (record, config) = (&image.record, config(image));
        let made = config.created.as_deref().and_then(commands::seconds);
        vec![
            repository.into(),
            tag.into(),
            id.into(),
            Cell::time(made.map_or_else(|| "N/A".to_owned(), ago), made.unwrap_or_default()),
            Cell::number(size(record.size), record.size),
            Cell::time(ago(record.imported), record.imported),
            Cell::time(rfc3339(record.imported), record.imported),
            Cell::time(config.created.unwrap_or_default(), made.unwrap_or_default()),
        ]
    }
}

impl Chosen {
    fn has_name(&self, name: &ImageName) -> bool {
        self.references.is_empty() || self.references.iter().any(|reference| reference.fits(name))
    }

    fn has(&self, image: &Image, is_dangling: bool) -> bool {
        let config = config(image);
        let made = created(&config);
        let labels = config.config.and_then(|config| config.labels).unwrap_or_default();
        let has_label = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.dangling.is_none_or(|wanted| wanted == is_dangling)
            // As Docker's, all of them.
            && self.filters.of("label").all(has_label)
            && self.before.iter().all(|before| made < *before)
            && self.since.iter().all(|since| made > *since)
            && self.filters.any("id", |id| image.id.hex().starts_with(id.strip_prefix("sha256:").unwrap_or(id)))
    }
}
