//! `make bench`: the same layers through each union in turn, on one machine and one disk; and the same image through each importer.
//!
//! ```text
//! arguments ─► world (fixtures on the disk, systems found) ─► measure (interleaved rounds of rows) ─► report ─► text, JSON, SVG
//! ```
//!
//! | part | is |
//! |---|---|
//! | [`arguments`] | the command line |
//! | [`image`], [`archive`], [`tree`], [`projects`] | what is mounted and worked on: real images, or made with a fixed seed |
//! | [`system`], [`mounted`], [`children`] | the unions, one live mount of one, and the processes that belong to us |
//! | [`row`], `rows_*` | what is timed |
//! | [`measure`], [`report`], [`table`], [`json`], [`svg`], [`machine`] | rounds, figures, and how they are shown |
//! | [`import_source`], [`importers`], [`rows_import`] | the import rows |

mod archive;
mod arguments;
mod children;
mod image;
mod import_source;
mod importers;
mod json;
mod machine;
mod measure;
mod mounted;
mod projects;
mod random;
mod report;
mod row;
mod rows_file;
mod rows_import;
mod rows_mount;
mod rows_room;
mod rows_tool;
mod rows_tree;
mod small_disk;
mod svg;
mod system;
mod table;
mod tree;
mod tree_walk;
mod watchdog;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use arguments::Arguments;
use machine::Machine;
use report::Report;
use system::System;
use world::{Amounts, World};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        list(&arguments);
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    children::adopt()?;
    children::watch_for_signals()?;
    let world = World::new(arguments)?;
    let (systems, missing) = System::all(arguments);
    for line in &missing {
        eprintln!("missing: {line}");
    }
    let mut report = Report::new(Machine::look(&world.dir), missing, arguments.rounds());
    let done = measure::unions(arguments, &world, &systems, &mut report)
        .and_then(|()| rows_import::measure(arguments, &world, &mut report));
    println!("{}", table::text(&report));
    report.save(arguments)?;
    done
}

fn list(arguments: &Arguments) {
    let groups = row::groups(Amounts::new(arguments.quick));
    for row in groups.iter().flat_map(|group| &group.rows) {
        println!("{:<20} {}", row.name, row.title);
    }
    for (name, title) in rows_import::list() {
        println!("{name:<20} {title}");
    }
}
