//! `layerctl ps`.

use clap::Args;
use serde_json::json;

use super::filter::Filter;
use super::list::{Cell, Column, List, Look, Place};
use super::output::ago;
use super::{Context, report};
use crate::commands::rfc3339;
use crate::error::Result;
use crate::id::ImageId;
use crate::store::{Container, ContainerState};

const COLUMNS: [Column; 9] = [
    Column { head: "CONTAINER ID", name: "ID", place: Place::Table },
    Column { head: "IMAGE", name: "Image", place: Place::Flexible },
    Column { head: "CREATED", name: "RunningFor", place: Place::Table },
    Column { head: "STATE", name: "State", place: Place::Table },
    Column { head: "NAME", name: "Names", place: Place::Flexible },
    Column { head: "MOUNTPOINT", name: "Mountpoint", place: Place::Flexible },
    Column { head: "NAME", name: "Name", place: Place::Template },
    Column { head: "STATUS", name: "Status", place: Place::Template },
    Column { head: "CREATED AT", name: "CreatedAt", place: Place::Template },
];
const KEYS: [&str; 4] = ["status", "name", "ancestor", "id"];
const STATES: [&str; 4] = ["created", "running", "exited", "dead"];

/// List the containers, their state and mountpoint
///
/// Filters: status=created|running|exited|dead, name=PART of a name, ancestor=IMAGE, id=BEGINNING.
#[derive(Debug, Args)]
pub(super) struct Ps {
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    filter: Filter,
    /// As all are listed anyway
    #[arg(long, short, hide = true)]
    all: bool,
}

impl Ps {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let store = &context.store;
        let filters = self.filter.parse(&KEYS)?;
        filters.check_words("status", &STATES)?;
        let ancestors: Vec<ImageId> =
            filters.of("ancestor").map(|name| store.find_image(name).map(|found| found.id())).collect::<Result<_>>()?;
        let mut list = List::new(&COLUMNS);
        let mut status = 0;
        for container in store.containers()? {
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
            let (record, hex) = (&container.record, container.id.hex());
            let is_listed = filters.any("status", |word| word == state.word())
                && filters.any("name", |part| record.name.contains(part))
                && filters.any("id", |beginning| hex.starts_with(beginning))
                && (ancestors.is_empty() || ancestors.contains(&record.image));
            if is_listed {
                self.push(&mut list, &container, state)?;
            }
        }
        list.print(context, &self.look)?;
        Ok(status)
    }

    fn push(&self, list: &mut List, container: &Container, state: ContainerState) -> Result<()> {
        let is_live = matches!(state, ContainerState::Running | ContainerState::Dead);
        let mount = container.mount()?.filter(|_| is_live);
        let mountpoint = mount.map(|mount| mount.mountpoint.display().to_string());
        let record = &container.record;
        let image = record.image_name.as_ref();
        let image = image.map_or_else(|| self.look.id(&record.image.to_string()), ToString::to_string);
        let id = self.look.id(&container.id.hex());
        let value = json!({
            "Id": container.id, "Name": record.name, "Image": record.image, "ImageName": record.image_name,
            "Created": record.created, "State": state.word(), "Mountpoint": mountpoint,
        });
        let cells = vec![
            id.clone().into(),
            image.into(),
            Cell::time(ago(record.created), record.created),
            state.word().into(),
            record.name.clone().into(),
            mountpoint.unwrap_or_default().into(),
            record.name.clone().into(),
            state.word().into(),
            Cell::time(rfc3339(record.created), record.created),
        ];
        list.push(&id, value, [cells]);
        Ok(())
    }
}
