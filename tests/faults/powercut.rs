//! Power cuts at every flush that the disk sees.
//!
//! A scenario runs on a file system on a [`Disk`]. For each flush the disk is put together as it was then, mounted, and
//! judged: nothing is damaged, and the scenario run once more gives what it has to give. At the last one, all must be there
//! that the scenario has said is done.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use nix::mount::{MntFlags, umount2};

use super::disk::{Disk, Event};
use super::ground::{Ground, Input, PATIENCE};
use super::load;
use super::scenario::{SCENARIOS, Scenario, Step};
use super::state;
use super::template;
use super::traced::Traced;
use super::tree::{Entry, Tree};

/// By their mkfs(8), with megabytes.
const FILE_SYSTEMS: [(&str, u64, &[&str]); 3] =
    [("ext4", 64, &["-q", "-m", "0"]), ("xfs", 304, &["-q"]), ("btrfs", 128, &["-q", "-m", "dup"])];

/// What has said that it is done is on the disk.
const DURABLE: [&str; 18] = [
    "import",
    "import-pipe",
    "import-root",
    "build",
    "run-mount",
    "serve-commit",
    "union",
    "umount",
    "commit-mounted",
    "cp-mounted",
    "commit",
    "save",
    "save-dir",
    "export",
    "cp-in",
    "diff-tar",
    "tag",
    "repair",
];
/// What only has to leave the store whole: it removes something, or is the work of a command in a container.
const WHOLE: [&str; 6] = ["rm", "rmi", "untag", "prune", "rm-mounted", "run-command"];

/// A scenario, as the disk saw it.
struct Recording {
    events: Vec<Event>,
    /// How many of these were there when the scenario began.
    begin: usize,
    start: SystemTime,
    /// What there was when it had said that it was done.
    done: Tree,
    /// The names of what the program has flushed.
    flushes: BTreeSet<String>,
    /// Names in the store and in `out` that were given and not flushed.
    unflushed: Vec<PathBuf>,
}

struct Cutter<'a> {
    work: &'a Path,
    fs: &'static str,
    ground: Ground,
}

/// `powercut [--only SCENARIO] [--fs TYPE] [--without each]`.
pub(crate) fn run(args: &[String], work: &Path) -> Option<ExitCode> {
    let (mut only, mut fs_only, mut without) = (None, None, false);
    for pair in args.chunks(2) {
        let [option, value] = pair else { return None };
        match option.as_str() {
            "--only" => only = Some(value.clone()),
            "--fs" => fs_only = Some(value.clone()),
            "--without" if value == "each" => without = true,
            _ => return None,
        }
    }
    let wanted = |scenario: &&Scenario| {
        let is_known = DURABLE.contains(&scenario.name) || WHOLE.contains(&scenario.name);
        is_known && only.as_ref().is_none_or(|only| only == scenario.name)
    };
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(wanted).collect();
    for dir in ["disk", "fuse"] {
        fs::create_dir(work.join(dir)).expect("a directory is made");
    }
    let template = template::make(work, work.join("disk/point"));
    let mut cutters = Vec::new();
    for (fs, megabytes, options) in FILE_SYSTEMS {
        if fs_only.as_ref().is_some_and(|only| only != fs) {
            continue;
        }
        if !is_known(fs) {
            println!("{fs}: left out, as the kernel does not know it or mkfs.{fs} is missing");
            continue;
        }
        let cutter = Cutter { work, fs, ground: Ground::new(work.join("disk/point")) };
        cutter.make(megabytes, options, &template);
        cutters.push(cutter);
    }
    let (mut cuts, mut found) = (0, 0);
    for cutter in &cutters {
        for scenario in &scenarios {
            let (number, findings) = cutter.judge(scenario, &cutter.record(scenario, "flushes"), false);
            cuts += number;
            found += findings.len();
            println!("{} {}: {number} cuts", cutter.fs, scenario.name);
            findings.iter().for_each(|finding| println!("{} {}: {finding}", cutter.fs, scenario.name));
        }
    }
    println!("{cuts} cuts on {} file systems; {found} findings", cutters.len());
    if without {
        let unnoticed = scenarios.iter().map(|scenario| without_each(&cutters, scenario)).sum::<usize>();
        println!("{unnoticed} flushes are not missed when they are left out");
    }
    Some(ExitCode::from(u8::from(found > 0)))
}

/// Whether there can be disks of this kind.
fn is_known(fs: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let mkfs = Command::new(format!("mkfs.{fs}")).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    known.split_whitespace().any(|word| word == fs) && mkfs.is_ok()
}

/// Leaves out the flushes of each name in turn, and says which were missed. How many were not.
fn without_each(cutters: &[Cutter<'_>], scenario: &Scenario) -> usize {
    let Some(first) = cutters.first() else { return 0 };
    let mut unnoticed = 0;
    for name in first.record(scenario, "flushes").flushes {
        let noticed = cutters.iter().find_map(|cutter| {
            let recording = cutter.record(scenario, &format!("without {name}"));
            let (_, findings) = cutter.judge(scenario, &recording, true);
            findings.into_iter().next().map(|finding| (cutter.fs, finding))
        });
        match noticed {
            Some((fs, finding)) => println!("{} without {name}: missed on {fs}: {finding}", scenario.name),
            None => {
                println!("{} without {name}: NOT MISSED", scenario.name);
                unnoticed += 1;
            }
        }
    }
    unnoticed
}

fn system(program: &str, args: &[&str], paths: &[&Path]) {
    let status =
        Command::new(program).args(args).args(paths).status().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {args:?} {paths:?}: {status}");
}

impl Cutter<'_> {
    fn base(&self) -> PathBuf {
        self.work.join(self.fs)
    }

    fn disk(&self) -> PathBuf {
        self.work.join("disk")
    }

    fn mount(&self, file: &Path) {
        system("mount", &["-o", "loop"], &[file, &self.disk()]);
    }

    fn umount(&self) {
        self.ground.end_all();
        for _ in 0..200 {
            if umount2(&self.disk(), MntFlags::empty()).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} is in use", self.disk().display());
    }

    /// A disk with the template on it.
    fn make(&self, megabytes: u64, options: &[&str], template: &Path) {
        let base = self.base();
        File::create(&base).and_then(|file| file.set_len(megabytes << 20)).expect("a file for a disk");
        system(&format!("mkfs.{}", self.fs), options, &[&base]);
        self.mount(&base);
        system("cp", &["-a"], &[template, self.ground.dir()]);
        self.umount();
    }

    /// Runs it, with what the tracer is to do.
    fn record(&self, scenario: &Scenario, what: &str) -> Recording {
        let content = self.work.join("recorded");
        system("cp", &["--sparse=always"], &[&self.base(), &content]);
        let disk = Disk::new(&content, &self.work.join("fuse"));
        self.mount(&disk.path());
        let start = SystemTime::now();
        if scenario.is_damaged {
            template::damage(&self.ground);
        }
        let run = |args: &[&str]| {
            let said = self.ground.run(args, Input::Nothing);
            assert!(said.is_done(), "{}: {args:?}: {}", scenario.name, said.brief());
        };
        for step in scenario.before {
            if let Step::Run(args) = step {
                run(args);
            }
        }
        rustix::fs::syncfs(File::open(self.ground.dir()).expect("a directory")).expect("it is flushed");
        let begin = disk.log.lock().expect("no panic").len();
        let mut traced = Traced::start(&self.ground, scenario.args, scenario.input, what);
        let said = traced.said(PATIENCE);
        assert_eq!(said.code, Some(scenario.status), "{}: {}", scenario.name, said.brief());
        for step in scenario.after {
            match step {
                Step::Run(args) => run(args),
                Step::Load => drop(load::reference(&self.ground.at("m"))),
            }
        }
        let events = std::mem::take(&mut *disk.log.lock().expect("no panic"));
        let done = durable(state::read(self.ground.dir(), start));
        let is_record = |path: &&PathBuf| {
            let kinds = ["store/diff", "store/layers", "store/images", "store/images/names", "out"];
            path.parent().is_some_and(|dir| kinds.iter().any(|kind| dir == self.ground.at(kind)))
        };
        let unflushed = traced.unflushed.iter().filter(is_record).cloned().collect();
        traced.ends(PATIENCE);
        let flushes = std::mem::take(&mut traced.flushes);
        drop(traced);
        self.umount();
        Recording { events, begin, start, done, flushes, unflushed }
    }

    /// Cuts at each flush. How many that were, and what did not hold; only the first of these if that is `enough`.
    fn judge(&self, scenario: &Scenario, recording: &Recording, enough: bool) -> (usize, Vec<String>) {
        let (image, cut) = (self.work.join("replayed"), self.work.join("cut"));
        system("cp", &["--sparse=always"], &[&self.base(), &image]);
        let file = File::options().write(true).open(&image).expect("a disk");
        let is_flush = |at: &usize| matches!(recording.events.get(*at), Some(Event::Flush));
        let flushes: Vec<usize> = (0..recording.events.len()).filter(is_flush).collect();
        let last = flushes.last().copied().unwrap_or(0);
        let (mut cuts, mut findings, mut applied) = (0, Vec::new(), 0);
        // What is written after the last flush may all be lost.
        for at in flushes.into_iter().filter(|at| *at >= recording.begin || *at == last) {
            let mut has_new = false;
            for event in &recording.events[applied..at] {
                if let Event::Write { offset, data } = event {
                    file.write_all_at(data, *offset).expect("a tmpfs takes it");
                    has_new = true;
                }
            }
            applied = at;
            if !has_new && at != last {
                continue;
            }
            system("cp", &["--sparse=always"], &[&image, &cut]);
            self.mount(&cut);
            cuts += 1;
            let found = self.look(scenario, recording, at == last);
            self.umount();
            let which = if at == last { "the last cut".to_owned() } else { format!("cut {cuts}") };
            findings.extend(found.into_iter().map(|finding| format!("{which}: {finding}")));
            if enough && !findings.is_empty() {
                break;
            }
        }
        (cuts, findings)
    }

    /// After a cut.
    fn look(&self, scenario: &Scenario, recording: &Recording, is_last: bool) -> Vec<String> {
        let mut findings = Vec::new();
        if is_last {
            // These file systems flush more than they are asked for. Another one need not have these names.
            for path in recording.unflushed.iter().filter(|path| path.exists()) {
                fs::rename(path, self.ground.at("aside")).expect("a name is taken away");
                let _ = fs::remove_dir_all(self.ground.at("aside"));
                let _ = fs::remove_file(self.ground.at("aside"));
            }
        }
        if is_last && DURABLE.contains(&scenario.name) {
            let found = durable(state::read(self.ground.dir(), recording.start));
            if found != recording.done {
                findings.push(recording.done.difference(&found));
            }
        }
        if !scenario.is_damaged {
            let verify = self.ground.run(&["verify"], Input::Nothing);
            if !verify.is_done() {
                let out = String::from_utf8_lossy(&verify.out).trim_end().replace('\n', " / ");
                findings.push(format!("verify: {} {out}", verify.brief()));
            }
        }
        let has_load = scenario.after.iter().any(|step| matches!(step, Step::Load));
        if !is_last && !has_load && scenario.before.is_empty() && DURABLE.contains(&scenario.name) {
            let again = self.ground.run(scenario.args, scenario.input);
            for step in scenario.after {
                if let Step::Run(args) = step {
                    self.ground.run(args, Input::Nothing);
                }
            }
            let found = durable(state::read(self.ground.dir(), recording.start));
            if found != recording.done {
                findings.push(format!("once more ({}): {}", again.brief(), recording.done.difference(&found)));
            }
        }
        findings
    }
}

/// What is to be there after a power cut: not what tells of live mounts, or is taken away by the next one. A record may also be where it was made, as a second
/// name of the same file, until the next import takes that away.
fn durable(tree: Tree) -> Tree {
    let is_kept = |path: &Path| {
        let text = path.display().to_string();
        let is_live = text.contains("/.wh..wh.work") || text.starts_with("store/run");
        !is_live && !text.starts_with("store/mnt") && !text.ends_with("/mount.json")
    };
    let linkless = |path: &Path, entry: Entry| {
        let line = match entry.line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            [mode, owner, _, rest] if !path.starts_with("store/diff") => format!("{mode} {owner} {rest}"),
            [mode, owner, _] if !path.starts_with("store/diff") => format!("{mode} {owner}"),
            _ => entry.line,
        };
        Entry { line, ..entry }
    };
    let kept = tree.0.into_iter().filter(|(path, _)| is_kept(path));
    Tree(kept.map(|(path, entry)| (path.clone(), linkless(&path, entry))).collect())
}
