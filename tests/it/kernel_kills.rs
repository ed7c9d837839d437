//! `--io kernel`: the server of the image, the caller of a command, or both are killed at any moment. What a program was told to be on
//! the disk is there afterwards, in whichever way the container is mounted then.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::kernel_many::{next, number};
use super::kernel_mount::assert_nothing_stays;
use super::mounts::Mounts;
use super::processes::{end_of, eventually, is_alive, kill};
use super::root_fs::with_programs;

/// Writes numbers, and tells each when it is on the disk. A file of the image is changed with each.
const WRITE: &str = "n=$0; mkdir -p /data; while :; do n=$((n+1)); echo $n > /data/$n; echo $n >> /file; \
                     sync /data/$n /data /file && echo $n || exit 9; done";

fn servers(mounts: &Mounts) -> Vec<u32> {
    mounts.servers().into_iter().filter(|pid| is_alive(*pid)).collect()
}

/// Runs the command until something is killed; the numbers that it told.
fn run_and_kill(mounts: &Mounts, state: &mut u64, first: u64) -> Vec<u64> {
    let mut command =
        mounts.program(&["run-mount", "--io", "kernel", "--name", "box", "image", "--", "sh", "-c", WRITE]);
    let mut child = command.arg(first.to_string()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let count = Arc::new(AtomicU64::new(0));
    let reader = std::thread::spawn({
        let count = count.clone();
        move || {
            let told = out.lines().map_while(Result::ok).filter_map(|line| line.parse().ok());
            let counted = |_: &u64| {
                count.fetch_add(1, Ordering::Relaxed);
            };
            told.inspect(counted).collect::<Vec<u64>>()
        }
    });
    // On a slow machine it would seldom have begun.
    if next(state).is_multiple_of(2) {
        assert!(eventually(|| count.load(Ordering::Relaxed) > 0));
    }
    std::thread::sleep(Duration::from_millis(next(state) % 150));
    let what = next(state) % 4;
    if what != 0 {
        servers(mounts).into_iter().for_each(kill);
    }
    if what == 1 {
        // The command goes on with what it has, or ends by itself.
        std::thread::sleep(Duration::from_millis(next(state) % 30));
    }
    if child.try_wait().unwrap().is_none() {
        kill(child.id());
    }
    end_of(&mut child);
    reader.join().unwrap()
}

/// The same of a container without a command, to which this process writes.
fn write_and_kill(mounts: &Mounts, state: &mut u64, first: u64) -> Vec<u64> {
    let said = mounts.run(&["run-mount", "--io", "kernel", "--name", "box", "image"]);
    assert_eq!(said.code, 0, "{said:?}");
    let at = mounts.ps("box").1.unwrap();
    let mut told = Vec::new();
    let pause = next(state) % 40;
    let killed = std::thread::spawn({
        let servers = servers(mounts);
        move || {
            std::thread::sleep(Duration::from_millis(pause));
            servers.into_iter().for_each(kill);
        }
    });
    for number in first + 1..first + 40 {
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(format!("{at}/data"))?;
            let mut file = File::create(format!("{at}/data/{number}"))?;
            file.write_all(format!("{number}\n").as_bytes())?;
            file.sync_all()?;
            let mut file = File::options().append(true).open(format!("{at}/file"))?;
            file.write_all(format!("{number}\n").as_bytes())?;
            file.sync_all()?;
            File::open(format!("{at}/data"))?.sync_all()
        };
        if write().is_err() {
            break;
        }
        told.push(number);
    }
    killed.join().unwrap();
    told
}

#[test]
fn what_was_told_to_be_on_the_disk_is_there_after_a_kill() {
    let mounts = Mounts::new();
    mounts.import("image", &with_programs(&["sync"]));
    let mut state = number("LAYERCTL_KILLS_SEED", 1);
    let mut told = BTreeSet::new();
    mounts.mount(&["--io", "kernel", "--name", "box", "image"]);
    mounts.umount("box");
    for round in 0..number("LAYERCTL_KILLS", 10) {
        let first = (round + 1) * 1_000_000;
        let more = if next(&mut state).is_multiple_of(3) {
            write_and_kill(&mounts, &mut state, first)
        } else {
            run_and_kill(&mounts, &mut state, first)
        };
        told.extend(more);
        let mut said = None;
        let is_quiet = || {
            said = Some(mounts.run(&["umount", "-f", "box"]));
            !matches!(mounts.ps("box").0.as_str(), "running" | "dead")
        };
        let is_over = eventually(is_quiet);
        assert!(is_over, "round {round}: {:?} {said:?}", mounts.ps("box"));
        let way = ["kernel", "cached", "kernel"][usize::try_from(next(&mut state) % 3).unwrap()];
        let at = mounts.mount(&["--io", way, "--name", "box"]).mountpoint;
        let file = fs::read_to_string(at.join("file")).unwrap();
        let lines: BTreeSet<&str> = file.lines().collect();
        for number in &told {
            let found = fs::read_to_string(at.join(format!("data/{number}")));
            assert_eq!(found.ok().as_deref(), Some(&*format!("{number}\n")), "round {round}, {way}: {number}");
            assert!(lines.contains(&*number.to_string()), "round {round}, {way}: {number} in {file}");
        }
        mounts.umount("box");
    }
    assert!(!told.is_empty());
    mounts.run(&["rm", "box"]).ok();
    mounts.run(&["prune"]).ok();
    assert_nothing_stays(&mounts);
}
