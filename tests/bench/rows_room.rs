//! Rows about a disk that becomes full: what it costs that a write which says 0 has room.

use std::fs::File;
use std::io::{ErrorKind, Write as _};

use anyhow::{Result, bail};

use crate::row::{Group, Row, Scene, timed};
use crate::world::World;

const DISK_MEGABYTES: u64 = 160;
const WRITTEN: usize = 64 << 20;
const PIECE: usize = 4096;

pub(crate) fn group() -> Group {
    Group {
        image: Box::new(World::small),
        rows: vec![
            Row::new("room-short", "64 MiB written where there is room for twice as much", |scene| {
                let piece = [b'x'; PIECE];
                timed(|| {
                    let mut file = File::create_new(scene.mounted.root.join("short"))?;
                    (0..WRITTEN / PIECE).try_for_each(|_| Ok(file.write_all(&piece)?))
                })
            })
            .makes_state(),
            Row::new("room-none", "... and on until a write says that there is no room", until_full),
        ],
        disk: Some(DISK_MEGABYTES),
    }
}

fn until_full(scene: &Scene<'_>) -> Result<Option<f64>> {
    let piece = [b'y'; PIECE];
    timed(|| {
        let mut file = File::create_new(scene.mounted.root.join("full"))?;
        for _ in 0..(DISK_MEGABYTES << 20) / PIECE as u64 {
            match file.write_all(&piece) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                written => written?,
            }
        }
        bail!("no write says that the disk is full")
    })
}
