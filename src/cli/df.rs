//! `layerctl df`.

use clap::Args;
use serde_json::{Value, json};

use super::Context;
use super::list::{Column, List, Look, Place};
use super::output::{short, size};
use crate::commands::{self, DfRow};
use crate::error::Result;
use crate::store::Usage;

/// Show what the store takes on the disk, and what of it can go
///
/// Bytes are those that are allocated; hard links count once. Reclaimable is of Images what `prune --all` frees, of
/// Containers what `prune --containers` frees, of Leftovers (layers that nothing needs, and what processes that died
/// have left) what any `prune` frees, and of Total what `prune --all --containers` frees.
#[derive(Debug, Args)]
pub(super) struct Df {
    /// Show each image, container and layer
    #[arg(long, short)]
    verbose: bool,
}

fn bytes(usage: Usage) -> Value {
    json!({ "Bytes": usage.bytes, "Inodes": usage.inodes })
}

fn value(row: &DfRow) -> Value {
    json!({
        "Total": row.total, "Active": row.active, "Size": bytes(row.usage), "Reclaimable": bytes(row.reclaimable),
    })
}

impl Df {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let df = commands::df(&context.store)?;
        let rows = [
            ("Images", &df.images),
            ("Containers", &df.containers),
            ("Leftovers", &df.leftovers),
            ("Total", &df.total),
        ];
        if context.output.template().is_some() {
            return by_template(context, &rows).map(|()| 0);
        }
        if context.output.is_json() {
            let mut values: serde_json::Map<String, Value> =
                rows.iter().map(|(name, row)| ((*name).to_owned(), value(row))).collect();
            if self.verbose {
                values.extend(each(&df));
            }
            context.output.json(&values.into())?;
            return Ok(0);
        }
        let rows: Vec<[String; 7]> = rows
            .iter()
            .map(|(name, row)| {
                [
                    (*name).to_owned(),
                    row.total.to_string(),
                    row.active.to_string(),
                    size(row.usage.bytes),
                    row.usage.inodes.to_string(),
                    percent(row),
                    row.reclaimable.inodes.to_string(),
                ]
            })
            .collect();
        let head = ["TYPE", "TOTAL", "ACTIVE", "SIZE", "INODES", "RECLAIMABLE", "INODES"];
        context.output.table(head, &rows)?;
        if self.verbose {
            tables(context, &df)?;
        }
        Ok(0)
    }
}

fn percent(row: &DfRow) -> String {
    let part = row.reclaimable.bytes.saturating_mul(100).checked_div(row.usage.bytes).unwrap_or_default();
    format!("{} ({part}%)", size(row.reclaimable.bytes))
}

const COLUMNS: [Column; 7] = [
    Column { head: "TYPE", name: "Type", place: Place::Table },
    Column { head: "TOTAL", name: "TotalCount", place: Place::Table },
    Column { head: "ACTIVE", name: "Active", place: Place::Table },
    Column { head: "SIZE", name: "Size", place: Place::Table },
    Column { head: "INODES", name: "Inodes", place: Place::Table },
    Column { head: "RECLAIMABLE", name: "Reclaimable", place: Place::Table },
    Column { head: "RECLAIMABLE INODES", name: "ReclaimableInodes", place: Place::Template },
];

/// The rows as a template has them: its fields are those of `docker system df`, and the inodes.
fn by_template(context: &Context, rows: &[(&str, &DfRow)]) -> Result<()> {
    let mut list = List::new(&COLUMNS);
    for (name, row) in rows {
        let cells = vec![
            (*name).into(),
            row.total.to_string().into(),
            row.active.to_string().into(),
            size(row.usage.bytes).into(),
            row.usage.inodes.to_string().into(),
            percent(row).into(),
            row.reclaimable.inodes.to_string().into(),
        ];
        list.push(name, Value::Null, [cells]);
    }
    list.print(context, &Look::default())
}

fn each(df: &commands::Df) -> [(String, Value); 3] {
    let images = df.each_image.iter().map(|one| {
        json!({
            "Id": one.id, "RepoTags": one.names, "Containers": one.containers, "Size": bytes(one.usage),
            "Shared": bytes(one.shared), "Unique": bytes(one.unique),
        })
    });
    let containers = df
        .each_container
        .iter()
        .map(|one| json!({ "Id": one.id, "Name": one.name, "Active": one.is_active, "Size": bytes(one.usage) }));
    let layers = df.each_layer.iter().map(
        |one| json!({ "Id": one.id, "Images": one.images, "Containers": one.containers, "Size": bytes(one.usage) }),
    );
    [
        ("EachImage".to_owned(), images.collect()),
        ("EachContainer".to_owned(), containers.collect()),
        ("EachLayer".to_owned(), layers.collect()),
    ]
}

fn tables(context: &Context, df: &commands::Df) -> Result<()> {
    let images: Vec<[String; 7]> = df
        .each_image
        .iter()
        .map(|one| {
            [
                one.names.first().map_or_else(|| "<none>".to_owned(), ToString::to_string),
                short(&one.id.hex()),
                size(one.usage.bytes),
                size(one.shared.bytes),
                size(one.unique.bytes),
                one.usage.inodes.to_string(),
                one.containers.to_string(),
            ]
        })
        .collect();
    context.output.line("")?;
    let head = ["IMAGE", "IMAGE ID", "SIZE", "SHARED", "UNIQUE", "INODES", "CONTAINERS"];
    context.output.table(head, &images)?;
    let containers: Vec<[String; 5]> = df
        .each_container
        .iter()
        .map(|one| {
            let state = if one.is_active { "mounted" } else { "" };
            [
                short(&one.id.hex()),
                one.name.clone().unwrap_or_else(|| "<damaged>".to_owned()),
                state.to_owned(),
                size(one.usage.bytes),
                one.usage.inodes.to_string(),
            ]
        })
        .collect();
    context.output.line("")?;
    context.output.table(["CONTAINER ID", "NAME", "STATE", "SIZE", "INODES"], &containers)?;
    let layers: Vec<[String; 5]> = df
        .each_layer
        .iter()
        .map(|one| {
            [
                short(&one.id.hex()),
                size(one.usage.bytes),
                one.usage.inodes.to_string(),
                one.images.len().to_string(),
                one.containers.to_string(),
            ]
        })
        .collect();
    context.output.line("")?;
    context.output.table(["LAYER", "SIZE", "INODES", "IMAGES", "CONTAINERS"], &layers)
}
