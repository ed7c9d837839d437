//! `layerctl inspect`.

use clap::Args;
use serde_json::{Value, json};

use super::format::Format;
use super::{Context, for_each};
use crate::commands;
use crate::error::Result;

/// Show all that is known of images, containers, layers or mounts, as a JSON array
///
/// The fields have Docker's names. A mounted container also shows its branches as AUFS showed them, uppermost
/// first, and how many messages of each kind the kernel has sent to its server.
///
/// With --format TEMPLATE each of them is one line that the template makes: --format '{{json .Config}}',
/// --format '{{range .RepoTags}}{{println .}}{{end}}'.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The same as --format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub(super) template: Option<Format>,
    /// Names, ids, beginnings of ids, or mountpoints
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Inspect {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let mut values = Vec::new();
        // What was found is shown, also when something else was not.
        let status = for_each(&self.names, |name| {
            values.push(commands::inspect(&context.store, name)?);
            Ok(())
        });
        if context.output.template().is_some() {
            values.iter_mut().for_each(complete);
        }
        context.output.json(&values.into())?;
        Ok(status)
    }
}

/// Gives a template what Docker's users expect in a config, also where the image does not say it.
fn complete(value: &mut Value) {
    let Some(config) = value.get_mut("Config") else { return };
    if config.is_null() {
        *config = json!({});
    }
    let Some(fields) = config.as_object_mut() else { return };
    let (text, list, map) = (json!(""), json!([]), json!({}));
    for (field, empty) in [
        ("User", &text),
        ("ExposedPorts", &map),
        ("Env", &list),
        ("Cmd", &list),
        ("Volumes", &map),
        ("WorkingDir", &text),
        ("Entrypoint", &list),
        ("Labels", &map),
        ("StopSignal", &text),
        ("OnBuild", &list),
        ("Shell", &list),
        ("Healthcheck", &Value::Null),
    ] {
        let value = fields.entry(field).or_insert(Value::Null);
        if value.is_null() {
            *value = empty.clone();
        }
    }
}
