//! What is committed in `fixtures/` is what its generator gives.

use std::path::Path;

use super::cli::Sandbox;
use super::generator;

#[test]
fn the_committed_files_are_what_the_generator_gives() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut names = vec!["README.md", "corpus", "generate.rs", "generator.rs", "hostile.rs", "seeds.rs"];
    for (name, content) in generator::files() {
        let committed = std::fs::read(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(committed == content, "{name} is something else: `make fixtures` writes it anew");
        assert!(content.len() < 40 << 10, "{name} is no small file");
        names.push(name);
    }
    let mut found: Vec<String> = std::fs::read_dir(&dir)
        .expect("the directory is there")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("a name of ours"))
        .collect();
    // Stores that an earlier version has made, which no generator can.
    found.retain(|name| !name.starts_with("store-"));
    found.sort();
    names.sort_unstable();
    assert_eq!(found, names, "the generator writes all files");
}

#[test]
fn the_committed_files_are_the_same_image() {
    let sandbox = Sandbox::new();
    let import = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
        let output = sandbox.run(&["import", path.to_str().expect("the path is text")]);
        output.lines().iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()
    };
    let practice = format!("sha256:{}", generator::practice().id());
    assert_eq!(import("practice.docker.tar").join(" "), practice);
    assert_eq!(import("practice.oci.tar").join(" "), practice);
    let two = import("two.docker-24.tar");
    assert_eq!((two.len(), &two[0]), (2, &practice));
    let images = sandbox.run(&["images"]);
    assert_eq!(images.lines().len(), 3, "{images:?}");
}
