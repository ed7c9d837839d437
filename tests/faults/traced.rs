//! A run of the program under the tracer, seen from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::ground::{Ground, Input, Said};
use super::point::Site;

pub(crate) struct Traced<'a> {
    ground: &'a Ground,
    tracer: Child,
    lines: Receiver<String>,
    outputs: (PathBuf, PathBuf),
    status: Option<i32>,
    /// What the disturbed call was and meant, once it was made.
    pub(crate) hit: Option<String>,
    /// How often each site was come to; complete at the end of all processes.
    pub(crate) counts: BTreeMap<Site, u32>,
    /// The names of what was flushed.
    pub(crate) flushes: BTreeSet<String>,
    /// Names that files got, and that no flush of their directory, or of all, has followed.
    pub(crate) unflushed: BTreeSet<PathBuf>,
    is_syncfs: bool,
    has_ended: bool,
}

impl<'a> Traced<'a> {
    /// Starts the program, for what the tracer is to do.
    pub(crate) fn start(ground: &'a Ground, args: &[&str], input: Input, what: &str) -> Self {
        let outputs = (ground.at("traced.out"), ground.at("traced.err"));
        let ourselves = std::env::current_exe().expect("this program has a path");
        let mut command = ground.command(ourselves.to_str().expect("a name in UTF-8"), input);
        command.args(["trace", what]).arg(&outputs.0).arg(&outputs.1).args(["--", super::ground::PROGRAM]).args(args);
        let mut tracer = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the tracer starts");
        let reader = BufReader::new(tracer.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || reader.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self {
            ground,
            tracer,
            lines,
            outputs,
            status: None,
            hit: None,
            counts: BTreeMap::new(),
            flushes: BTreeSet::new(),
            unflushed: BTreeSet::new(),
            is_syncfs: false,
            has_ended: false,
        }
    }

    fn read_until(&mut self, patience: Duration, is_enough: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + patience;
        while !is_enough(self) {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => {
                    self.has_ended = true;
                    return is_enough(self);
                }
            }
        }
        true
    }

    fn take(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "hit" => self.hit = Some(rest.to_owned()),
            "exited" => self.status = rest.parse().ok(),
            "count" => {
                let site = rest.split_once(' ').and_then(|(site, count)| {
                    let [process, thread, call] = *site.split(':').collect::<Vec<_>>() else { return None };
                    let site = Site { process: process.into(), thread: thread.into(), call: call.into() };
                    Some((site, count.parse().ok()?))
                });
                self.counts.extend(site);
            }
            "flush" => {
                self.is_syncfs = rest.starts_with("syncfs");
                self.flushes.insert(rest.to_owned());
            }
            "named" => {
                // The program works in the point's directory.
                self.unflushed.insert(self.ground.dir().join(rest));
            }
            // What is flushed is a directory, or, with syncfs(2), all.
            "flushed" => self.unflushed.retain(|name| !self.is_syncfs && name.parent() != Some(Path::new(rest))),
            "end" => self.has_ended = true,
            other => panic!("the tracer says {other}"),
        }
    }

    /// Waits for the end of the program itself.
    pub(crate) fn said(&mut self, patience: Duration) -> Said {
        self.read_until(patience, |traced| traced.status.is_some());
        self.ground.printed(self.status, &self.outputs.0, &self.outputs.1)
    }

    /// Waits for the end of all that it has started; whether that came.
    pub(crate) fn ends(&mut self, patience: Duration) -> bool {
        self.read_until(patience, |traced| traced.has_ended)
    }
}

impl Drop for Traced<'_> {
    fn drop(&mut self) {
        // All that it traces dies with it.
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}
