//! The command line: words to requests, results to text. Data go to standard output, everything else to
//! standard error.
//!
//! One file per command; [`output`] prints, [`list`] a table, JSON, or what a [`template`] says; [`filter`] chooses what is
//! listed; [`bars`] shows progress.

mod args;
mod bars;
mod build;
mod commit;
mod config_options;
mod cp;
mod df;
mod diff;
mod exists;
mod explain;
mod export;
mod filter;
mod format;
mod history;
mod images;
mod import;
mod inspect;
mod layers;
mod list;
mod output;
mod path_text;
mod prune;
mod ps;
mod rm;
mod rmi;
mod run_mount;
mod save;
mod tag;
mod template;
mod umount;
mod union;
mod untag;
mod verify;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Arguments, Command};
use output::{Output, visible};
use union::UnionProgram;

use crate::error::{Error, Result};
use crate::store::Store;
use crate::{commands, container};

/// The name under which mount(8) calls us.
const MOUNT_HELPER: &str = "mount.fuse.layerctl";

/// What a command needs to know of how it was called.
struct Context {
    store: Store,
    output: Output,
    quiet: bool,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let result = match args.get(1).and_then(|word| word.to_str()) {
        Some(container::STAGE) => container::stage(&args),
        _ if is_mount_helper(&args) => {
            let args = args.get(1..).unwrap_or_default();
            commands::mount_helper(existing_store().as_ref(), args).map(|()| 0)
        }
        _ if UnionProgram::is_meant(&args) => match UnionProgram::try_parse_from(&args) {
            Ok(program) => program.run(),
            Err(error) => return usage(error, false),
        },
        // Its standard error is the container's log.
        Some(commands::SERVE) => commands::serve().map(|()| 0),
        Some(commands::MOUNT_TASK) => commands::mount_task().map(|()| 0),
        _ => match Arguments::try_parse_from(&args) {
            Ok(arguments) => run(arguments, args.iter().any(|word| word == "--")),
            Err(error) => return usage(error, args.iter().any(|word| word == "run-mount")),
        },
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// The definition of the command line, for what is generated of it.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Help and version are data; what is wrong with the words is not.
fn usage(mut error: clap::Error, is_run_mount: bool) -> ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if error.kind() == ErrorKind::UnknownArgument {
        // clap suggests to pass the unknown option as a name (`-- --option`): here it is a mistyped option, never a name.
        error.remove(ContextKind::Suggested);
        let is_word =
            matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(word)) if !word.starts_with('-'));
        if is_run_mount && is_word {
            let tip = "what is to be run comes after --: run-mount IMAGE -- CMD ARG...";
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
    }
    #[expect(clippy::let_underscore_must_use, reason = "there is no other place to say it")]
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn is_mount_helper(args: &[OsString]) -> bool {
    args.first().map(std::path::Path::new).and_then(std::path::Path::file_name).is_some_and(|name| name == MOUNT_HELPER)
}

/// Opens the store that `--root` or `LAYERCTL_ROOT` names, or else the caller's own.
fn store(given: Option<PathBuf>) -> Result<Store> {
    given.or_else(named_root).map_or_else(Store::open_default, |root| Store::open(&root))
}

fn named_root() -> Option<PathBuf> {
    std::env::var_os("LAYERCTL_ROOT").filter(|root| !root.is_empty()).map(Into::into)
}

/// The store in which a mount of plain directories is registered, which needs none: when a machine starts, there may be no
/// place for one, nor anything in the environment that says where it is.
fn existing_store() -> Option<Store> {
    // error: it is said, and what else is done does not depend on it
    Store::open_existing(named_root().as_deref()).unwrap_or_else(|error| {
        say(&format!("warning: the mount is in no store, so that only umount(8) knows it: {error}"));
        None
    })
}

fn run(arguments: Arguments, has_separator: bool) -> Result<u8> {
    let Arguments { root: given, quiet, format, command } = arguments;
    let format = command.own_format().unwrap_or(format);
    format.check(command.takes_template())?;
    let context = Context { store: store(given)?, output: Output::new(format), quiet };
    match command {
        Command::Import(import) => import.run(&context),
        Command::Images(images) => images.run(&context),
        Command::History(history) => history.run(&context),
        Command::Tag(tag) => tag.run(&context),
        Command::Untag(untag) => untag.run(&context),
        Command::Rmi(rmi) => rmi.run(&context),
        Command::Exists(exists) => exists.run(&context),
        Command::RunMount(run_mount) => run_mount.run(&context, has_separator),
        Command::Ps(ps) => ps.run(&context),
        Command::Build(build) => build.run(&context),
        Command::Commit(commit) => commit.run(&context),
        Command::Umount(umount) => umount.run(&context),
        Command::Rm(rm) => rm.run(&context),
        Command::Save(save) => save.run(&context),
        Command::Diff(diff) => diff.run(&context),
        Command::Explain(explain) => explain.run(&context),
        Command::Export(export) => export.run(&context),
        Command::Cp(cp) => cp.run(&context),
        Command::Inspect(inspect) => inspect.run(&context),
        Command::Union(union) => union.run(&context),
        Command::Layers(layers) => layers.run(&context),
        Command::Df(df) => df.run(&context),
        Command::Prune(prune) => prune.run(&context),
        Command::Verify(verify) => verify.run(&context),
    }
}

/// Does the same to each of several names: one that fails does not keep the others from it. The first failure's
/// exit status is the command's.
fn for_each(names: &[String], mut run: impl FnMut(&str) -> Result<()>) -> u8 {
    let mut status = 0;
    for name in names {
        if let Err(error) = run(name) {
            report(&error);
            status = if status == 0 { error.exit_code() } else { status };
        }
    }
    status
}

/// With `--force`, a container or image that does not exist is reported and is no failure: the caller wants it gone.
fn forgive(error: Error) -> Result<()> {
    if !matches!(error, Error::NotFound { kind: "container" | "image", .. }) {
        return Err(error);
    }
    report(&error);
    Ok(())
}

/// Says what went wrong, in one sentence.
fn report(error: &Error) {
    say(&format!("error: {error}"));
}

/// Says something on standard error, on one line.
fn say(text: &str) {
    // The names in an archive are whatever its maker wrote.
    let text = visible(text);
    #[expect(clippy::let_underscore_must_use, reason = "there is no other place to say it")]
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
