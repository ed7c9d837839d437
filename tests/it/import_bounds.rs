//! What an import takes of the machine, whatever the archive: memory, threads, files of the store.

use std::process::Stdio;
use std::time::Duration;

use super::archives::{podman, sample, single};
use super::cli::{Output, Sandbox};
use super::generator::{Image, Members, docker_since_25};
use super::hostile::World;
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
fn documents_take_no_memory() {
    let sandbox = Sandbox::new();
    let config = r#"{"rootfs":{"diff_ids":[]}}"#;
    let manifest = r#"[{"Config":"c.json","Layers":[]}]"#;
    // Each of some bytes becomes one of some dozens.
    let often = |item: &str, count: usize| vec![item; count].join(",");
    let env = format!(r#"{{"config":{{"Env":[{}]}},"rootfs":{{"diff_ids":[]}}}}"#, often("\"\"", 1_390_000));
    let tagged = format!(r#"[{{"Config":"c.json","RepoTags":[{}],"Layers":[]}}]"#, often("\"a\"", 1_000_000));
    let padded = [config, &" ".repeat((4 << 20) - config.len())].concat();
    for (what, config, manifest) in [
        ("many strings", env.as_str(), manifest.to_owned()),
        ("many items", config, format!("[{}]", often(r#"{"Config":"","Layers":["",""]}"#, 130_000))),
        ("many names", config, tagged),
        ("one config very often", &padded, format!("[{}]", often(r#"{"Config":"c.json","Layers":[]}"#, 50))),
    ] {
        let mut archive = Members::default();
        archive.file("c.json", config);
        archive.file("manifest.json", manifest);
        let path = sandbox.write("layer.archive", &archive.tar());
        let (output, peak) = run_watched(&sandbox, &["import", &path]);
        println!("{what}: {peak} MiB, {}", output.stderr);
        assert_eq!(output.code, if what == "many strings" { 0 } else { 125 }, "{what}: {output:?}");
        assert!(peak < MOST, "{what}: {peak} MiB");
    }
}

#[test]
fn a_report_on_many_layers_takes_no_memory() {
    const LAYERS: usize = 24;
    let sandbox = Sandbox::new();
    // Each has an index of some megabytes, and its own name is only in the lowest.
    let layer = |number: usize| {
        let tar = Raw::new().file(&format!("only-{number}"), b"").file(&format!(".wh.only-{}", number % 2), b"");
        let name = |entry: usize| format!("{number}-{}-{entry}", "n".repeat(60));
        (0..30_000).fold(tar, |tar, entry| tar.file(&name(entry), b"")).end()
    };
    let image = Image::new("amd64", (0..LAYERS).map(layer).collect(), &["many:1"]);
    let archive = sandbox.write("layer.archive", &docker_since_25(&[image]).tar());
    sandbox.run(&["import", "--no-sync", &archive]).lines();
    let (output, peak) = run_watched(&sandbox, &["import", "--no-sync", &archive, "--report", "report.json"]);
    output.lines();
    println!("{peak} MiB");
    assert!(peak < MOST, "{peak} MiB");
    let report = std::fs::read(sandbox.path("report.json")).expect("it was written");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let layers = report["images"][0]["layers"].as_array().expect("a list");
    let of_nothing = |number: usize| layers[number]["counts"]["whiteout-of-nothing"].as_u64().unwrap_or_default();
    // The first two have what they hide, the next two hide that, and the others what is hidden.
    let counts: Vec<u64> = (0..LAYERS).map(of_nothing).collect();
    assert_eq!(counts, [&[0; 4][..], &[1; LAYERS - 4]].concat());
    assert!(layers.iter().all(|layer| layer.get("abridged").is_none()));
}

#[test]
fn an_archive_gives_no_more_names_than_the_limit() {
    let world = World::new();
    let image = single("x");
    let layer = format!("{}.tar", super::generator::sha256(&image.layers[0]));
    let item = |tags: &[String]| {
        let config = format!("{}.json", image.id());
        serde_json::json!({ "Config": config, "RepoTags": tags, "Layers": [layer] })
    };
    let manifest = |items: &[serde_json::Value]| {
        let archive = podman(std::slice::from_ref(&image), <[u8]>::to_vec);
        archive.with("manifest.json", |content| *content = serde_json::json!(items).to_string().into_bytes()).tar()
    };
    let tags = |count: usize| -> Vec<String> { (0..count).map(|number| format!("t{number}:1")).collect() };
    let words = |most: usize| format!("has more than {most} images and names (`--limit names=` allows more)");
    let many = manifest(&[item(&tags(10_000))]);
    world.refuses_archive("many names", &many, &[], &[&words(10_000)]);
    world.refuses_archive("many images", &manifest(&vec![item(&[]); 10_001]), &[], &[&words(10_000)]);
    let few = manifest(&[item(&tags(3)), item(&[])]);
    world.refuses_archive("few names", &few, &["--limit", "names=4"], &[&words(4)]);
    assert_eq!(world.import("as many as may be", &few, &["--limit", "names=5"]).lines().len(), 2);
}

#[test]
fn what_a_stream_had_no_room_for_is_not_said_to_be_just_missing() {
    let sandbox = Sandbox::new();
    let archive = podman(&[sample()], <[u8]>::to_vec);
    let mut manifest = Members::default();
    manifest.file("manifest.json", &**archive.clone().content("manifest.json"));
    let before = archive.without("manifest.json").tar();
    let before = &before[..before.len() - 1024];
    // Links are kept until the documents can be understood.
    let links = (0..1000).fold(Raw::new(), |tar, number| tar.link(&format!("{number}.json"), "t")).0;
    let words = |member: &'static str, why: &'static str| ["-: ", member, why, "(`--limit documents=` allows more)"];
    for (parts, words) in [
        ([before, &links, &manifest.tar()], words("manifest.json: ", "is missing, or came after more documents")),
        ([&links, before, &manifest.tar()], words("", "is one layer more than can be kept in mind")),
    ] {
        let archive = parts.concat();
        let output = sandbox.run_piped(&["import", "-", "--limit", "documents=100k"], &archive);
        output.assert_refused(125, &words);
        sandbox.run_piped(&["import", "-"], &archive).lines();
        sandbox.run(&["prune", "--all"]).lines();
    }
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
