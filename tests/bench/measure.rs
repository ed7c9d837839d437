//! Interleaved rounds: A B C, A B C, ...

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::children;
use crate::image::Image;
use crate::mounted::{Messages, Mounted};
use crate::report::{Cell, Figures, Report, Section};
use crate::row::{Group, Row, Scene, groups};
use crate::small_disk::SmallDisk;
use crate::system::{FUSE_OVERLAYFS2, OVERLAYFS, System};
use crate::table;
use crate::watchdog::Watchdog;
use crate::world::World;

/// Runs all wanted rows of all unions.
pub(crate) fn unions(arguments: &Arguments, world: &World, systems: &[System], report: &mut Report) -> Result<()> {
    let names = systems.iter().map(|system| (system.name.clone(), system.version.clone())).collect();
    report.sections.push(Section::new("unions", names, &[OVERLAYFS, FUSE_OVERLAYFS2]));
    for group in groups(world.amounts) {
        let Some(last) = group.rows.iter().rposition(|row| arguments.wants_row(&row.name)) else { continue };
        let figures = run_group(arguments, world, systems, &group, last);
        let Some(section) = report.sections.last_mut() else { continue };
        for figures in figures {
            // The whole table follows at the end.
            eprintln!("{}", table::block(section, &figures));
            section.rows.push(figures);
        }
        report.save(arguments)?;
        if children::interrupted() {
            bail!("interrupted");
        }
    }
    Ok(())
}

/// The figures of the group's wanted rows up to the last wanted one.
fn run_group(arguments: &Arguments, world: &World, systems: &[System], group: &Group, last: usize) -> Vec<Figures> {
    let rows: Vec<(&Row, bool)> = group.rows[..=last]
        .iter()
        .map(|row| (row, arguments.wants_row(&row.name)))
        .filter(|(row, wanted)| *wanted || row.makes_state)
        .collect();
    let mut cells = vec![vec![Cell::default(); systems.len()]; rows.len()];
    let prepared = (|| -> Result<_> {
        let disk = group.disk.map(|megabytes| SmallDisk::new(&world.dir, megabytes)).transpose()?;
        let other = disk.as_ref().map(|disk| world.on(disk.path()));
        let image = (group.image)(other.as_ref().unwrap_or(world))?;
        Ok((disk, other, image))
    })();
    match prepared {
        Err(error) => fail(cells.iter_mut().flatten(), &format!("{error:#}")),
        Ok((_disk, other, image)) => {
            let world = other.as_ref().unwrap_or(world);
            for _ in 0..arguments.rounds() {
                for (number, system) in systems.iter().enumerate() {
                    if children::interrupted() {
                        break;
                    }
                    let column = cells.iter_mut().map(|cells| &mut cells[number]);
                    run_once(world, system, &image, rows.iter().copied().zip(column).collect());
                }
            }
        }
    }
    let all = rows.iter().zip(cells).filter(|((_, wanted), _)| *wanted);
    all.map(|((row, _), cells)| Figures { name: row.name.clone(), title: row.title.clone(), unit: row.unit, cells })
        .collect()
}

/// One system, one round: a fresh mount, and the rows in it. What failed once is not tried again.
fn run_once(world: &World, system: &System, image: &Image, mut rows: Vec<((&Row, bool), &mut Cell)>) {
    if rows.iter().all(|(_, cell)| cell.failure.is_some()) {
        return;
    }
    let mounted = match Mounted::new(system, image, world) {
        Ok(mounted) => mounted,
        Err(error) => return fail(rows.iter_mut().map(|(_, cell)| &mut **cell), &format!("cannot mount: {error:#}")),
    };
    let _watchdog = Watchdog::new(&mounted.servers);
    let scene = Scene { world, image, mounted: &mounted };
    for ((row, wanted), cell) in rows {
        if cell.failure.is_some() || children::interrupted() {
            continue;
        }
        match measure(row, &scene, wanted) {
            Ok(Some((figure, messages))) => {
                cell.samples.push(figure);
                cell.messages.extend(messages);
            }
            Ok(None) => {}
            Err(_) if children::interrupted() => {}
            Err(error) => cell.failure = Some(format!("{error:#}")),
        }
    }
}

fn measure(row: &Row, scene: &Scene<'_>, wanted: bool) -> Result<Option<(f64, Option<Messages>)>> {
    (row.prepare)(scene)?;
    rustix::fs::sync();
    let before = wanted.then(|| scene.mounted.messages()).flatten();
    let figure = (row.run)(scene)?;
    let after = before.is_some().then(|| scene.mounted.messages()).flatten();
    let messages = before.zip(after).map(|(before, after)| difference(&before, after));
    Ok(figure.map(|figure| (figure, messages)))
}

fn difference(before: &Messages, after: Messages) -> Messages {
    let since = |name: &String, count: u64| count.saturating_sub(before.get(name).copied().unwrap_or(0));
    after.into_iter().map(|(name, count)| (name.clone(), since(&name, count))).filter(|(_, count)| *count > 0).collect()
}

fn fail<'a>(cells: impl Iterator<Item = &'a mut Cell>, why: &str) {
    for cell in cells {
        cell.failure.get_or_insert_with(|| why.to_owned());
    }
}
