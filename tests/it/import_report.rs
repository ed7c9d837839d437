//! `import --report` and `--policy`: what is odd about layers.

use std::path::Path;

use serde_json::{Value, json};

use super::archives::sample;
use super::cli::{Output, Sandbox};
use super::generator::{Image, Members, docker_since_25, oci, sha256};
use super::hostile::World;
use super::hostile_tar::{Raw, field, pax};

fn report(sandbox: &Sandbox) -> Value {
    serde_json::from_slice(&std::fs::read(sandbox.path("report.json")).expect("it was written")).expect("JSON")
}

/// Kind and entry of all findings about a layer.
fn findings(layer: &Value) -> Vec<(String, String)> {
    let word = |finding: &Value, field: &str| finding[field].as_str().expect("a word").to_owned();
    let all = layer["findings"].as_array().expect("a list");
    all.iter().map(|finding| (word(finding, "kind"), word(finding, "entry"))).collect()
}

fn odd() -> Image {
    let base = Raw::new().dir("etc").file("etc/passwd", b"root").file("etc/gone", b"x").end();
    let top = Raw::new()
        .dir("etc")
        .file("etc/passwd", b"first")
        .file("etc/passwd", b"second")
        .file("etc/.wh.gone", b"")
        .file("etc/.wh.never", b"")
        .header(b'0', b"usr/bin/su", b"", 0, &[(field::MODE, b"0004755\0")])
        .end();
    Image::new("amd64", vec![base, top], &["odd:1"])
}

#[test]
fn the_documented_example_is_true() {
    let sandbox = Sandbox::new();
    sandbox.write("odd.tar", &docker_since_25(&[odd()]).tar());
    sandbox.run(&["import", "odd.tar", "--report", "report.json"]).lines();
    let docs =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/import.md")).expect("it is there");
    let example = docs.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let (example, report): (Value, Value) = (serde_json::from_str(example).expect("JSON"), report(&sandbox));
    assert_eq!(example, report, "{}", serde_json::to_string_pretty(&report).expect("JSON"));
}

#[test]
fn each_oddity_is_told() {
    let sandbox = Sandbox::new();
    let sparse = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"5000")];
    let map = [&b"1\n100\n3\n"[..], &[0; 504], b"abc"].concat();
    let xattr = |name: &str| Raw::new().pax(&[(&*format!("SCHILY.xattr.{name}"), b"x")]).file("f", b"").end();
    let mode = |path: &str, mode: &[u8]| Raw::new().header(b'0', path.as_bytes(), b"", 0, &[(field::MODE, mode)]).end();
    let whole = || Raw::new().file("f", b"x").end();
    for (layer, expected) in [
        (whole(), &[][..]),
        (Raw::new().file("f", b"x").file("./f", b"y").end(), &[("duplicate", "f")][..]),
        (Raw::new().dir("d").dir("d/").end(), &[("duplicate", "d")]),
        (Raw::new().pax(&[("path", b"g")]).file("f", b"x").end(), &[("disagreement", "g")]),
        (Raw::new().pax(&[("linkpath", b"g")]).link("f", "h").end(), &[("disagreement", "f")]),
        (
            Raw::new().pax(&[("size", b"3")]).header(b'0', b"f", b"", 0, &[]).data(b"abc").end(),
            &[("disagreement", "f")],
        ),
        (Raw::new().pax(&[("uid", b"7")]).file("f", b"").end(), &[("disagreement", "f")]),
        // What a header has no room for is in the PAX header only, and no disagreement.
        (Raw::new().pax(&[("path", &[b'n'; 120])]).file("nnn", b"").end(), &[]),
        (Raw::new().pax(&[("uid", b"3000000")]).file("f", b"").end(), &[]),
        (Raw::new().header(b'2', b"l", b"t", 9, &[]).end(), &[("size-without-data", "l")]),
        ([whole(), b"x".to_vec()].concat(), &[("trailing", "")]),
        ([whole(), whole()].concat(), &[("trailing", "")]),
        ([whole(), vec![0; 9000]].concat(), &[]),
        (Raw::new().file("f", b"x").0, &[("no-end", "")]),
        (Raw::new().file("f", b"x").0[..600].to_vec(), &[("no-end", "")]),
        (Vec::new(), &[("no-end", "")]),
        (Raw::new().file(".wh.f", b"x").end(), &[("odd-whiteout", ".wh.f"), ("whiteout-of-nothing", ".wh.f")]),
        (Raw::new().dir(".wh.d").end(), &[("odd-whiteout", ".wh.d"), ("whiteout-of-nothing", ".wh.d")]),
        (Raw::new().file(".wh.f", b"").file("f", b"").end(), &[("own-whiteout", ".wh.f")]),
        (Raw::new().file(".wh.f", b"").end(), &[("whiteout-of-nothing", ".wh.f")]),
        (Raw::new().dir("d").file("d/.wh..wh..opq", b"").end(), &[("whiteout-of-nothing", "d")]),
        (Raw::new().file(".wh..wh.aufs", b"x").file("f", b"").end(), &[("private", ".wh..wh.aufs")]),
        (Raw::new().device("d", 0, 0).end(), &[("overlay-whiteout", "d"), ("device", "d")]),
        (Raw::new().device("d", 1, 3).end(), &[("device", "d")]),
        (Raw::new().file("a/b/c", b"").end(), &[("missing-parent", "a"), ("missing-parent", "a/b")]),
        (Raw::new().file("/f", b"").end(), &[("absolute-path", "f")]),
        (Raw::new().file("../f", b"").end(), &[("dot-dot", "f")]),
        (Raw::new().dir("d").link("l", "/d").file("l/f", b"").end(), &[("through-link", "d/f")]),
        // What stands where is known through links, too.
        (
            Raw::new().dir("d").link("l", "d").hard("m", "l").file("d/f", b"x").file("m/f", b"x").end(),
            &[("through-link", "d/f"), ("duplicate", "d/f")],
        ),
        (
            Raw::new().link("l", "d").dir("l").file("l/f", b"").end(),
            &[("duplicate", "l"), ("whiteout-of-nothing", "l")],
        ),
        (Raw::new().extended(b'g', &pax(&[("comment", b"x")])).file("f", b"").end(), &[("global-header", "")]),
        (Raw::new().pax(&sparse).file("s", &map).file("t", b"x").end(), &[("sparse", "s")]),
        (mode("f", b"0004755\0"), &[("set-id", "f")]),
        (mode("f", b"0002755\0"), &[("set-id", "f")]),
        (mode("f", b"0001755\0"), &[]),
        (xattr("security.capability"), &[("capability", "f")]),
        (xattr("trusted.overlay.opaque"), &[("escaped-xattr", "f")]),
        (xattr("user.layerctl.origin"), &[("escaped-xattr", "f")]),
        (xattr("security.selinux"), &[("label", "f")]),
        (xattr("user.a"), &[]),
    ] {
        let image = Image::new("amd64", vec![layer], &[]);
        let path = sandbox.write("archive", &docker_since_25(std::slice::from_ref(&image)).tar());
        for is_present in [false, true] {
            sandbox.run(&["import", &path, "--report", "report.json"]).lines();
            let report = report(&sandbox);
            let layer = &report["images"][0]["layers"][0];
            assert_eq!(layer["present"], is_present);
            let found = findings(layer);
            let found: Vec<(&str, &str)> = found.iter().map(|(kind, entry)| (&**kind, &**entry)).collect();
            assert_eq!(found, expected, "{report}");
            let total: u64 = layer["counts"].as_object().expect("counts").values().filter_map(Value::as_u64).sum();
            assert_eq!(total, found.len() as u64);
        }
        // The policy refuses what is marked so, also of a layer that is there.
        let all = report(&sandbox)["images"][0]["layers"][0]["findings"].as_array().expect("a list").clone();
        let forbidden = all.iter().find(|finding| finding["forbidden"] == true);
        let output = sandbox.run(&["import", &path, "--policy", "strict", "--report", "report.json"]);
        assert_eq!(report(&sandbox)["refused"], forbidden.is_some());
        match forbidden {
            None => assert_eq!(output.lines().len(), 1),
            Some(finding) => {
                let words = ["kind", "entry", "detail"].map(|field| finding[field].as_str().expect("a word"));
                output
                    .assert_refused(125, &[&[path.as_str(), "blobs/sha256/", "--policy compat"], &words[..]].concat());
            }
        }
    }
}

#[test]
fn the_strict_policy_leaves_the_store_as_it_was() {
    let world = World::new();
    let layer = Raw::new().file("f", b"x").file("f", b"y").end();
    world.refuses_with("a duplicate", &layer, &["--policy", "strict"], "f: ", "duplicate, which the format forbids");
    world.import("good", &docker_since_25(&[sample()]).tar(), &["--policy", "strict"]).lines();
}

#[test]
fn whiteouts_are_of_nothing_where_no_layer_below_shows_anything() {
    let sandbox = Sandbox::new();
    let layers = vec![
        Raw::new().dir("d").file("d/a", b"").file("d/b", b"").dir("e").file("e/a", b"").file("f", b"").end(),
        // d/a goes, e is emptied, f becomes a directory.
        Raw::new().dir("d").file("d/.wh.a", b"").dir("e").file("e/.wh..wh..opq", b"").dir("f").end(),
        Raw::new()
            .dir("d")
            .file("d/.wh.a", b"")
            .file("d/.wh.b", b"")
            .dir("e")
            .file("e/.wh.a", b"")
            .file("f/.wh.x", b"")
            .file(".wh.g", b"")
            .end(),
    ];
    let image = Image::new("amd64", layers, &[]);
    let path = sandbox.write("archive", &oci(&[image]).tar());
    sandbox.run(&["import", &path, "--report", "report.json"]).lines();
    let report = report(&sandbox);
    let of_nothing = |layer: usize| -> Vec<String> {
        let found = findings(&report["images"][0]["layers"][layer]);
        found.into_iter().filter(|(kind, _)| kind == "whiteout-of-nothing").map(|(_, entry)| entry).collect()
    };
    assert_eq!(of_nothing(0), Vec::<String>::new());
    assert_eq!(of_nothing(1), Vec::<String>::new());
    assert_eq!(of_nothing(2), [".wh.g", "d/.wh.a", "e/.wh.a", "f/.wh.x"]);
}

#[test]
fn a_report_is_a_file_of_its_own() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("archive", &docker_since_25(&[odd()]).tar());
    sandbox.run(&["import", &path, "--report", "-"]).assert_refused(2, &["a report needs a file"]);
    sandbox.run(&["import", &path, "--report", "no/such/dir"]).assert_refused(125, &["no/such/dir"]);
    assert!(!sandbox.root().join("images").join(odd().id()).exists());
    let archive = std::fs::read(&path).expect("it is there");
    let output = sandbox.run_piped(&["import", "-", "--report", "report.json", "-t", "named"], &archive);
    assert_eq!(output.lines().len(), 1);
    let report = report(&sandbox);
    assert_eq!((&report["archive"], &report["policy"]), (&json!("-"), &json!("compat")));
    assert_eq!(report["images"][0]["names"], json!(["named:latest"]));
    // Many of a kind are counted, and not all listed.
    let many = (0..1500).fold(Raw::new(), |tar, _| tar.file("f", b"")).end();
    let path = sandbox.write("archive", &many);
    sandbox.run(&["import", &path, "--report", "report.json"]).lines();
    let report = self::report(&sandbox);
    let layer = &report["images"][0]["layers"][0];
    assert_eq!(layer["counts"], json!({ "duplicate": 1499 }));
    assert_eq!(layer["findings"].as_array().map(Vec::len), Some(1000));
}

#[test]
fn a_report_is_of_bounded_size_and_says_all_that_must_be_said() {
    let sandbox = Sandbox::new();
    let name = "n".repeat(3000);
    let path = name.as_bytes().chunks(200).collect::<Vec<_>>().join(&b'/');
    let many = (0..900).fold(Raw::new(), |tar, _| tar.pax(&[("path", &path)]).file("nnn", b""));
    let tar = many.file("n", b"").file(".wh.n", b"").file(".wh.gone", b"").end();
    // The same layer three times, above one that has nothing of it.
    let image = Image::new("amd64", vec![Raw::new().end(), tar.clone(), tar.clone(), tar], &["often:1"]);
    let archive = sandbox.write("often.tar", &docker_since_25(&[image]).tar());
    sandbox.run(&["import", &archive, "--report", "report.json"]).lines();
    let report = report(&sandbox);
    let layers = report["images"][0]["layers"].as_array().expect("a list");
    assert_eq!(layers.len(), 4);
    for layer in &layers[1..] {
        assert_eq!((&layer["counts"]["duplicate"], &layer["counts"]["own-whiteout"]), (&json!(899), &json!(1)));
        let found = findings(layer);
        assert!(found.len() < 500, "{}", found.len());
        assert!(found.iter().any(|(kind, _)| kind == "own-whiteout"), "the first of a kind is always told");
    }
    assert_eq!(layers[1]["counts"]["whiteout-of-nothing"], 1);
}

#[test]
fn what_was_taken_with_other_limits_has_a_report() {
    let sandbox = Sandbox::new();
    let comment = vec![b'x'; 2 << 20];
    let tar = Raw::new().pax(&[("comment", &comment)]).file("/f", b"").end();
    let archive = sandbox.write("long.tar", &docker_since_25(&[Image::new("amd64", vec![tar], &["long:1"])]).tar());
    sandbox.run(&["import", &archive]).assert_refused(125, &["--limit headers="]);
    sandbox.run(&["import", &archive, "--report", "report.json", "--limit", "headers=4m"]).lines();
    let found = findings(&report(&sandbox)["images"][0]["layers"][0]);
    assert_eq!(found, [("absolute-path".to_owned(), "f".to_owned())]);
}

#[test]
fn a_layer_that_is_named_very_often_costs_little_each_time() {
    const TIMES: usize = 20_000;
    let sandbox = Sandbox::new();
    let tar = (0..200).fold(Raw::new(), |tar, number| tar.file(&format!(".wh.{number}"), b"")).end();
    let (diff_id, times) = (format!("sha256:{}", sha256(&tar)), TIMES);
    let config = json!({ "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": vec![&diff_id; times] } });
    let config = config.to_string();
    let mut members = Members::default();
    members.file("layer.tar", tar);
    members.file("config.json", config.clone());
    let items = json!([{ "Config": "config.json", "RepoTags": ["often:1"], "Layers": vec!["layer.tar"; times] }]);
    members.file("manifest.json", items.to_string());
    let archive = sandbox.write("often.tar", &members.tar());
    let mut timeout = std::process::Command::new("timeout");
    timeout.args(["120", env!("CARGO_BIN_EXE_layerctl"), "import", &archive, "--report", "report.json"]);
    let output: Output =
        timeout.env("LAYERCTL_ROOT", sandbox.root()).current_dir(sandbox.path("")).output().expect("it starts").into();
    assert_eq!(output.lines(), [format!("sha256:{}", sha256(config.as_bytes()))]);
    assert!(std::fs::metadata(sandbox.path("report.json")).expect("it was written").len() < 20 << 20);
    let report = report(&sandbox);
    let layers = report["images"][0]["layers"].as_array().expect("a list");
    assert_eq!(layers.len(), TIMES);
    for (layer, is_told) in [(&layers[0], true), (&layers[1], true), (&layers[TIMES - 1], false)] {
        assert_eq!(
            (&layer["counts"], layer.get("abridged").is_some()),
            (&json!({ "whiteout-of-nothing": 200 }), !is_told)
        );
        assert_eq!(findings(layer).len(), if is_told { 200 } else { 0 });
    }
}
