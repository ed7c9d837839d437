//! A fifo in the place of a file of the store: nobody waits for who would write to it, and it is named.

use std::path::PathBuf;
use std::process::Command;

use super::cli::{Output, Sandbox};
use super::damage::{fifo_for, image, part, store};
use super::generator::sha256;

/// As [`Sandbox::run`]; who waits is ended, with 124.
fn run(sandbox: &Sandbox, words: &[&str]) -> Output {
    let mut timeout = Command::new("timeout");
    timeout.args(["60", env!("CARGO_BIN_EXE_layerctl")]).args(words).env("LAYERCTL_ROOT", sandbox.root());
    timeout.current_dir(sandbox.path("")).output().expect("the program starts").into()
}

fn image_file(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.root().join("images").join(image().id()).join(name)
}

fn name_file(sandbox: &Sandbox) -> PathBuf {
    let names = std::fs::read_dir(sandbox.root().join("images/names")).expect("it is there");
    names.map(|entry| entry.expect("it is read").path()).next().expect("the image has a name")
}

/// A file, and of these commands, each by its first words, those that need it: they say in one sentence what it is.
type Place = (&'static str, fn(&Sandbox) -> PathBuf, &'static [&'static str]);

const PLACES: &[Place] = &[
    ("record", |s| part(s, "json"), &["save", "inspect LAYER", "history", "export", "import", "layers"]),
    ("index", |s| part(s, "index"), &["export"]),
    ("split", |s| part(s, "split"), &["save"]),
    ("config", |s| image_file(s, "config"), OF_THE_IMAGE),
    ("image record", |s| image_file(s, "record.json"), OF_THE_IMAGE),
    ("name", name_file, OF_THE_IMAGE),
    ("lock", |s| s.root().join("lock"), &["import", "layers", "df", "prune", "verify"]),
    ("meta.json", |s| s.root().join("meta.json"), &[""]),
];

const OF_THE_IMAGE: &[&str] = &["save", "inspect IMAGE", "history", "export", "images"];

#[test]
fn nobody_waits_for_a_fifo() {
    let layer = sha256(&image().layers[0]);
    for (name, place, needs) in PLACES {
        let (sandbox, _) = store();
        let place = place(&sandbox);
        fifo_for(&place);
        let named = place.canonicalize().expect("it is there").display().to_string();
        for words in [
            &["verify"][..],
            &["verify", "--quick"],
            &["save", "damaged:1", "-o", "saved.tar"],
            &["inspect", "damaged:1"],
            &["inspect", &layer],
            &["history", "damaged:1"],
            &["export", "damaged:1", "-o", "exported.tar"],
            &["images"],
            &["layers"],
            &["df"],
            &["prune", "--dry-run"],
            &["import", "image.tar"],
        ] {
            let text = words.join(" ").replace(&layer, "LAYER").replace("inspect damaged:1", "inspect IMAGE");
            let output = run(&sandbox, words);
            println!("{name}: {text}: {output:?}");
            if needs.iter().any(|need| text.starts_with(need)) {
                assert_eq!(output.code, 125);
                assert!(output.stderr.starts_with(&format!("error: {named}: damaged: is no regular file")));
                assert_eq!(output.stderr.lines().count(), 1);
            } else if words[0] == "verify" {
                assert_eq!(output.code, 3);
                assert!(output.stdout.contains("is no regular file"));
            } else {
                output.lines();
            }
        }
    }
}

#[test]
fn what_is_no_file_goes_with_what_it_belongs_to() {
    for (name, place, _) in PLACES.iter().filter(|(name, ..)| ["record", "index", "split", "config"].contains(name)) {
        let (sandbox, archive) = store();
        fifo_for(&place(&sandbox));
        let output = run(&sandbox, &["rmi", "damaged:1"]);
        assert_eq!(output.code, 0, "{name}: {output:?}");
        assert_eq!(run(&sandbox, &["layers", "--quiet"]).lines(), Vec::<&str>::new(), "{name}");
        run(&sandbox, &["import", &archive]).lines();
        assert_eq!(run(&sandbox, &["verify"]).lines(), Vec::<&str>::new(), "{name}");
    }
}
