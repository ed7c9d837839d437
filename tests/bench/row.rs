//! What is timed: groups of rows that share a mount.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::image::Image;
use crate::mounted::Mounted;
use crate::world::{Amounts, World};
use crate::{rows_file, rows_mount, rows_room, rows_tool, rows_tree};

/// Makes an image, or finds that it is there.
pub(crate) type Prepare = Box<dyn Fn(&World) -> Result<Image>>;

/// Rows that run one after the other in one mount.
pub(crate) struct Group {
    /// What is mounted.
    pub(crate) image: Prepare,
    pub(crate) rows: Vec<Row>,
    /// The megabytes of a disk of its own, where it is to be another one than the other groups'.
    pub(crate) disk: Option<u64>,
}

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// Later rows need what this one does.
    pub(crate) makes_state: bool,
    /// Outside the time.
    pub(crate) prepare: fn(&Scene<'_>) -> Result<()>,
    /// The figure; none if the row says nothing about this system.
    pub(crate) run: fn(&Scene<'_>) -> Result<Option<f64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Kibibytes,
}

/// Where a row works.
pub(crate) struct Scene<'a> {
    pub(crate) world: &'a World,
    pub(crate) image: &'a Image,
    pub(crate) mounted: &'a Mounted<'a>,
}

/// All of them, in the order of the table.
pub(crate) fn groups(amounts: Amounts) -> Vec<Group> {
    let mut groups = vec![rows_tree::group()];
    groups.extend(rows_tool::groups());
    groups.extend(rows_file::groups());
    groups.push(rows_room::group());
    groups.extend(rows_mount::groups(amounts));
    groups
}

impl Row {
    pub(crate) fn new(name: &str, title: &str, run: fn(&Scene<'_>) -> Result<Option<f64>>) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            unit: Unit::Seconds,
            makes_state: false,
            prepare: |_| Ok(()),
            run,
        }
    }

    pub(crate) fn prepare(self, prepare: fn(&Scene<'_>) -> Result<()>) -> Self {
        Self { prepare, ..self }
    }

    pub(crate) fn makes_state(self) -> Self {
        Self { makes_state: true, ..self }
    }

    pub(crate) fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }
}

/// The time of work in this process.
pub(crate) fn timed(work: impl FnOnce() -> Result<()>) -> Result<Option<f64>> {
    let start = Instant::now();
    work()?;
    Ok(Some(start.elapsed().as_secs_f64()))
}

/// Makes the kernel forget pages, names and inodes.
pub(crate) fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the kernel's caches")
}
