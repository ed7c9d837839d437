//! Many containers with `--io kernel`, started and ended at once by several processes: nothing stays.

use std::process::Stdio;
use std::time::Duration;

use super::kernel_mount::assert_nothing_stays;
use super::mounts::{Mounts, names};
use super::processes::{descendants, is_alive, kill};
use super::root_fs::with_programs;

const IMAGES: u64 = 5;

/// What the environment says, for a longer test than by default.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A number that looks like chance, and is the same each time.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Runs a command in a container, or mounts one, changes it, and takes it away; now and then it is killed in the middle.
fn work(mounts: &Mounts, worker: u64, rounds: u64) {
    let mut state = worker;
    for round in 0..rounds {
        let image = format!("i{}", next(&mut state) % IMAGES);
        let name = format!("w{worker}-{round}");
        let args = ["run-mount", "--io", "kernel", "--rm", "--name", &name, &image];
        let is_command = next(&mut state).is_multiple_of(2);
        let command: &[&str] = if is_command { &["--", "sh", "-c", "echo x > /new; cat /new /file"] } else { &[] };
        let mut child =
            mounts.program(&[&args, command].concat()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if next(&mut state).is_multiple_of(4) {
            std::thread::sleep(Duration::from_millis(next(&mut state) % 60));
            // Not the servers of images, which others use.
            let own: Vec<_> = descendants(child.id()).into_iter().filter(|pid| is_command && is_alive(*pid)).collect();
            let is_stage = |pid: &u32| {
                std::fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.windows(9).any(|word| word == b"container"))
            };
            kill(child.id());
            own.into_iter().filter(is_stage).for_each(kill);
            child.wait().unwrap();
            mounts.run(&["rm", "-f", &name]);
            continue;
        }
        assert!(child.wait().unwrap().success(), "{name}");
        if !is_command {
            let at = mounts.ps(&name).1.expect("it is mounted");
            std::fs::write(format!("{at}/new"), &name).unwrap();
            assert_eq!(std::fs::read_to_string(format!("{at}/new")).unwrap(), name);
            mounts.umount(&name);
        }
    }
}

#[test]
fn many_at_once_leave_nothing() {
    let mounts = Mounts::new();
    for number in 0..IMAGES {
        let more = ["true", "uname", "touch", "stat"];
        mounts.import(&format!("i{number}"), &with_programs(&more[..usize::try_from(number).unwrap()]));
    }
    let each = number("LAYERCTL_MANY", 6);
    std::thread::scope(|scope| {
        for worker in 1..=8 {
            let mounts = &mounts;
            scope.spawn(move || work(mounts, worker, each));
        }
    });
    // What was killed in the middle goes with the next command.
    mounts.run(&["prune"]).ok();
    let left = mounts.run(&["ps", "--format", "{{.Names}}"]).ok();
    for name in left.lines() {
        mounts.run(&["rm", "-f", name]).ok();
    }
    assert_nothing_stays(&mounts);
    assert_eq!(names(&mounts.at("store/containers")), ["names"]);
    assert_eq!(names(&mounts.at("store/containers/names")), Vec::<String>::new());
    assert_eq!(names(&mounts.at("store/mnt")), Vec::<String>::new());
}
