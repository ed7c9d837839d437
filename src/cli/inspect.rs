//! `layerctl inspect`.

use clap::Args;

use super::{Context, for_each};
use crate::error::Result;
use crate::ops;

/// Show all that is known of images, containers, layers or mounts, as a JSON array
///
/// The fields have Docker's names. A mounted container also shows its branches as AUFS showed them, uppermost
/// first, and how many messages of each kind the kernel has sent to its server.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Names, ids, beginnings of ids, or mountpoints
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Inspect {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let mut values = Vec::new();
        // What was found is shown, also when something else was not.
        let status = for_each(&self.names, |name| {
            values.push(ops::inspect(&context.store, name)?);
            Ok(())
        });
        context.output.json(&values.into())?;
        Ok(status)
    }
}
