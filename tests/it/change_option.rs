//! `--change`: instructions of a Dockerfile for the config of an image that is made.

use serde_json::{Value, json};

use super::mounts::Mounts;

/// The config of an image that is built of `one` with these changes.
fn built(mounts: &Mounts, changes: &[&str]) -> Value {
    let options: Vec<&str> = changes.iter().flat_map(|change| ["--change", change]).collect();
    let args = [&["--quiet", "build", "-t", "made", "--from", "base"], &options[..]].concat();
    mounts.run(&args).ok();
    let id = mounts.inspect("made")["Id"].as_str().expect("an id").trim_start_matches("sha256:").to_owned();
    // All of it, while `inspect` shows what it knows.
    let config: Value = serde_json::from_str(&mounts.read(&format!("store/images/{id}/config"))).expect("JSON");
    config["config"].clone()
}

fn base() -> Mounts {
    let mounts = Mounts::new();
    mounts.mkdir("dir");
    let env = ["--config", "Env=PATH=/bin:/usr/bin", "--config", "Env=EMPTY="];
    mounts.run(&[&["--quiet", "build", "-t", "base"], &env[..], &["dir"]].concat()).ok();
    mounts
}

#[test]
fn variables_are_those_of_the_image_and_of_the_changes_before() {
    let mounts = base();
    let changes = [
        "ENV P=$PATH:/x",
        "ENV PATH=/opt/bin:${PATH} OLD=$PATH",
        "LABEL p=\"$P\" q='$P' r=\\$P",
        "WORKDIR ${EMPTY:-/w}/d",
    ];
    let config = built(&mounts, &changes);
    let env = ["PATH=/opt/bin:/bin:/usr/bin", "EMPTY=", "P=/bin:/usr/bin:/x", "OLD=/bin:/usr/bin"];
    assert_eq!(config["Env"], json!(env));
    assert_eq!(config["Labels"], json!({"p": "/bin:/usr/bin:/x", "q": "$P", "r": "$P"}));
    assert_eq!(config["WorkingDir"], "/w/d");
    for (change, words) in
        [("ENV A=${NONE:?say it}", "say it"), ("ENV A=${B", "does not end"), ("EXPOSE $PATH", "no port")]
    {
        mounts.run(&["build", "--from", "base", "--change", change]).fails(2, &["--change", words]);
    }
}

#[test]
fn a_command_that_is_no_json_is_for_the_shell() {
    let mounts = base();
    assert_eq!(built(&mounts, &["CMD ['x']"])["Cmd"], json!(["/bin/sh", "-c", "['x']"]));
    assert_eq!(built(&mounts, &["ENTRYPOINT [\"a\", ]"])["Entrypoint"], json!(["/bin/sh", "-c", "[\"a\", ]"]));
    assert_eq!(built(&mounts, &["CMD [\"x\", \"$PATH\"]"])["Cmd"], json!(["x", "$PATH"]));
}

#[test]
fn a_healthcheck_is_kept_as_docker_writes_it() {
    let mounts = base();
    let config = built(&mounts, &["HEALTHCHECK --interval=30s --retries=2 CMD test -e /ok"]);
    let wanted = json!({"Test": ["CMD-SHELL", "test -e /ok"], "Interval": 30_000_000_000u64, "Retries": 2});
    assert_eq!(config["Healthcheck"], wanted);
    assert_eq!(built(&mounts, &["HEALTHCHECK NONE"])["Healthcheck"], json!({"Test": ["NONE"]}));
    mounts
        .run(&["build", "--from", "base", "--change", "HEALTHCHECK --interval=x CMD y"])
        .fails(2, &["HEALTHCHECK", "interval=x"]);
}

#[test]
fn images_shows_when_an_image_was_made_and_when_it_came() {
    let mounts = base();
    mounts.run(&["--quiet", "build", "-t", "old", "--config", "created=2020-01-02T03:04:05Z", "dir"]).ok();
    let table = mounts.run(&["images", "old"]).ok();
    let (head, row) = table.split_once('\n').unwrap();
    let at = |word: &str| head.find(word).unwrap();
    assert!(at("IMAGE ID") < at("CREATED") && at("CREATED") < at("SIZE") && at("SIZE") < at("IMPORTED"), "{head}");
    assert!(row[at("CREATED")..at("SIZE")].contains("years ago"), "{table}");
    assert!(!row[at("IMPORTED")..].contains("years"), "{table}");
    let fields = "{{.CreatedAt}} {{.CreatedSince}}";
    assert!(mounts.run(&["images", "old", "--format", fields]).ok().starts_with("2020-01-02T03:04:05Z "));
}
