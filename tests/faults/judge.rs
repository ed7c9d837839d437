//! One point: the run, and what must hold after it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::ground::{Ground, Input, PATIENCE, Said};
use super::load;
use super::point::{Fault, Point, Site};
use super::scenario::{Scenario, Step};
use super::state::{self, Names};
use super::template;
use super::traced::Traced;
use super::tree::Tree;

/// What an undisturbed run gives.
pub(crate) struct Baseline {
    out: String,
    state: Tree,
    /// Before the run, for those that only read.
    before: Tree,
    reference: BTreeMap<&'static str, Vec<Tree>>,
    /// How often each site is come to.
    pub(crate) counts: BTreeMap<Site, u32>,
}

/// What a point came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The call that was disturbed, if it came to that.
    pub(crate) hit: Option<String>,
    /// What did not hold.
    pub(crate) findings: Vec<String>,
    pub(crate) hangs: bool,
}

/// Where and from what points are tried.
pub(crate) struct Place<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) template: &'a Path,
}

/// What a load in the mount came to.
struct Loaded {
    printed: String,
    ended: bool,
}

impl Loaded {
    fn is_all(&self) -> bool {
        self.ended
            && load::progress(&self.printed).values().filter(|progress| !progress.failed).count() == load::STEPS.len()
    }
}

impl Place<'_> {
    fn load(&self) -> Loaded {
        let ourselves = std::env::current_exe().expect("this program has a path");
        let mut command = self.ground.command(ourselves.to_str().expect("a name in UTF-8"), Input::Nothing);
        let said = self.ground.said(command.arg("load").arg(self.ground.at("m")), "load");
        Loaded { printed: String::from_utf8_lossy(&said.out).into_owned(), ended: said.is_done() }
    }

    /// Makes all anew up to the disturbed run; gives when that was.
    fn prepare(&self, scenario: &Scenario) -> SystemTime {
        self.ground.reset(self.template);
        let start = SystemTime::now();
        if scenario.is_damaged {
            template::damage(self.ground);
        }
        for step in scenario.before {
            match step {
                Step::Run(args) => {
                    let said = self.ground.run(args, Input::Nothing);
                    assert!(said.is_done(), "{}: {args:?}: {}", scenario.name, said.brief());
                }
                Step::Load => assert!(self.load().is_all(), "{}: the load fails", scenario.name),
            }
        }
        start
    }

    /// Runs it undisturbed, twice, and counts.
    pub(crate) fn baseline(&self, scenario: &Scenario) -> Baseline {
        let reference = self.reference(scenario);
        let [first, second] = [(); 2].map(|()| {
            let start = self.prepare(scenario);
            let before = state::read(self.ground.dir(), start);
            let names = Names::of(self.ground.dir());
            let mut traced = Traced::start(self.ground, scenario.args, scenario.input, "count");
            let said = traced.said(PATIENCE);
            assert_eq!(said.code, Some(scenario.status), "{}: {}", scenario.name, said.brief());
            let out = names.and(self.ground.dir()).printed(&said.out);
            self.after(scenario, &mut Outcome::default()).unwrap_or_else(|what| panic!("{}: {what}", scenario.name));
            assert!(traced.ends(PATIENCE), "{}: something goes on for ever", scenario.name);
            Baseline {
                out,
                state: state::read(self.ground.dir(), start),
                before,
                reference: BTreeMap::new(),
                counts: std::mem::take(&mut traced.counts),
            }
        });
        assert!(
            first.state == second.state,
            "{} is another each time: {}",
            scenario.name,
            first.state.difference(&second.state)
        );
        Baseline { reference, ..second }
    }

    /// The trees of a load that nothing disturbs.
    fn reference(&self, scenario: &Scenario) -> BTreeMap<&'static str, Vec<Tree>> {
        if !scenario.after.iter().any(|step| matches!(step, Step::Load)) {
            return BTreeMap::new();
        }
        self.prepare(scenario);
        let said = self.ground.run(scenario.args, Input::Nothing);
        assert!(said.is_done(), "{}: {}", scenario.name, said.brief());
        load::reference(&self.ground.at("m"))
    }

    /// What comes after the run. What does not go well is an error; how far the load came is kept in any case.
    fn after(&self, scenario: &Scenario, outcome: &mut Outcome) -> Result<(), String> {
        let mut result = Ok(());
        for step in scenario.after {
            let said = match step {
                Step::Load => continue_load(self.load(), outcome),
                Step::Run(args) => self.ran(args, outcome),
            };
            result = result.and(said);
        }
        result
    }

    fn ran(&self, args: &[&str], outcome: &mut Outcome) -> Result<(), String> {
        let said = self.ground.run(args, Input::Nothing);
        check_manners(args[0], &said, None, outcome);
        if said.is_done() { Ok(()) } else { Err(format!("{}: {}", args.join(" "), said.brief())) }
    }

    /// Tries one point.
    pub(crate) fn examine(&self, scenario: &Scenario, baseline: &Baseline, point: &Point) -> Outcome {
        let mut outcome = Outcome::default();
        let start = self.prepare(scenario);
        let names = Names::of(self.ground.dir());
        let mut traced = Traced::start(self.ground, scenario.args, scenario.input, &point.to_string());
        let said = traced.said(PATIENCE);
        let names = names.and(self.ground.dir());
        check_manners("it", &said, Some(point), &mut outcome);
        // A command that fails by itself leaves its exit status as it is, and then a sentence says what else went wrong.
        let is_done = said.code == Some(scenario.status) && (scenario.status == 0 || !said.err.contains("error: "));
        let mut progress = None;
        let mut after = Ok(());
        if is_done {
            let is_loaded = scenario.after.iter().any(|step| matches!(step, Step::Load));
            after = self.after(scenario, &mut outcome);
            if is_loaded {
                progress = std::fs::read_to_string(self.ground.at("load.out")).ok();
            }
        }
        let ends = traced.ends(if is_done && after.is_ok() { PATIENCE } else { Duration::from_millis(300) });
        outcome.hit.clone_from(&traced.hit);
        if outcome.hit.is_none() {
            return outcome;
        }
        if is_done && after.is_ok() {
            if !ends {
                outcome.findings.push("all went well, and processes stay".into());
            }
            let out = names.and(self.ground.dir()).printed(&said.out);
            if out != baseline.out && !scenario.tells_failures {
                outcome.findings.push(format!(
                    "exit status {} with another output: {out:?}, not {:?}",
                    scenario.status, baseline.out
                ));
            }
            // A server of plain directories that is killed after its mount has ended leaves its private marks, and no record says
            // so: the next mount takes them away.
            if scenario.name == "union"
                && point.fault == Fault::Kill
                && state::read(self.ground.dir(), start) != baseline.state
            {
                for args in [scenario.args, &["umount", "m"]] {
                    if let Err(what) = self.ran(args, &mut outcome) {
                        outcome.findings.push(format!("mounted once more: {what}"));
                    }
                }
            }
            self.same_state(baseline, start, "it says that all went well, and", &mut outcome);
        } else {
            if scenario.only_reads {
                self.unchanged(baseline, start, &mut outcome);
            }
            let is_kill = point.fault == Fault::Kill;
            self.recover(scenario, baseline, start, (progress, after.is_err(), is_kill), &mut outcome);
        }
        self.leftovers(&mut outcome);
        drop(traced);
        outcome
    }

    fn same_state(&self, baseline: &Baseline, start: SystemTime, when: &str, outcome: &mut Outcome) -> bool {
        let found = state::read(self.ground.dir(), start);
        let is_same = found == baseline.state;
        if !is_same {
            outcome.findings.push(format!("{when} {}", baseline.state.difference(&found)));
        }
        is_same
    }

    fn unchanged(&self, baseline: &Baseline, start: SystemTime, outcome: &mut Outcome) {
        let in_store = |tree: &Tree| {
            Tree(
                tree.0
                    .iter()
                    .filter(|(path, _)| path.starts_with("store"))
                    .map(|(path, entry)| (path.clone(), entry.clone()))
                    .collect(),
            )
        };
        let (before, found) = (in_store(&baseline.before), in_store(&state::read(self.ground.dir(), start)));
        if before != found {
            outcome.findings.push(format!("it only reads, and {}", before.difference(&found)));
        }
    }

    /// After a failure: nothing is damaged or lost, and once more it works.
    fn recover(
        &self,
        scenario: &Scenario,
        baseline: &Baseline,
        start: SystemTime,
        (progress, has_served, is_kill): (Option<String>, bool, bool),
        outcome: &mut Outcome,
    ) {
        if !scenario.is_damaged {
            let verify = self.ground.run(&["verify"], Input::Nothing);
            if !verify.is_done() {
                outcome.findings.push(format!(
                    "verify: {} {}",
                    verify.brief(),
                    String::from_utf8_lossy(&verify.out).trim_end().replace('\n', " / ")
                ));
            }
        }
        if has_served {
            // What is mounted is ended, at the second time at the latest.
            let target = if scenario.name == "union" { "m" } else { "n" };
            let is_mounted = || !self.ground.mounted().is_empty() || !self.ground.processes().is_empty();
            if is_mounted() {
                let first = self.ground.run(&["umount", target], Input::Nothing);
                if !self.ground.is_quiet(Duration::from_secs(2)) || is_mounted() {
                    let second = self.ground.run(&["umount", target], Input::Nothing);
                    if is_mounted() {
                        outcome.findings.push(format!(
                            "umount does not end the mount: {}; {}",
                            first.brief(),
                            second.brief()
                        ));
                        self.ground.end_all();
                    }
                }
            }
        }
        if let Some(path) = scenario.removed.map(|name| self.ground.at(name)).filter(|path| path.exists()) {
            std::fs::remove_dir_all(path).expect("what was copied can be removed");
        }
        let again = self.ground.run(scenario.args, scenario.input);
        if let (Some(progress), Some(0)) = (&progress, again.code) {
            let progress = load::progress(progress);
            outcome.findings.extend(load::judge(&self.ground.at("m"), &baseline.reference, &progress));
            for step in scenario.after {
                if let Step::Run(args) = step {
                    let again = self.ground.run(args, Input::Nothing);
                    if !again.is_done() {
                        outcome.findings.push(format!("once more, {}: {}", args.join(" "), again.brief()));
                    }
                }
            }
        } else if progress.is_some() {
            outcome.findings.push(format!("mounted once more: {}", again.brief()));
        } else {
            let mut rest = Outcome::default();
            let after = if again.code == Some(scenario.status) || !self.ground.mounted().is_empty() {
                self.after(scenario, &mut rest)
            } else {
                Ok(())
            };
            if let Err(what) = after {
                outcome.findings.push(format!("once more: {what}"));
            }
            // Killed between the names and the image: it has no name any more, which is what `prune` is for.
            if is_kill && scenario.name == "rmi" && again.code == Some(1) {
                let pruned = self.ground.run(&["prune"], Input::Nothing);
                if !pruned.is_done() {
                    outcome.findings.push(format!("prune: {}", pruned.brief()));
                }
            }
            let is_quiet = self.ground.is_quiet(Duration::from_secs(2));
            let when = format!("once more ({}):", again.brief());
            if is_quiet && again.code.is_some() {
                self.same_state(baseline, start, &when, outcome);
            } else {
                outcome.findings.push(format!("{when} it does not end"));
            }
        }
    }

    /// Nothing is mounted, no process is left, and nothing is in `tmp/` after the next import.
    fn leftovers(&self, outcome: &mut Outcome) {
        if !self.ground.is_quiet(Duration::from_secs(2)) {
            let lines = self.ground.processes().into_iter().map(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).replace('\0', " ")
            });
            outcome.findings.push(format!("processes stay: {:?}", lines.collect::<Vec<_>>()));
        }
        let mounted = self.ground.mounted();
        if !mounted.is_empty() {
            outcome.findings.push(format!("a mount stays: {mounted:?}"));
        }
        let lives = || std::fs::read_dir(self.ground.at("store/run")).map_or(0, Iterator::count);
        if lives() > 0 {
            // What a dead server has left there goes with the next mount.
            self.ground.run(&["run-mount", "--name", "next", "small", "m"], Input::Nothing);
            let ended = self.ground.run(&["rm", "-f", "next"], Input::Nothing);
            if lives() > 0 {
                outcome.findings.push(format!("run/ has something left after another mount ({})", ended.brief()));
            }
        }
        if !self.ground.debris().is_empty() {
            let import = self.ground.run(&["import", "in/small.tar"], Input::Nothing);
            let debris = self.ground.debris();
            if !import.is_done() || !debris.is_empty() {
                outcome.findings.push(format!("{debris:?} stay in tmp/ after an import ({})", import.brief()));
            }
        }
    }
}

fn continue_load(loaded: Loaded, outcome: &mut Outcome) -> Result<(), String> {
    if !loaded.ended {
        outcome.hangs = true;
        outcome.findings.push(format!("work in the mount hangs after {:?}", loaded.printed.lines().last()));
    }
    if loaded.is_all() {
        Ok(())
    } else {
        Err(format!(
            "the load: {}",
            loaded.printed.lines().filter(|line| !line.ends_with("done")).collect::<Vec<_>>().join("; ")
        ))
    }
}

/// It ends, does not panic, and says in one sentence why it fails, with a status that is documented.
fn check_manners(who: &str, said: &Said, point: Option<&Point>, outcome: &mut Outcome) {
    let is_killed = said.code == Some(137) && point.is_some_and(|point| point.fault == Fault::Kill);
    let is_out_of_memory = said.err.contains("memory allocation of");
    match said.code {
        None => {
            outcome.hangs = true;
            outcome.findings.push(format!("{who} hangs"));
        }
        Some(101) => outcome.findings.push(format!("{who} panics: {}", said.brief())),
        Some(0) => {}
        Some(_) if is_killed || is_out_of_memory => {}
        // The command in the container.
        Some(7) => {}
        Some(1..=3 | 125..=127) => {
            let lines = |of: &str| said.err.lines().filter(|line| line.starts_with(of)).count();
            let sentences = lines("error: ");
            // The command in the container failed, and its shell says it.
            let is_the_commands = sentences == 0 && lines("sh: ") > 0;
            if sentences != 1 && !is_the_commands && said.out.is_empty() {
                outcome.findings.push(format!("{who} does not say in one sentence why: {}", said.brief()));
            }
        }
        Some(_) => outcome.findings.push(format!("{who} ends oddly: {}", said.brief())),
    }
    if said.err.contains("panicked") {
        outcome.findings.push(format!("{who} panics: {}", said.brief()));
    }
}
