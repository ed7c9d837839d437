//! The import rows. All that was written is on the disk at the end of the time.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::children;
use crate::import_source::Source;
use crate::importers::{Form, Importer, clear};
use crate::report::{Cell, Figures, Report, Section};
use crate::row::Unit;
use crate::system::program;
use crate::table;
use crate::tree_walk;
use crate::world::World;

struct Row {
    name: &'static str,
    title: &'static str,
    form: Form,
    again: bool,
}

const ROWS: [Row; 4] = [
    Row { name: "import-docker", title: "docker-archive", form: Form::Docker, again: false },
    Row { name: "import-oci", title: "gzip OCI tar", form: Form::Oci, again: false },
    Row { name: "import-pipe", title: "docker-archive through a pipe", form: Form::Pipe, again: false },
    Row { name: "import-again", title: "docker-archive, imported again", form: Form::Docker, again: true },
];

/// The name and title of each.
pub(crate) fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().map(|row| (row.name, row.title))
}

/// Runs the wanted import rows.
pub(crate) fn measure(arguments: &Arguments, world: &World, report: &mut Report) -> Result<()> {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| arguments.wants_row(row.name)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let source = Source::new(world)?;
    let mut importers = Vec::new();
    for importer in Importer::ALL.into_iter().filter(|importer| arguments.wants_system(importer.name())) {
        if importer == Importer::Ours || program(importer.name()).is_some() {
            importers.push(importer);
        } else {
            report.missing.push(format!("{}: not in $PATH", importer.name()));
        }
    }
    let names = importers.iter().map(|importer| (importer.name().to_owned(), importer.way().to_owned())).collect();
    let references = [Importer::Tar.name(), Importer::Podman.name()];
    report.sections.push(Section::new("imports", names, &references));
    for row in rows {
        let mut cells = vec![Cell::default(); importers.len()];
        for _ in 0..arguments.rounds() {
            for (importer, cell) in importers.iter().zip(&mut cells) {
                if cell.failure.is_some() || children::interrupted() {
                    continue;
                }
                match once(*importer, row, &source, world) {
                    Ok(figure) => cell.samples.extend(figure),
                    Err(_) if children::interrupted() => {}
                    Err(error) => cell.failure = Some(format!("{error:#}")),
                }
            }
        }
        let figures = Figures { name: row.name.into(), title: row.title.into(), unit: Unit::Seconds, cells };
        if let Some(section) = report.sections.last_mut() {
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

/// A directory that goes with all that is in it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.0) {
            eprintln!("{error:#}");
        }
        rustix::fs::sync();
    }
}

fn once(importer: Importer, row: &Row, source: &Source, world: &World) -> Result<Option<f64>> {
    let dir = world.dir.join("import");
    clear(&dir)?;
    std::fs::create_dir_all(dir.join("tmp"))?;
    let scratch = Scratch(dir);
    let commands = || importer.commands(row.form, source, &scratch.0, &world.store.program);
    let Some(first) = commands() else { return Ok(None) };
    if row.again && importer == Importer::Tar {
        return Ok(None);
    }
    let _daemon = importer.daemon(&scratch.0)?;
    // The archive is in memory: what is measured is the import.
    for file in [&source.docker, &source.oci].into_iter().chain(&source.tars).chain(&source.blobs) {
        tree_walk::read(file, &mut vec![0; 1 << 20])?;
    }
    rustix::fs::sync();
    let figure = run(first, row, source)?;
    match commands() {
        Some(second) if row.again => run(second, row, source).map(Some),
        _ => Ok(Some(figure)),
    }
}

/// One import, and the sync after it.
fn run(commands: Vec<Command>, row: &Row, source: &Source) -> Result<f64> {
    let start = Instant::now();
    for mut command in commands {
        if row.form == Form::Pipe {
            let mut cat = Command::new("cat").arg(&source.docker).stdout(Stdio::piped()).spawn()?;
            let pipe = cat.stdout.take().map_or_else(Stdio::null, Stdio::from);
            let result = children::time_from(&mut command, pipe);
            // It holds our end of the pipe, and so cat.
            drop(command);
            cat.wait()?;
            result?;
        } else {
            children::time(&mut command)?;
        }
    }
    rustix::fs::sync();
    Ok(start.elapsed().as_secs_f64())
}
