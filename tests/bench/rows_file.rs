//! Rows with many small files, and with a large one.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::random::Random;
use crate::row::{Group, Row, Scene, drop_caches, timed};
use crate::tree_walk;
use crate::world::World;

const FILES_PER_DIRECTORY: usize = 100;
const SMALL: usize = 1000;
const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;

pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group {
            image: Box::new(World::work),
            disk: None,
            rows: vec![
                Row::new("small-create", "10,000 small files created", small_create).makes_state().prepare(|scene| {
                    (0..scene.world.amounts.small_files.div_ceil(FILES_PER_DIRECTORY))
                        .try_for_each(|n| Ok(fs::create_dir(scene.mounted.root.join(format!("small-{n}")))?))
                }),
                Row::new("small-append", "... appended to", small_append),
                Row::new("small-read", "... read", |scene| {
                    let mut buffer = vec![0; PAGE];
                    timed(|| small(scene).try_for_each(|path| tree_walk::read(&path, &mut buffer)))
                }),
                Row::new("small-remove", "... removed", |scene| {
                    timed(|| small(scene).try_for_each(|path| Ok(fs::remove_file(path)?)))
                }),
            ],
        },
        Group {
            image: Box::new(World::work),
            disk: None,
            rows: vec![
                Row::new("big-fsync", "1 GiB written and synced", |scene| write(scene, "synced", true)),
                Row::new("big-write", "1 GiB written", |scene| write(scene, "written", false)).makes_state(),
                Row::new("big-read-cold", "1 GiB read, cold", read).prepare(|_| drop_caches()),
                Row::new("big-read-warm", "1 GiB read, warm", read).prepare(|scene| read(scene).map(drop)),
                Row::new("random-read-cold", "20,000 random reads of 4 KiB, cold", random_read)
                    .prepare(|_| drop_caches()),
                Row::new("random-read-warm", "20,000 random reads of 4 KiB, warm", random_read)
                    .prepare(|scene| read(scene).map(drop)),
                Row::new("random-write", "20,000 random writes of 4 KiB and a sync", random_write)
                    .prepare(|scene| read(scene).map(drop)),
            ],
        },
        Group {
            image: Box::new(World::work),
            disk: None,
            rows: vec![
                Row::new("copy-up", "one byte appended to a lower file of 1 GiB", append_to_lower)
                    .prepare(|scene| tree_walk::read(&scene.mounted.root.join("big"), &mut vec![0; BLOCK])),
            ],
        },
    ]
}

fn small<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = PathBuf> + 'a {
    let root = &scene.mounted.root;
    (0..scene.world.amounts.small_files).map(move |n| root.join(format!("small-{}/file-{n}", n / FILES_PER_DIRECTORY)))
}

fn small_create(scene: &Scene<'_>) -> Result<Option<f64>> {
    let data = [b'x'; SMALL];
    timed(|| small(scene).try_for_each(|path| Ok(File::create_new(path)?.write_all(&data)?)))
}

fn small_append(scene: &Scene<'_>) -> Result<Option<f64>> {
    let data = [b'y'; SMALL];
    timed(|| small(scene).try_for_each(|path| Ok(OpenOptions::new().append(true).open(path)?.write_all(&data)?)))
}

fn data(scene: &Scene<'_>) -> PathBuf {
    scene.mounted.root.join("written")
}

fn write(scene: &Scene<'_>, name: &str, sync: bool) -> Result<Option<f64>> {
    let mut buffer = vec![0; BLOCK];
    Random::new(1).fill(&mut buffer);
    let path = scene.mounted.root.join(name);
    let result = timed(|| {
        let mut file = File::create_new(&path)?;
        for _ in 0..scene.world.amounts.bytes / BLOCK as u64 {
            file.write_all(&buffer)?;
        }
        if sync { file.sync_all().context("cannot sync") } else { Ok(()) }
    });
    if sync {
        fs::remove_file(path)?;
    }
    // Only the writing itself counts; what is left to be written must not slow the next row.
    rustix::fs::sync();
    result
}

fn read(scene: &Scene<'_>) -> Result<Option<f64>> {
    let mut buffer = vec![0; BLOCK];
    timed(|| tree_walk::read(&data(scene), &mut buffer))
}

fn offsets(path: &Path, count: usize, seed: u64) -> Result<Vec<u64>> {
    let pages = fs::metadata(path)?.len() / PAGE as u64;
    let mut random = Random::new(seed);
    Ok((0..count).map(|_| random.below(pages) * PAGE as u64).collect())
}

fn random_read(scene: &Scene<'_>) -> Result<Option<f64>> {
    let offsets = offsets(&data(scene), scene.world.amounts.random_reads, 2)?;
    let mut page = [0; PAGE];
    timed(|| {
        let file = File::open(data(scene))?;
        offsets.iter().try_for_each(|at| Ok(file.read_exact_at(&mut page, *at)?))
    })
}

fn random_write(scene: &Scene<'_>) -> Result<Option<f64>> {
    let offsets = offsets(&data(scene), scene.world.amounts.random_writes, 3)?;
    let page = [b'z'; PAGE];
    timed(|| {
        let file = OpenOptions::new().write(true).open(data(scene))?;
        offsets.iter().try_for_each(|at| file.write_all_at(&page, *at))?;
        file.sync_all().context("cannot sync")
    })
}

fn append_to_lower(scene: &Scene<'_>) -> Result<Option<f64>> {
    timed(|| Ok(OpenOptions::new().append(true).open(scene.mounted.root.join("big"))?.write_all(b"!")?))
}
