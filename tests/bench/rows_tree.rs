//! Rows that look at a whole root file system, and change nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::children;
use crate::row::{Group, Row, Scene, Unit, drop_caches, timed};
use crate::tree_walk;
use crate::world::World;

const EVERYTHING: &str = "%y %m %U %G %n %s %T@ %p %l\\n";

pub(crate) fn group() -> Group {
    Group {
        image: Box::new(World::root),
        disk: None,
        rows: vec![
            Row::new("walk-cold", "walk (find -printf), cold", |scene| walk(&scene.mounted.root))
                .makes_state()
                .prepare(|_| drop_caches()),
            // The second walk, exactly: so the messages are those that the first one did not save.
            Row::new("walk-warm", "walk (find -printf), warm", |scene| walk(&scene.mounted.root)),
            Row::new("noise", "noise: the same walk of a plain directory", |scene| walk(&scene.image.layer(0)))
                .prepare(|scene| walk(&scene.image.layer(0)).map(drop)),
            Row::new("memory", "resident memory of the server after a walk", |scene| {
                Ok(scene.mounted.resident().map(|size| size as f64))
            })
            .unit(Unit::Kibibytes),
            Row::new("ls", "ls -lR, warm", |scene| ls(&scene.mounted.root))
                .prepare(|scene| ls(&scene.mounted.root).map(drop)),
            Row::new("missing", "100,000 stats of missing names, warm", stat_missing)
                .prepare(|scene| stat_missing(scene).map(drop)),
            Row::new("read-cold", "read every file, cold", read).makes_state().prepare(|_| drop_caches()),
            Row::new("read-warm", "read every file, warm", read),
        ],
    }
}

fn walk(root: &Path) -> Result<Option<f64>> {
    children::time(Command::new("find").arg(root).args(["-printf", EVERYTHING])).map(Some)
}

fn ls(root: &Path) -> Result<Option<f64>> {
    children::time(Command::new("ls").arg("-lR").arg(root).env("LC_ALL", "C")).map(Some)
}

fn read(scene: &Scene<'_>) -> Result<Option<f64>> {
    timed(|| tree_walk::read_all(&scene.mounted.root))
}

fn stat_missing(scene: &Scene<'_>) -> Result<Option<f64>> {
    let directories = tree_walk::directories(&scene.mounted.root)?;
    let count = scene.world.amounts.missing_names;
    let names: Vec<PathBuf> =
        directories.iter().cycle().take(count).enumerate().map(|(n, dir)| dir.join(format!("missing-{n}"))).collect();
    timed(|| match names.iter().find(|name| fs::symlink_metadata(name).is_ok()) {
        Some(name) => bail!("{} is there", name.display()),
        None => Ok(()),
    })
}
