//! What fuzzing begins with, and what it has found, through the same code as when it fuzzes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::seeds;

#[path = "../../fuzz/bodies/mod.rs"]
mod bodies;

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The inputs of a target, by name.
fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let dir = at("fixtures/corpus").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries
        .map(|entry| entry.expect("it can be read").path())
        .map(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name of ours").to_owned();
            (name, fs::read(path).expect("it can be read"))
        })
        .collect()
}

fn replay(target: &str) {
    let (_, body) = bodies::TARGETS.iter().find(|(known, _)| *known == target).expect("a target of this name");
    for (name, bytes) in inputs(target) {
        // Shown when it fails.
        println!("{target}/{name}");
        let understood = body(&bytes);
        // What was a finding may be anything; a seed that is not understood leads nowhere.
        let is_seed = seeds::seeds().iter().any(|(of, seed, _)| *of == target && *seed == name);
        assert!(understood || !is_seed || seeds::REFUSED.contains(&(target, &name)), "it is not understood");
    }
}

macro_rules! targets {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_has_a_corpus_a_program_and_a_test() {
            let sorted = |dir: &str| {
                let entries = fs::read_dir(at(dir)).expect("it is there");
                let names = entries.map(|entry| entry.expect("it can be read").file_name().into_string());
                let mut names: Vec<String> = names.map(|name| name.expect("a name of ours").replace(".rs", "")).collect();
                names.sort();
                names
            };
            let targets = bodies::TARGETS.map(|(name, _)| name);
            assert_eq!([$(stringify!($target)),*], targets, "the tests here");
            assert_eq!(sorted("fixtures/corpus"), targets, "the corpora");
            assert_eq!(sorted("fuzz/targets"), targets, "the programs");
            let manifest = fs::read_to_string(at("fuzz/Cargo.toml")).expect("it is there");
            for target in targets {
                assert!(manifest.contains(&format!("\npath = \"targets/{target}.rs\"\n")), "{target} is not built");
                let program = fs::read_to_string(at(&format!("fuzz/targets/{target}.rs"))).expect("it is there");
                assert!(program.contains(&format!("target!(\"{target}\")")), "{target} fuzzes something else");
            }
        }
    };
}

targets!(archive decompress documents ids image index json layer names options pax records sparse split union);

#[test]
fn the_committed_seeds_are_what_the_generator_gives() {
    for (target, name, content) in seeds::seeds() {
        let committed = fs::read(at("fixtures/corpus").join(target).join(name));
        let committed = committed.unwrap_or_else(|error| panic!("{target}/{name}: {error}"));
        assert!(committed == content, "{target}/{name} is something else: `make fixtures` writes it anew");
    }
    let bytes: usize = bodies::TARGETS.iter().flat_map(|(target, _)| inputs(target)).map(|(_, one)| one.len()).sum();
    assert!(bytes < 500_000, "the corpus is {bytes} bytes");
}
