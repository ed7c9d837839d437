//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Measures unions and importers beside each other
#[derive(Debug, Parser)]
#[command(name = "peers", max_term_width = 100)]
pub(crate) struct Arguments {
    /// How often each system does each row
    #[arg(long, default_value_t = 7)]
    pub(crate) rounds: usize,
    /// Only these rows: names, with `*`, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "*", value_name = "GLOB")]
    pub(crate) rows: Vec<String>,
    /// Only these systems: names, with `*`, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "*", value_name = "GLOB")]
    pub(crate) systems: Vec<String>,
    /// One more system: ours with these arguments to `run-mount`, as `NAME=ARG ARG...`
    #[arg(long, value_name = "NAME=ARGS")]
    pub(crate) ours: Vec<String>,
    /// Where slim.docker.tar and slim.oci.tar are; without them, images are made
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// Where to work, on a real disk. What was prepared there is kept for the next time; without this, nothing is
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Write the figures here, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the picture here, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Small data and two rounds: shows that everything runs, and measures nothing
    #[arg(long)]
    pub(crate) quick: bool,
    /// List the rows and stop
    #[arg(long)]
    pub(crate) list: bool,
    /// The program to measure, instead of the one that was built with this
    #[arg(long, env = "LAYERCTL", value_name = "FILE")]
    pub(crate) layerctl: Option<PathBuf>,
    /// fuse-overlayfs 2.0, where it is not `fuse-overlayfs2` in $PATH
    #[arg(long, env = "FUSE_OVERLAYFS2", value_name = "FILE")]
    pub(crate) fuse_overlayfs2: Option<PathBuf>,
    /// What cargo adds for every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    pub(crate) fn wants_row(&self, name: &str) -> bool {
        self.rows.iter().any(|glob| matches(glob, name))
    }

    pub(crate) fn wants_system(&self, name: &str) -> bool {
        self.systems.iter().any(|glob| matches(glob, name))
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.layerctl.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_layerctl").into())
    }

    /// How many rounds there really are.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { self.rounds.min(2) } else { self.rounds }
    }
}

/// Only `*` has a meaning.
fn matches(glob: &str, name: &str) -> bool {
    let Some((head, tail)) = glob.split_once('*') else { return glob == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(tail, &rest[at..]))
}
