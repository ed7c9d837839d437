//! What a commit costs depends on what was changed, and not on how large the image is: counted, not timed.

use std::fs;

use super::generator::{TIME, Tar};
use super::mounts::{Mounts, PROGRAM};

const MANY: u32 = 100_000;
const FEW: u32 = 1_000;
const PER_DIRECTORY: u32 = 500;

/// Calls of read(2) and the like, and what they gave.
#[derive(Debug, Clone, Copy)]
struct Reads {
    calls: u64,
    bytes: u64,
}

fn parse(io: &str) -> Reads {
    let field = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name)).expect("the field is there");
        line.trim().parse().expect("a number")
    };
    Reads { calls: field("syscr: "), bytes: field("rchar: ") }
}

fn of_process(pid: u32) -> Reads {
    parse(&fs::read_to_string(format!("/proc/{pid}/io")).expect("it is there"))
}

/// What it costs to commit one change: to the program while the container is mounted and to its server; and to the program
/// when it is not.
fn cost(files: u32) -> ([Reads; 3], u64) {
    let mounts = Mounts::new();
    let mut tar = Tar::new();
    for number in 0..files {
        let dir = format!("d{}", number / PER_DIRECTORY);
        if number % PER_DIRECTORY == 0 {
            tar = tar.dir(&dir);
        }
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(TIME);
        header.set_size(0);
        tar.0.append_data(&mut header, format!("{dir}/{number}"), &b""[..]).expect("memory takes all");
    }
    let base = mounts.import("base", &tar.finish());
    let container = mounts.mount(&["--name", "c", &base]);
    fs::write(container.mountpoint.join("d1/500"), "changed").expect("it is written");
    let commit = || {
        let script = "exec 3>&1; $L commit c >&2; cat /proc/$$/io";
        let said = super::mounts::said(mounts.command("bash").env("L", PROGRAM).args(["-euc", script]));
        assert_eq!(said.code, 0, "{said:?}");
        parse(&said.out)
    };
    let server = mounts.servers()[0];
    let before = of_process(server);
    let mounted = commit();
    let after = of_process(server);
    mounts.umount("c");
    let unmounted = commit();
    let layer = mounts.inspect(&base)["RootFS"]["Layers"][0].as_str().expect("a layer")["sha256:".len()..].to_owned();
    let index = fs::metadata(mounts.at("store/layers").join(format!("{layer}.index"))).expect("it is there").len();
    let served = Reads { calls: after.calls - before.calls, bytes: after.bytes - before.bytes };
    ([mounted, served, unmounted], index)
}

#[test]
fn one_change_costs_the_same_in_a_small_image_and_in_a_large_one() {
    let (few, few_index) = cost(FEW);
    let (many, many_index) = cost(MANY);
    assert!(many_index > 20 * few_index, "the images differ: {few_index}, {many_index}");
    for (number, (few, many)) in few.iter().zip(many).enumerate() {
        // Without a server's help the index is read, in one piece.
        let index = if number == 2 { many_index - few_index } else { 0 };
        assert!(many.calls <= few.calls + 30, "{number}: {few:?} {many:?}");
        assert!(many.bytes <= few.bytes + index + (64 << 10), "{number}: {few:?} {many:?}");
    }
}
