//! `tag`, `untag`, `exists`.

use serde_json::json;

use super::archives::{sample, single};
use super::cli::Sandbox;
use super::generator::{docker_since_25, sha256};

fn store() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.run_piped(&["import", "-"], &docker_since_25(&[sample(), single("other")]).tar()).lines();
    sandbox
}

fn names(sandbox: &Sandbox, image: &str) -> serde_json::Value {
    sandbox.run(&["inspect", image]).json()[0]["RepoTags"].clone()
}

#[test]
fn a_name_comes_and_goes_and_the_image_stays() {
    let sandbox = store();
    let id = sample().id();
    assert_eq!(sandbox.run(&["tag", "sample:1", "ci/built:v2", "again"]).lines(), [""; 0]);
    assert_eq!(names(&sandbox, &id), json!(["again:latest", "ci/built:v2", "sample:1"]));
    // Also by an id, and once more.
    sandbox.run(&["tag", &id[..12], "again"]).lines();
    assert_eq!(names(&sandbox, "again"), json!(["again:latest", "ci/built:v2", "sample:1"]));
    assert_eq!(sandbox.run(&["untag", "again", "sample:1", "ci/built:v2"]).lines(), [""; 0]);
    assert_eq!(names(&sandbox, &id), json!([]));
    sandbox.run(&["exists", &id]).lines();
    assert_eq!(sandbox.debris(), Vec::<String>::new());
    // Now it is one that `prune` takes.
    sandbox.run(&["prune"]).lines();
    assert_eq!(sandbox.run(&["exists", &id]).code, 1);
}

#[test]
fn a_name_moves_to_another_image() {
    let sandbox = store();
    sandbox.run(&["tag", "sample:1", "other"]).lines();
    assert_eq!(names(&sandbox, "other"), json!(["other:latest", "sample:1"]));
    assert_eq!(names(&sandbox, &single("other").id()), json!([]));
    sandbox.run(&["tag", "sample:1", "localhost/mine"]).lines();
    sandbox.run(&["untag", "mine"]).lines();
    assert_eq!(names(&sandbox, "other"), json!(["other:latest", "sample:1"]));
}

#[test]
fn what_cannot_be_named_or_unnamed_changes_nothing() {
    let sandbox = store();
    let before = sandbox.store();
    let id = sample().id();
    sandbox.run(&["tag", "none", "a"]).assert_refused(1, &["no such image: none"]);
    sandbox.run(&["tag", "sample:1", "fine", "NOT a name"]).assert_refused(2, &["NOT a name"]);
    sandbox.run(&["untag", "none"]).assert_refused(1, &["no such image name: none"]);
    sandbox.run(&["untag", &id]).assert_refused(1, &["no such image name", &id]);
    assert_eq!(sandbox.run(&["tag", "sample:1"]).code, 2);
    sandbox.store().assert_same(&before, "nothing was named");
    // One that fails does not keep the others.
    let output = sandbox.run(&["untag", "none", "other"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, "error: no such image name: none\n"));
    assert_eq!(names(&sandbox, &single("other").id()), json!([]));
}

#[test]
fn all_names_or_none() {
    let sandbox = store();
    let place = |name: &str| sandbox.root().join("images/names").join(format!("{}.json", sha256(name.as_bytes())));
    // What is mounted on cannot be replaced.
    let taken = place("second:latest");
    std::fs::write(&taken, "").expect("a file can be made");
    rustix::mount::mount_bind(&taken, &taken).expect("a file can be mounted");
    sandbox.run(&["tag", "sample:1", "first", "second"]).assert_refused(125, &["busy"]);
    assert!(!place("first:latest").exists(), "the first name is taken back");
}

#[test]
fn twenty_names_at_once_lose_none() {
    let sandbox = store();
    let one = |number: usize| {
        sandbox.run(&["tag", "sample:1", &format!("n{number}:a"), &format!("n{number}:b")]).lines();
        sandbox.run(&["untag", &format!("n{number}:a")]).lines();
    };
    std::thread::scope(|scope| (0..20_usize).for_each(|number| drop(scope.spawn(move || one(number)))));
    let named = names(&sandbox, "sample:1");
    let mut named: Vec<&str> = named.as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
    named.sort_unstable();
    let mut wanted: Vec<String> = (0..20).map(|number| format!("n{number}:b")).collect();
    wanted.push("sample:1".into());
    wanted.sort_unstable();
    assert_eq!(named, wanted);
    assert_eq!(sandbox.debris(), Vec::<String>::new());
}

#[test]
fn existence_is_told_by_the_exit_status() {
    let sandbox = store();
    let id = sample().id();
    let layer = sha256(&sample().layers[0]);
    let code = |words: &[&str]| {
        let output = sandbox.run(&[&["exists"], words].concat());
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "{words:?}");
        output.code
    };
    for (words, status) in [
        (&["sample:1"][..], 0),
        (&[&id], 0),
        (&[&id[..20]], 0),
        (&["--image", "sample:1"], 0),
        (&["--container", "sample:1"], 1),
        (&["--layer", "sample:1"], 1),
        (&[&layer], 0),
        (&["--layer", &layer[..20]], 0),
        (&["--image", &layer], 1),
        (&["sample:2"], 1),
        (&[""], 1),
        (&["../../etc"], 1),
    ] {
        assert_eq!(code(words), status, "{words:?}");
    }
    assert_eq!(sandbox.run(&["exists", "--image", "--layer", "x"]).code, 2);
    // What is damaged is neither there nor not.
    std::fs::write(sandbox.root().join("images").join(&id).join("record.json"), "{").expect("it can be written");
    let output = sandbox.run(&["exists", "sample:1"]);
    output.assert_refused(125, &[&id, "damaged"]);
}
