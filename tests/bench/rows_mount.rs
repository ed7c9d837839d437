//! Rows that time the mount itself, until a byte of the bottom layer was read.

use std::fs::File;
use std::io::Read as _;

use anyhow::Result;

use crate::row::{Group, Row, Scene, timed};
use crate::tree;
use crate::world::{Amounts, World};

const LAYERS: [usize; 3] = [1, 44, 500];

pub(crate) fn groups(amounts: Amounts) -> Vec<Group> {
    let sizes = [("few", amounts.few), ("many", amounts.many)];
    let group = |(word, files): (&str, usize), layers: usize| Group {
        image: Box::new(move |world: &World| world.mounted_image(files, layers)),
        disk: None,
        rows: vec![Row::new(
            &format!("mount-{word}-{layers}"),
            &format!("mount to first byte, {files} files, {layers} layers"),
            first_byte,
        )],
    };
    sizes.into_iter().flat_map(|size| LAYERS.map(|layers| group(size, layers))).collect()
}

fn first_byte(scene: &Scene<'_>) -> Result<Option<f64>> {
    let reading = timed(|| {
        let mut file = File::open(scene.mounted.root.join(tree::first_file()))?;
        Ok(file.read_exact(&mut [0])?)
    })?;
    Ok(reading.map(|reading| scene.mounted.mounting + reading))
}
