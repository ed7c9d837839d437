//! What is set in an image's config: the same words for all commands that make one.

use clap::Args;

use crate::commands::{self, Setting};
use crate::error::Result;

#[derive(Debug, Args)]
pub(super) struct ConfigOptions {
    /// Set something in the image's config; may be given several times (see below)
    #[arg(long = "config", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The same as a Dockerfile has it: 'CMD ["make"]', 'ENV A=1'; after all of --config
    #[arg(short = 'c', long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
}

/// What `--config` takes, for the end of a command's help.
pub(super) const CONFIG_HELP: &str = "\
Config:
  Cmd=, Entrypoint=     a JSON array is run as it is, other text by /bin/sh -c; a new Entrypoint without a Cmd
                        has none
  Env=NAME=VALUE        takes the place of the variable, or is one more
  User=, WorkingDir=, StopSignal=
  Labels=KEY=VALUE, ExposedPorts=80[/udp], Volumes=/DIR
                        one more; JSON in the config's own form (Env=[...], Labels={...}) sets all of them
  author=, comment=, created=
                        the time in RFC 3339, or in seconds since 1970
  architecture=, os=, variant=
  KEY=                  takes it away
Upper and lower case of a key are the same; expose, port, label, volume, workdir and arch are known too.
With SOURCE_DATE_EPOCH set it is the image's time, and no file of a layer that is made here is later.";

impl ConfigOptions {
    pub(super) fn settings(&self) -> Result<Vec<Setting>> {
        let settings = self.settings.iter().map(|text| Setting::parse(text));
        let changes = self.changes.iter().map(|text| commands::instruction(text));
        settings.chain(changes).collect::<Result<Vec<_>>>().map(|settings| settings.concat())
    }
}
