//! `layerctl ps`.

use clap::Args;
use serde_json::json;

use super::output::{ago, short};
use super::{Context, report};
use crate::error::Result;
use crate::store::ContainerState;

/// List the containers, their state and mountpoint
#[derive(Debug, Args)]
pub(super) struct Ps {}

impl Ps {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let mut rows = Vec::new();
        let mut values = Vec::new();
        let mut status = 0;
        for container in context.store.containers()? {
            let container = match container {
                Ok(container) => container,
                // It can be removed by force, so it must be known of.
                Err(error) => {
                    report(&error);
                    status = error.exit_code();
                    continue;
                }
            };
            let state = container.state()?;
            let is_live = matches!(state, ContainerState::Running | ContainerState::Dead);
            let mount = container.mount()?.filter(|_| is_live);
            let mountpoint = mount.map(|mount| mount.mountpoint.display().to_string());
            let record = &container.record;
            let image = record.image_name.as_ref().map_or_else(|| short(&record.image.hex()), ToString::to_string);
            values.push(json!({
                "Id": container.id, "Name": record.name, "Image": record.image, "ImageName": record.image_name,
                "Created": record.created, "State": state.word(), "Mountpoint": mountpoint,
            }));
            rows.push([
                short(&container.id.hex()),
                image,
                ago(record.created),
                state.word().to_owned(),
                record.name.clone(),
                mountpoint.unwrap_or_default(),
            ]);
        }
        if context.output.is_json() {
            context.output.json(&values.into())?;
        } else {
            context.output.table(["CONTAINER ID", "IMAGE", "CREATED", "STATE", "NAME", "MOUNTPOINT"], &rows)?;
        }
        Ok(status)
    }
}
