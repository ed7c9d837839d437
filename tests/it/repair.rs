//! `verify --repair` mends each kind of damage, from every kind of source, and takes nothing from one that is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use serde_json::Value;

use super::archives::{oci_packed, podman, single};
use super::cli::{Output, Sandbox};
use super::damage::{DAMAGES, change, diff, flip, found, image, part, store};
use super::generator::{Tar, docker_before_25, docker_since_25, gzip, oci, sha256};
use super::listing::Listing;

/// The layers' files, indexes and splits, as they are to be again.
pub(crate) fn layers(sandbox: &Sandbox) -> Listing {
    let mut listing = Listing::of(&sandbox.root()).without("tmp").without("lock");
    listing.0.retain(|path, line| {
        let mut parts = path.iter();
        let (top, _, below) = (parts.next(), parts.next(), parts.next());
        let is_theirs = top.is_some_and(|top| top == "diff" || top == "layers") && path.parent() != Some(Path::new(""));
        // When a file of the store's own was written is nothing that anybody says, and no tar has this layer's root.
        if (below.is_none() || path.ends_with(".wh..wh.dups"))
            && let Some((mode, rest)) = line.split_once(" mtime ")
        {
            *line = format!("{mode} {}", rest.split_once(' ').map_or("", |(_, rest)| rest));
        }
        is_theirs && path.extension().is_none_or(|extension| extension != "json")
    });
    listing
}

pub(crate) fn repair(sandbox: &Sandbox, sources: &[&str]) -> Output {
    let from = sources.iter().flat_map(|source| ["--from", source]);
    let words: Vec<&str> = ["--format", "json", "verify", "--repair"].into_iter().chain(from).collect();
    let output = sandbox.run(&words);
    assert_eq!(output.stderr, "", "{output:?}");
    output
}

/// What was found, and whether it was mended.
pub(crate) fn results(output: &Output) -> Vec<(String, String, bool)> {
    let values: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |value: &Value, field: &str| value[field].as_str().expect("it is text").to_owned();
    let each = values.iter().map(|one| {
        let is_mended = one["Repaired"].as_bool().expect("it is said");
        assert_eq!(is_mended, text(one, "Left").is_empty(), "{one}");
        (text(one, "Problem"), text(one, "Path"), is_mended)
    });
    each.collect()
}

#[track_caller]
pub(crate) fn assert_mended(sandbox: &Sandbox, output: &Output, before: &Listing, what: &str) {
    assert_eq!(output.code, 0, "{what}: {output:?}");
    let results = results(output);
    assert!(!results.is_empty() && results.iter().all(|(_, _, is_mended)| *is_mended), "{what}: {results:?}");
    layers(sandbox).assert_same(before, what);
    assert_eq!(found(sandbox, &[]), (0, Vec::new()), "{what}");
    assert_eq!(sandbox.debris().iter().filter(|name| *name != "record").count(), 0, "{what}");
}

/// The image in every form that can be a source.
fn sources(sandbox: &Sandbox) -> Vec<(&'static str, String)> {
    let image = image();
    let images = from_ref(&image);
    let dir = sandbox.path("layout");
    oci(images).write_to(&dir);
    let other = sandbox.path("other-store");
    let tar = docker_since_25(images).tar();
    let archive = sandbox.write("for-other.tar", &tar);
    sandbox.run(&["--root", other.to_str().expect("UTF-8"), "import", &archive]).lines();
    let text = |path: PathBuf| path.into_os_string().into_string().expect("UTF-8");
    vec![
        ("docker-archive", sandbox.write("docker.tar", &tar)),
        ("old docker-archive", sandbox.write("old.tar", &docker_before_25(images).tar())),
        ("compressed docker-archive", sandbox.write("docker.tar.gz", &gzip(&podman(images, gzip).reversed().tar()))),
        ("OCI layout", text(dir)),
        ("OCI layout in a tar", sandbox.write("oci.tar", &oci_packed(&image, gzip).tar())),
        ("another store", text(other)),
    ]
}

#[test]
fn each_damage_is_mended_from_the_original_archive() {
    for (name, damage, wanted, _) in DAMAGES {
        let (sandbox, archive) = store();
        let before = layers(&sandbox);
        damage(&sandbox);
        let output = repair(&sandbox, &[&archive]);
        assert_mended(&sandbox, &output, &before, name);
        for (problem, _) in *wanted {
            assert!(results(&output).iter().any(|(known, _, _)| known == problem), "{name}: {output:?}");
        }
    }
}

#[test]
fn each_damage_is_mended_from_every_kind_of_source() {
    let (sandbox, _) = store();
    let before = layers(&sandbox);
    for (kind, source) in sources(&sandbox) {
        for (name, damage, ..) in DAMAGES {
            damage(&sandbox);
            assert_mended(&sandbox, &repair(&sandbox, &[&source]), &before, &format!("{name}, {kind}"));
        }
    }
}

#[test]
fn all_damages_at_once_are_mended() {
    let (sandbox, archive) = store();
    let before = layers(&sandbox);
    // All but those that take away what others change.
    let not = ["a missing file", "a missing directory", "a missing index", "a missing split", "no files"];
    for (name, damage, ..) in DAMAGES {
        if !not.contains(name) && !name.starts_with("a damaged record") && !name.starts_with("a fifo") {
            damage(&sandbox);
        }
    }
    assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, "all");
}

/// What only a source has.
const CONTENT: [&str; 9] = [
    "one flipped bit",
    "a truncated file",
    "a missing file",
    "a missing directory",
    "a flipped bit in what was replaced",
    "a damaged split",
    "a missing split",
    "a fifo for a split",
    "no files",
];

#[test]
fn what_the_layer_knows_of_itself_needs_no_source() {
    for (name, damage, ..) in DAMAGES {
        let (sandbox, _) = store();
        let before = layers(&sandbox);
        damage(&sandbox);
        let damaged = sandbox.store();
        let output = repair(&sandbox, &[]);
        if CONTENT.contains(name) {
            assert_eq!(output.code, 3, "{name}: {output:?}");
            assert!(output.stdout.contains("needs a source"), "{name}: {output:?}");
            sandbox.store().without("lock").assert_same(&damaged.without("lock"), name);
        } else {
            assert_mended(&sandbox, &output, &before, name);
        }
    }
}

#[test]
fn what_can_be_mended_without_a_source_is_also_beside_what_cannot() {
    let (sandbox, archive) = store();
    let before = layers(&sandbox);
    flip(&diff(&sandbox).join("etc/noted"));
    for name in ["an extra file", "a changed mode", "a changed owner", "an added attribute", "another link"] {
        DAMAGES.iter().find(|(known, ..)| *known == name).expect("there is one").1(&sandbox);
    }
    let output = repair(&sandbox, &[]);
    let left = results(&output).into_iter().filter(|(_, _, is_mended)| !is_mended);
    let left: Vec<(String, String)> = left.map(|(problem, path, _)| (problem, path)).collect();
    assert_eq!((output.code, left), (3, vec![("content".to_owned(), "etc/noted".to_owned())]));
    assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, "the rest");
}

#[test]
fn nothing_is_taken_from_a_source_that_is_wrong() {
    let (sandbox, archive) = store();
    let before = layers(&sandbox);
    let image = image();
    let layer = &image.layers[0];
    let damaged = |content: &mut Vec<u8>| {
        let at = layer.len() / 2;
        content[at] ^= 1;
    };
    // The archive says of another tar that it is the layer.
    let mut forged = docker_before_25(from_ref(&image));
    let name = forged
        .0
        .iter()
        .find(|(_, member)| matches!(member, super::generator::Member::File(content) if content == layer));
    let name = name.expect("the layer is in it").0.clone();
    *forged.content(&name) = Tar::new().file("etc/noted", b"hostile").finish();
    let flipped = docker_since_25(from_ref(&image)).with(&format!("blobs/sha256/{}", sha256(layer)), damaged);
    let cut = docker_since_25(from_ref(&image)).with(&format!("blobs/sha256/{}", sha256(layer)), |content| {
        content.truncate(1000);
    });
    let lost = docker_since_25(from_ref(&image)).without(&format!("blobs/sha256/{}", sha256(layer)));
    let other = sandbox.path("damaged-store");
    let other = other.to_str().expect("UTF-8");
    sandbox.run(&["--root", other, "import", &archive]).lines();
    flip(&Path::new(other).join("diff").join(sha256(layer)).join("etc/noted"));
    let sources = [
        sandbox.write("other-image.tar", &docker_since_25(&[single("other")]).tar()),
        sandbox.write("forged.tar", &forged.tar()),
        sandbox.write("flipped.tar", &flipped.tar()),
        sandbox.write("cut.tar", &cut.tar()),
        sandbox.write("lost.tar", &lost.tar()),
        sandbox.write("root.tar", &Tar::new().file("etc/noted", b"x").finish()),
        other.to_owned(),
    ];
    for name in CONTENT {
        DAMAGES.iter().find(|(known, ..)| *known == name).expect("there is one").1(&sandbox);
        let was = sandbox.store().without("lock");
        for source in &sources {
            let output = repair(&sandbox, &[source]);
            assert_eq!(output.code, 3, "{name} {source}: {output:?}");
            assert!(results(&output).iter().all(|(_, _, is_mended)| !is_mended), "{name} {source}: {output:?}");
            sandbox.store().without("lock").assert_same(&was, &format!("{name} {source}"));
        }
        // Beside them a sound one does.
        let all: Vec<&str> = sources.iter().map(String::as_str).chain([archive.as_str()]).collect();
        assert_mended(&sandbox, &repair(&sandbox, &all), &before, name);
    }
}

#[test]
fn a_source_that_is_none_is_refused_before_anything_is_changed() {
    let (sandbox, archive) = store();
    DAMAGES.iter().find(|(name, ..)| *name == "a changed mode").expect("there is one").1(&sandbox);
    flip(&diff(&sandbox).join("etc/noted"));
    let was = sandbox.store().without("lock");
    let text = sandbox.write("text", b"no archive");
    let dir = sandbox.path("dir");
    fs::create_dir(&dir).expect("it is made");
    let cases = [("nothing", 1), (text.as_str(), 125), (dir.to_str().expect("UTF-8"), 125), ("-", 2)];
    for (source, code) in cases {
        sandbox.run(&["verify", "--repair", "--from", &archive, "--from", source]).assert_refused(code, &[]);
        sandbox.store().without("lock").assert_same(&was, source);
    }
    for words in [&["verify", "--from", "x"][..], &["verify", "--repair", "--quick"]] {
        assert_eq!(sandbox.run(words).code, 2);
    }
}

#[test]
fn images_and_layers_that_are_missing_come_back() {
    type Loss = (&'static str, fn(&Sandbox), bool);
    let image_dir = |sandbox: &Sandbox| sandbox.root().join("images").join(image().id());
    let losses: [Loss; 7] = [
        ("config", |s| change(&s.root().join("images").join(image().id()).join("config"), "amd64", "amd65"), false),
        ("no config", |s| fs::remove_file(s.root().join("images").join(image().id()).join("config")).unwrap(), false),
        ("record", |s| fs::write(s.root().join("images").join(image().id()).join("record.json"), "[").unwrap(), true),
        (
            "size",
            |s| change(&s.root().join("images").join(image().id()).join("record.json"), "\"size\": ", "\"size\": 1"),
            true,
        ),
        ("no record of a layer", |s| fs::remove_file(part(s, "json")).unwrap(), false),
        (
            "no layer",
            |s| {
                ["json", "index", "split"].iter().for_each(|extension| fs::remove_file(part(s, extension)).unwrap());
                fs::remove_dir_all(diff(s)).unwrap();
            },
            false,
        ),
        ("no image", |s| fs::remove_dir_all(s.root().join("images").join(image().id())).unwrap(), false),
    ];
    for (name, loss, needs_nothing) in losses {
        let (sandbox, _) = store();
        let before = layers(&sandbox);
        for (kind, source) in sources(&sandbox) {
            loss(&sandbox);
            let output = repair(&sandbox, &[]);
            assert_eq!(output.code, if needs_nothing { 0 } else { 3 }, "{name}: {output:?}");
            let output = repair(&sandbox, &[&source]);
            assert_eq!(output.code, 0, "{name}, {kind}: {output:?}");
            assert_eq!(found(&sandbox, &[]), (0, Vec::new()), "{name}, {kind}");
            layers(&sandbox).assert_same(&before, name);
            assert!(image_dir(&sandbox).join("config").exists());
        }
    }
}

#[test]
fn a_root_file_system_is_a_source_too() {
    let sandbox = Sandbox::new();
    let tar = Tar::new().dir("etc").file("etc/name", &b"content".repeat(99)).finish();
    for (name, archive) in [("root.tar", tar.clone()), ("root.tar.gz", gzip(&tar))] {
        let archive = sandbox.write(name, &archive);
        sandbox.run(&["import", &archive, "-t", "root"]).lines();
        let before = layers(&sandbox);
        flip(&sandbox.root().join("diff").join(sha256(&tar)).join("etc/name"));
        let image = fs::read_dir(sandbox.root().join("images")).unwrap().map(|entry| entry.unwrap().path());
        let image = image.into_iter().find(|path| path.join("config").exists()).expect("there is one");
        fs::remove_file(image.join("config")).unwrap();
        assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, name);
    }
}

#[test]
fn what_only_repeats_a_containers_record_is_written_anew() {
    let (sandbox, _) = store();
    sandbox.run(&["run-mount", "--name", "c", "damaged:1"]).lines();
    sandbox.umount("c");
    let id = sandbox.run(&["inspect", "c"]).json()[0]["Id"].as_str().unwrap().to_owned();
    fs::write(sandbox.root().join("layers").join(&id), "x\n").unwrap();
    fs::remove_file(sandbox.root().join("containers/names/c")).unwrap();
    assert_eq!(found(&sandbox, &[]).0, 3);
    assert_eq!(repair(&sandbox, &[]).code, 0);
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    sandbox.run(&["rm", "c"]).lines();
}

#[test]
fn the_table_says_what_was_mended_and_what_is_left() {
    let (sandbox, archive) = store();
    flip(&diff(&sandbox).join("etc/noted"));
    change(&part(&sandbox, "json"), "\"size\": ", "\"size\": 1");
    let output = sandbox.run(&["verify", "--repair"]);
    assert_eq!((output.code, output.stderr.as_str()), (3, ""));
    assert!(output.stdout.lines().any(|line| line.contains("etc/noted") && line.contains("left: needs a source")));
    let output = sandbox.run(&["verify", "--repair", "--from", &archive, "damaged:1"]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert!(output.stdout.lines().any(|line| line.contains("etc/noted") && line.ends_with("mended")), "{output:?}");
    assert_eq!(sandbox.run(&["verify", "--repair"]).lines(), Vec::<&str>::new());
}
