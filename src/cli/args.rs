//! The words of the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{
    build, commit, cp, df, diff, exists, explain, export, history, images, import, inspect, layers, prune, ps, rm, rmi,
    run_mount, save, tag, umount, union, untag, verify,
};
use crate::cli::format::Format;

const EXIT_STATUSES: &str = "\
Exit status:
  0      done
  1      not found: an image, container, layer, file, mountpoint or mount; exists: no;
         rm -f and rmi -f only say so
  2      the command line is wrong, or the beginning of an id is not unique
  3      verify has found damage
  125    any other failure
  126    the container's command cannot be run
  127    the container's command, or the interpreter that it names, is not found
  128+n  the container's command was ended by signal n
  other  the container's command ended with it

Ids may be shortened as long as they stay unique, for rm and rmi to four digits at least.";

/// A Docker-style image layer store without a daemon
#[derive(Debug, Parser)]
#[command(name = "layerctl", version, after_help = EXIT_STATUSES, max_term_width = 100)]
pub(super) struct Arguments {
    /// The store [env: LAYERCTL_ROOT] [default: /var/lib/layerctl, for users $XDG_DATA_HOME/layerctl]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// Print ids only, and show no progress
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// How results are printed: text, json, or of lists and inspect a Go template, as '{{.ID}}' or 'table {{.ID}}\t{{.Size}}'
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT", hide_default_value = true)]
    pub(super) format: Format,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Import(import::Import),
    Images(images::Images),
    History(history::History),
    Tag(tag::Tag),
    Untag(untag::Untag),
    Rmi(rmi::Rmi),
    Exists(exists::Exists),
    RunMount(run_mount::RunMount),
    Ps(ps::Ps),
    Umount(umount::Umount),
    Build(build::Build),
    Commit(commit::Commit),
    Rm(rm::Rm),
    Save(save::Save),
    Diff(diff::Diff),
    Explain(explain::Explain),
    Export(export::Export),
    Cp(cp::Cp),
    Inspect(inspect::Inspect),
    Union(union::Union),
    Layers(layers::Layers),
    Df(df::Df),
    Prune(prune::Prune),
    Verify(verify::Verify),
}

impl Command {
    /// What `-f` says, where that is `--format`, as Docker has it.
    pub(super) fn own_format(&self) -> Option<Format> {
        match self {
            Self::Inspect(inspect) => inspect.template.clone(),
            _ => None,
        }
    }

    /// Whether it only shows what is there, and by a template too.
    pub(super) const fn takes_template(&self) -> bool {
        matches!(
            self,
            Self::Images(_)
                | Self::History(_)
                | Self::Ps(_)
                | Self::Layers(_)
                | Self::Df(_)
                | Self::Diff(_)
                | Self::Explain(_)
                | Self::Inspect(_)
                | Self::Verify(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
