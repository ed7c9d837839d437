//! `prune` frees what `df` calls reclaimable, and nothing that is in use.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use serde_json::Value;

use super::archives::{sample, single};
use super::cli::Sandbox;
use super::damage::{found, image, part};
use super::generator::{Image, docker_since_25, sha256};

fn import(sandbox: &Sandbox, image: &Image) {
    sandbox.run_piped(&["import", "-"], &docker_since_25(from_ref(image)).tar()).lines();
}

/// With content that takes blocks.
fn large(word: &str) -> Image {
    let layer = super::generator::Tar::new().file(word, &word.as_bytes().repeat(20_000)).finish();
    Image::new("amd64", vec![layer], &[&format!("{word}:1")])
}

/// Allocated bytes and inodes below the directories of the store, each inode once.
fn taken(sandbox: &Sandbox) -> (u64, u64) {
    let mut seen = HashSet::new();
    let (mut bytes, mut inodes) = (0, 0);
    let mut left: Vec<PathBuf> = vec![sandbox.root()];
    let own = ["", "diff", "layers", "images", "images/names", "containers", "containers/names", "mnt", "run", "tmp"];
    let own: HashSet<PathBuf> = own.iter().map(|name| sandbox.root().join(name)).collect();
    let device = fs::metadata(sandbox.root()).unwrap().dev();
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata().unwrap();
        // What is no image's and no container's.
        let name = path.strip_prefix(sandbox.root()).unwrap();
        if metadata.dev() != device || ["run", "meta.json", "lock"].iter().any(|own| Path::new(own) == name) {
            continue;
        }
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        if !own.contains(&path.components().collect::<PathBuf>()) && seen.insert(metadata.ino()) {
            bytes += metadata.blocks() * 512;
            inodes += 1;
        }
    }
    (bytes, inodes)
}

fn df(sandbox: &Sandbox) -> Value {
    sandbox.run(&["--format", "json", "df", "-v"]).json()
}

fn pair(value: &Value) -> (u64, u64) {
    (value["Bytes"].as_u64().unwrap(), value["Inodes"].as_u64().unwrap())
}

fn prune(sandbox: &Sandbox, words: &[&str]) -> Value {
    sandbox.run(&[&["--format", "json", "prune"], words].concat()).json()
}

fn names(sandbox: &Sandbox) -> Vec<String> {
    let images = sandbox.run(&["--format", "json", "images"]).json();
    let mut names: Vec<String> = images.as_array().unwrap().iter().map(|one| one["RepoTags"].to_string()).collect();
    names.sort();
    names
}

/// Everything that a store can have: shared layers, images without a name, containers of which one is mounted, layers
/// that nothing needs, and leftovers.
fn full() -> Sandbox {
    let sandbox = Sandbox::new();
    let layers = [image().layers, large("extra").layers].concat();
    let shared = Image::new("amd64", layers, &["shared:1"]);
    for one in [&image(), &shared, &sample(), &large("used"), &large("stopped"), &large("unnamed"), &large("again")] {
        import(&sandbox, one);
    }
    // It loses its name to another one.
    let other = single("other");
    import(&sandbox, &Image { names: vec!["unnamed:1".into()], ..other });
    for (name, of) in [("c", "used:1"), ("d", "stopped:1")] {
        let line = sandbox.run(&["run-mount", "--name", name, of]);
        let mountpoint = line.lines()[0].split(' ').nth(1).unwrap().to_owned();
        fs::write(Path::new(&mountpoint).join("written"), "x".repeat(50_000)).unwrap();
        fs::hard_link(Path::new(&mountpoint).join("written"), Path::new(&mountpoint).join("twice")).unwrap();
    }
    sandbox.umount("d");
    // A layer that nothing needs: its image goes while it is kept.
    let layer = sandbox.root().join("layers").join(format!("{}.json", sha256(&large("again").layers[0])));
    let kept = fs::File::open(layer).unwrap();
    rustix::fs::flock(&kept, rustix::fs::FlockOperation::LockShared).unwrap();
    sandbox.run(&["rmi", "again:1"]).lines();
    // Also for a child that another test has just forked.
    rustix::fs::flock(&kept, rustix::fs::FlockOperation::Unlock).unwrap();
    let a = "a".repeat(64);
    fs::create_dir_all(sandbox.root().join("diff").join(&a).join("sub")).unwrap();
    fs::write(sandbox.root().join("diff").join(&a).join("sub/x"), "x".repeat(9000)).unwrap();
    fs::create_dir_all(sandbox.root().join("tmp/dead/layer-0")).unwrap();
    fs::write(sandbox.root().join("tmp/dead/layer-0/x"), "x".repeat(5000)).unwrap();
    rustix::fs::sync();
    sandbox
}

#[test]
fn what_is_reclaimable_is_what_is_freed_in_bytes_and_inodes() {
    for (words, rows) in [
        (&[][..], None),
        (&["--all"], Some(&["Images", "Leftovers"][..])),
        (&["--containers"], None),
        (&["--all", "--containers"], Some(&["Total"])),
    ] {
        let sandbox = full();
        let (before, total) = (df(&sandbox), taken(&sandbox));
        let planned = prune(&sandbox, &[words, &["--dry-run"]].concat());
        assert_eq!(taken(&sandbox), total, "a dry run removes nothing");
        let pruned = prune(&sandbox, words);
        let left = taken(&sandbox);
        let freed = (total.0 - left.0, total.1 - left.1);
        assert_eq!((pair(&pruned), pair(&planned)), (freed, freed), "{words:?}: {pruned:#} {planned:#}");
        assert_eq!(pruned["Removed"], planned["Removed"]);
        if let Some(rows) = rows {
            let said = rows.iter().map(|row| pair(&before[*row]["Reclaimable"]));
            let said = said.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            assert_eq!(said, freed, "{words:?}: {before:#}");
        }
        assert_eq!(pair(&before["Total"]["Size"]), total, "{before:#}");
        assert_eq!(pair(&prune(&sandbox, words)), (0, 0), "all has gone at once");

        assert_eq!(found(&sandbox, &[]), (0, Vec::new()), "{words:?}");
        let mounted = sandbox.run(&["inspect", "c"]).json()[0]["Mountpoint"].as_str().unwrap().to_owned();
        assert_eq!(fs::read(Path::new(&mounted).join("used")).unwrap(), b"used".repeat(20_000));
        let has = |name: &str| names(&sandbox).iter().any(|names| names.contains(name));
        assert_eq!(
            (has("used:1"), has("stopped:1"), has("shared:1")),
            match words {
                [] | ["--containers"] => (true, true, true),
                ["--all"] => (true, true, false),
                _ => (true, false, false),
            }
        );
        assert!(names(&sandbox).iter().all(|names| names != "[]"), "images without a name have gone");
        sandbox.run(&["rm", "-f", "c"]).lines();
        prune(&sandbox, &["--all", "--containers"]);
        assert_eq!(taken(&sandbox), taken(&emptied()), "nothing but an empty store is left");
    }
}

fn emptied() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.run(&["prune"]).lines();
    sandbox
}

#[test]
fn shared_and_unique_add_up() {
    let sandbox = full();
    let df = df(&sandbox);
    for one in df["EachImage"].as_array().unwrap() {
        let (shared, unique, size) = (pair(&one["Shared"]), pair(&one["Unique"]), pair(&one["Size"]));
        assert_eq!((shared.0 + unique.0, shared.1 + unique.1), size);
        let is_shared = one["RepoTags"][0] == "shared:1" || one["RepoTags"][0] == "damaged:1";
        assert_eq!(shared.1 > 0, is_shared, "{one}");
    }
    let text = sandbox.run(&["df"]);
    assert_eq!(text.lines().len(), 5, "{text:?}");
    assert!(text.lines()[1].starts_with("Images"), "{text:?}");
}

#[test]
fn damaged_things_go_without_being_read() {
    let sandbox = full();
    // A layer of which nothing can be read, of an image of which nothing can be read.
    for extension in ["json", "index", "split"] {
        fs::write(part(&sandbox, extension), "nothing").unwrap();
    }
    let dir = sandbox.root().join("images").join(image().id());
    fs::write(dir.join("record.json"), "nothing").unwrap();
    fs::write(dir.join("config"), "nothing").unwrap();
    // As it may need any layer, all stay as long as it does.
    let before = fs::read_dir(sandbox.root().join("diff")).unwrap().count();
    prune(&sandbox, &[]);
    assert_eq!(fs::read_dir(sandbox.root().join("diff")).unwrap().count(), before - 1, "but for the leftover");
    let container = sandbox.run(&["inspect", "d"]).json()[0]["Id"].as_str().unwrap().to_owned();
    fs::write(sandbox.root().join("containers").join(&container).join("record.json"), "nothing").unwrap();
    // It may be made from any image.
    prune(&sandbox, &["--all"]);
    assert!(dir.exists());
    prune(&sandbox, &["--all", "--containers"]);
    assert!(!dir.exists() && !sandbox.root().join("diff").join(&container).exists());
    assert!(!part(&sandbox, "json").exists());
    assert_eq!(names(&sandbox), [r#"["used:1"]"#]);
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
}

#[test]
fn layers_are_listed_with_their_images() {
    let sandbox = full();
    let layers = sandbox.run(&["--format", "json", "layers"]).json();
    let lower = format!("sha256:{}", sha256(&image().layers[0]));
    let one = layers.as_array().unwrap().iter().find(|one| one["Id"] == lower.as_str()).unwrap();
    assert_eq!(one["Images"].as_array().unwrap().len(), 2);
    assert_eq!(one["TarSize"].as_u64().unwrap(), image().layers[0].len() as u64);
    let ids = sandbox.run(&["layers", "--quiet", "--no-trunc"]);
    assert!(ids.lines().contains(&lower.as_str()));
    assert_eq!(sandbox.run(&["layers"]).lines().len(), ids.lines().len() + 1);
}
