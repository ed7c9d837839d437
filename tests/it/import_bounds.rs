//! What an import takes of the machine, whatever the archive: memory, threads, files of the store.

use std::process::Stdio;
use std::time::Duration;

use super::archives::sample;
use super::cli::{Output, Sandbox};
use super::generator::{Image, docker_since_25};
use super::hostile_tar::Raw;

/// Mebibytes beyond which no archive may take the program.
const MOST: u64 = 100;

/// Runs the program; also gives how many mebibytes it took at most.
fn run_watched(sandbox: &Sandbox, words: &[&str]) -> (Output, u64) {
    let mut command = sandbox.command(words);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("it can be asked").is_none() {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let field = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = field.and_then(|field| field.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(kibibytes.unwrap_or_default());
        std::thread::sleep(Duration::from_millis(2));
    }
    (child.wait_with_output().expect("it has ended").into(), peak >> 10)
}

/// A sparse file of so many single bytes.
fn scattered(tar: Raw, name: &str, count: u64) -> Raw {
    let mut map = format!("{count}\n").into_bytes();
    (0..count).for_each(|number| map.extend_from_slice(format!("{}\n1\n", 2 * number).as_bytes()));
    map.resize(map.len().next_multiple_of(512), 0);
    let size = (2 * count).to_string();
    let records =
        [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", size.as_bytes())];
    map.resize(map.len() + usize::try_from(count).expect("it is small"), 0);
    tar.pax(&records).file(name, &map)
}

#[test]
fn sparse_files_of_single_bytes_take_no_memory() {
    let sandbox = Sandbox::new();
    let layers: Vec<Vec<u8>> = ["a", "b"]
        .map(|name| {
            let files = (0..2).fold(Raw::new(), |tar, number| scattered(tar, &format!("{name}{number}"), 1 << 20));
            files.end()
        })
        .into();
    let archive = sandbox.write("layer.archive", &docker_since_25(&[Image::new("amd64", layers, &["a:1"])]).tar());
    let (output, peak) = run_watched(&sandbox, &["import", "--no-sync", &archive]);
    assert_eq!(output.lines().len(), 1);
    assert!(peak < MOST, "{peak} MiB");
    sandbox.run(&["verify"]).lines();
}

#[test]
fn a_machine_without_threads_is_told_of() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("layer.archive", &docker_since_25(&[sample()]).tar());
    std::fs::create_dir(sandbox.path("dir")).expect("it is made");
    std::fs::write(sandbox.path("dir/f"), "x").expect("it is made");
    // More than there is address space for.
    let run = |words: &[&str]| -> Output {
        let mut command = sandbox.command(words);
        command.env("RUST_MIN_STACK", (1u64 << 46).to_string()).output().expect("the program starts").into()
    };
    let words = ["cannot start a thread", "Resource temporarily unavailable"];
    run(&["import", &path]).assert_refused(125, &words);
    assert_eq!(sandbox.debris(), Vec::<String>::new());
    let id = sandbox.run(&["import", "-t", "i", &path]).lines()[0].to_owned();
    run(&["build", "-t", "b", "dir"]).assert_refused(125, &words);
    run(&["save", &id, "--compress", "gzip", "-o", "saved"]).assert_refused(125, &words);
    assert!(!sandbox.path("saved").exists());
    // What needs none goes on without.
    assert_eq!(run(&["verify"]).lines(), Vec::<&str>::new());
    run(&["save", &id, "-o", "saved"]).lines();
    assert_eq!(sandbox.debris(), Vec::<String>::new());
}
