//! All points of all scenarios, or some of them, by several workers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::ground::Ground;
use super::judge::{Baseline, Place};
use super::point::{ERRORS, Fault, Point, Site};
use super::scenario::{SCENARIOS, Scenario};
use super::template;
use super::tree::hash;

/// What is asked for.
pub(crate) struct Campaign {
    /// What happens at each call.
    pub(crate) faults: Vec<Fault>,
    /// Whether each call fails in all these ways in turn, and not in one of them.
    pub(crate) all: bool,
    /// So many points at most, spread over all; nothing for all.
    pub(crate) limit: Option<usize>,
    pub(crate) jobs: usize,
    /// Only scenarios, and of these only points, whose names contain this.
    pub(crate) only: Option<String>,
    pub(crate) site: Option<String>,
}

impl Campaign {
    /// `faults|kills|full [--errors one|all] [--points N] [--jobs N] [--only SCENARIO] [--site TEXT]`.
    pub(crate) fn parse(mode: &str, args: &[String]) -> Option<Self> {
        let faults = match mode {
            "kills" => vec![Fault::Kill],
            "full" => vec![Fault::Full],
            _ => ERRORS.to_vec(),
        };
        let mut campaign = Self { faults, all: false, limit: None, jobs: 2, only: None, site: None };
        for pair in args.chunks(2) {
            let [option, value] = pair else { return None };
            match option.as_str() {
                "--errors" if matches!(value.as_str(), "one" | "all") => campaign.all = value == "all",
                "--points" => campaign.limit = Some(value.parse().ok()?),
                "--jobs" => campaign.jobs = value.parse().ok()?,
                "--only" => campaign.only = Some(value.clone()),
                "--site" => campaign.site = Some(value.clone()),
                _ => return None,
            }
        }
        Some(campaign)
    }

    fn points(&self, counts: &BTreeMap<Site, u32>) -> Vec<Point> {
        let mut points = Vec::new();
        for (site, count) in counts {
            for nth in 1..=*count {
                let faults: Vec<Fault> =
                    self.faults.iter().copied().filter(|fault| fault.can_happen(&site.call)).collect();
                if faults.is_empty() {
                    continue;
                }
                // Another one for each call, so that a site comes to all of them.
                let one = usize::try_from(hash(format!("{site} {nth}").as_bytes())).unwrap_or(0) % faults.len();
                let wanted = if self.all { &faults[..] } else { &faults[one..=one] };
                points.extend(wanted.iter().map(|fault| Point { site: site.clone(), nth, fault: *fault }));
            }
        }
        points.retain(|point| self.site.as_ref().is_none_or(|site| point.to_string().contains(site)));
        points
    }

    /// Tries them, and says what did not hold.
    pub(crate) fn run(&self, work: &Path) -> ExitCode {
        let scenarios: Vec<&Scenario> =
            SCENARIOS.iter().filter(|scenario| self.only.as_ref().is_none_or(|only| scenario.name == only)).collect();
        let grounds: Vec<Ground> = (0..self.jobs).map(|job| Ground::new(work.join(format!("w{job}/point")))).collect();
        let templates: Vec<PathBuf> = grounds
            .iter()
            .map(|ground| {
                let dir = ground.dir().parent().expect("a parent");
                template::make(dir, ground.dir().to_owned())
            })
            .collect();
        let place = |job: usize| Place { ground: &grounds[job], template: &templates[job] };
        let baselines: Vec<Baseline> = self.each(scenarios.len(), |job, at| place(job).baseline(scenarios[at]));
        let mut points: Vec<(usize, Point)> = baselines
            .iter()
            .enumerate()
            .flat_map(|(at, baseline)| self.points(&baseline.counts).into_iter().map(move |point| (at, point)))
            .collect();
        let all = points.len();
        for (at, scenario) in scenarios.iter().enumerate() {
            println!("{:>7} {}", points.iter().filter(|(of, _)| *of == at).count(), scenario.name);
        }
        if let Some(limit) = self.limit {
            // The same each time, and of all kinds.
            points.sort_by_key(|(at, point)| hash(format!("{at} {point}").as_bytes()));
            points.truncate(limit);
        }
        println!("{} scenarios, {all} points, {} of them tried", scenarios.len(), points.len());
        let start = Instant::now();
        let hangs: Mutex<BTreeMap<(usize, Site), u32>> = Mutex::default();
        let (done, missed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let skipped = AtomicUsize::new(0);
        let findings: Vec<usize> = self.each(points.len(), |job, number| {
            let (at, point) = &points[number];
            let key = (*at, point.site.clone());
            if hangs.lock().expect("no panic").get(&key).is_some_and(|hangs| *hangs >= 3) {
                skipped.fetch_add(1, Ordering::Relaxed);
                return 0;
            }
            let mut outcome = place(job).examine(scenarios[*at], &baselines[*at], point);
            // Threads may share their work in another way the next time.
            for _ in 0..2 {
                if outcome.hit.is_none() && outcome.findings.is_empty() {
                    outcome = place(job).examine(scenarios[*at], &baselines[*at], point);
                }
            }
            if outcome.hangs {
                *hangs.lock().expect("no panic").entry(key).or_default() += 1;
            }
            let Some(hit) = &outcome.hit else {
                missed.fetch_add(1, Ordering::Relaxed);
                return outcome.findings.len();
            };
            done.fetch_add(1, Ordering::Relaxed);
            for finding in &outcome.findings {
                println!("{} {point} ({hit}): {finding}", scenarios[*at].name);
            }
            usize::from(!outcome.findings.is_empty())
        });
        let found: usize = findings.iter().sum();
        println!(
            "{} points hit, {} not come to, {} left out after hangs; {found} with findings; {} s",
            done.into_inner(),
            missed.load(Ordering::Relaxed),
            skipped.into_inner(),
            start.elapsed().as_secs()
        );
        // Threads share their work in another way each time; but a tracer that comes to nothing finds nothing.
        let missed_too_many = missed.load(Ordering::Relaxed) * 10 > points.len();
        if missed_too_many {
            println!("more than one point of ten was not come to");
        }
        ExitCode::from(u8::from(found > 0 || missed_too_many))
    }

    /// Does the work of each number, by workers that take the next one.
    fn each<T: Send>(&self, count: usize, work: impl Fn(usize, usize) -> T + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<Option<T>>> = Mutex::new((0..count).map(|_| None).collect());
        std::thread::scope(|scope| {
            for job in 0..self.jobs {
                let (next, results, work) = (&next, &results, &work);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let result = work(job, number);
                        results.lock().expect("no panic")[number] = Some(result);
                    }
                });
            }
        });
        results.into_inner().expect("no panic").into_iter().map(|result| result.expect("all were done")).collect()
    }
}
