//! `docs/json.md` is true: its commands print what has the keys and types of its examples.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::generator::{Image, Tar, docker_since_25, sha256};
use super::mounts::Mounts;

/// The type of a value, down to the last key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Scalar(&'static str),
    /// All that its elements are.
    List(BTreeSet<Self>),
    Object(BTreeMap<String, Self>),
    /// An object whose keys depend on what it is of.
    Map(BTreeSet<Self>),
}

/// Objects of which not every key is always there.
const MAPS: [&str; 1] = ["Messages"];

fn shape(value: &Value) -> Shape {
    match value {
        Value::Null => Shape::Scalar("null"),
        Value::Bool(_) => Shape::Scalar("bool"),
        Value::Number(_) => Shape::Scalar("number"),
        Value::String(_) => Shape::Scalar("string"),
        Value::Array(values) => Shape::List(values.iter().map(shape).collect()),
        Value::Object(fields) => {
            let of = |(key, value): (&String, &Value)| match (MAPS.contains(&key.as_str()), value) {
                (true, Value::Object(map)) => (key.clone(), Shape::Map(map.values().map(shape).collect())),
                _ => (key.clone(), shape(value)),
            };
            Shape::Object(fields.iter().map(of).collect())
        }
    }
}

/// The commands of the document, with their examples.
fn examples() -> Vec<(String, Value)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let text = fs::read_to_string(path).expect("the document is there");
    let sections = text.split("\n## `layerctl ").skip(1);
    let example = |section: &str| {
        let (command, rest) = section.split_once("`\n").expect("a command in a heading");
        let block = rest.split_once("```json\n").and_then(|(_, rest)| rest.split_once("```")).expect("an example").0;
        (command.to_owned(), serde_json::from_str(block).unwrap_or_else(|error| panic!("{command}: {error}")))
    };
    sections.map(example).collect()
}

fn image() -> Image {
    let layers = vec![
        Tar::new().dir("etc").file("etc/name", b"first\n").file("gone", b"").link("lib", "etc").finish(),
        Tar::new().file("etc/name", b"the second\n").finish(),
    ];
    let mut image = Image::new("amd64", layers, &["ci/app:1"]);
    let mut config: Value = serde_json::from_slice(&image.config).expect("a config");
    config["history"] = json!([
        { "created": "2001-09-09T01:46:40Z", "created_by": "ADD rootfs" },
        { "created_by": "ENV A=1", "empty_layer": true },
        { "created": "2001-09-09T01:46:40Z", "created_by": "RUN make" },
    ]);
    image.config = config.to_string().into_bytes();
    image
}

#[test]
fn the_documented_json_is_what_is_printed() {
    let mounts = Mounts::new();
    let image = image();
    fs::write(mounts.at("app.tar"), docker_since_25(std::slice::from_ref(&image)).tar())
        .expect("an archive is written");
    let layer = sha256(&image.layers[0]);
    let examples = examples();
    for (command, example) in &examples {
        match command.as_str() {
            "diff work" => {
                let mountpoint = mounts.inspect("work")["Mountpoint"].as_str().expect("it is mounted").to_owned();
                fs::write(format!("{mountpoint}/etc/name"), "new\n").expect("it is writable");
                fs::write(format!("{mountpoint}/new"), "").expect("it is writable");
                fs::remove_file(format!("{mountpoint}/gone")).expect("it is writable");
            }
            "verify" => fs::remove_file(mounts.at("store/diff").join(&layer).join("etc/name")).expect("it is there"),
            "commit work" => mounts.umount("work"),
            "prune --dry-run" => drop(mounts.import("old", &super::root_fs::plain())),
            _ => {}
        }
        if command == "prune --dry-run" {
            mounts.run(&["untag", "old"]).ok();
        }
        let mountpoint = match command.as_str() {
            "inspect MOUNTPOINT" => mounts.inspect("work")["Mountpoint"].as_str().expect("it is mounted").to_owned(),
            _ => String::new(),
        };
        let value = |word| match word {
            "LAYER" => &*layer,
            "MOUNTPOINT" => &*mountpoint,
            word => word,
        };
        let words: Vec<&str> = command.split(' ').map(value).collect();
        let said = mounts.run(&[&["--format", "json"], &words[..]].concat());
        assert_eq!(said.code, if command == "verify" { 3 } else { 0 }, "{command}: {said:?}");
        let printed: Value =
            serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{command}: {error}: {said:?}"));
        assert_eq!(shape(&printed), shape(example), "{command} prints {printed:#}");
    }
    assert!(examples.len() >= 16, "all commands are there: {}", examples.len());
    mounts.run(&["rm", "-f", "work"]).ok();
}
