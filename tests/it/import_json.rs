//! Documents are read as Go reads them, which wrote most of them.

use std::slice::from_ref;

use serde_json::{Value, json};

use super::archives::{podman, sample, single};
use super::cli::Sandbox;
use super::generator::{Image, Tar, docker_since_25, oci, sha256};

/// Imports the image with this config instead of its own; gives what `inspect` shows.
fn inspected(sandbox: &Sandbox, config: &[u8]) -> Value {
    let image = Image { config: config.to_vec(), names: vec!["go:1".into()], ..sample() };
    let archive = sandbox.write("archive", &podman(from_ref(&image), <[u8]>::to_vec).tar());
    assert_eq!(sandbox.run(&["import", &archive]).lines(), [format!("sha256:{}", image.id())]);
    // Its bytes stay as they came.
    let kept = std::fs::read(sandbox.root().join("images").join(image.id()).join("config")).expect("it is kept");
    assert!(kept == config);
    sandbox.run(&["inspect", "go:1"]).json()[0].clone()
}

fn diff_ids(image: &Image) -> String {
    let ids: Vec<String> = image.layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    json!(ids).to_string()
}

#[test]
fn names_of_fields_have_any_case_and_keys_of_maps_do_not() {
    let sandbox = Sandbox::new();
    let ids = diff_ids(&sample());
    let config = format!(
        r#"{{"OS":"linux","Architecture":"amd64","CONFIG":{{"entrypoint":["/bin/tool"],"WORKINGDIR":"/etc",
            "labels":{{"A":"1","a":"2"}}}},"rootfS":{{"DIFF_IDS":{ids}}}}}"#
    );
    let shown = inspected(&sandbox, config.as_bytes());
    assert_eq!(shown["RootFS"]["Layers"].to_string(), ids);
    assert_eq!((&shown["Os"], &shown["Architecture"]), (&json!("linux"), &json!("amd64")));
    let process = &shown["Config"];
    assert_eq!((&process["Entrypoint"], &process["WorkingDir"]), (&json!(["/bin/tool"]), &json!("/etc")));
    assert_eq!(process["Labels"], json!({ "A": "1", "a": "2" }));
    assert_eq!(sandbox.run(&["verify"]).lines(), Vec::<&str>::new());

    // The archive's own documents.
    let image = single("x");
    let names = |text: &[u8]| String::from_utf8_lossy(text).replace("Config", "CONFIG").replace("RepoTags", "repotags");
    let docker = podman(from_ref(&image), <[u8]>::to_vec)
        .with("manifest.json", |content| *content = names(content).replace("Layers", "lAyers").into_bytes());
    let layout = oci(from_ref(&image)).replaced("index.json", "manifests", "Manifests").replaced(
        "index.json",
        "\"digest\"",
        "\"DIGEST\"",
    );
    for archive in [docker.tar(), layout.tar()] {
        let sandbox = Sandbox::new();
        let path = sandbox.write("archive", &archive);
        assert_eq!(sandbox.run(&["import", &path]).lines(), [format!("sha256:{}", image.id())]);
        assert_eq!(sandbox.run_piped(&["import", "-"], &archive).lines(), [format!("sha256:{}", image.id())]);
        sandbox.run(&["inspect", "x:latest"]).json();
    }
}

/// As Docker shows it: nothing that the image says is left out, and nothing is there that it does not say.
#[test]
fn inspect_shows_all_of_how_an_image_runs() {
    let ids = diff_ids(&sample());
    let config = |process: &str| {
        format!(r#"{{"os":"linux","architecture":"amd64","config":{process},"rootfs":{{"diff_ids":{ids}}}}}"#)
    };
    let sandbox = Sandbox::new();
    let all = r#"{"healthcheck":{"test":["CMD","/ok"],"INTERVAL":30000000000,"Retries":2},"onbuild":["RUN x"],
        "ExposedPorts":{"80/tcp":{}},"Volumes":{"/data":{}},"stopsignal":"SIGINT","Shell":["/bin/sh"],"Cmd":null,"own":1}"#;
    let wanted = json!({
        "Healthcheck": { "Test": ["CMD", "/ok"], "Interval": 30_000_000_000u64, "Retries": 2 },
        "OnBuild": ["RUN x"], "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/data": {} },
        "StopSignal": "SIGINT", "Shell": ["/bin/sh"],
    });
    assert_eq!(inspected(&sandbox, config(all).as_bytes())["Config"], wanted);
    let format = "{{json .Config.Healthcheck}} {{json .Config.OnBuild}} {{json .Config.ExposedPorts}}";
    let shown = sandbox.run(&["images", "--quiet", "--no-trunc"]).lines()[0].to_owned();
    let line = sandbox.run(&["inspect", "-f", format, &shown]);
    assert_eq!(line.lines()[0], r#"{"Interval":30000000000,"Retries":2,"Test":["CMD","/ok"]} ["RUN x"] {"80/tcp":{}}"#);
    sandbox.run(&["run-mount", "--name", "box", &shown]).lines();
    assert_eq!(sandbox.run(&["inspect", "box"]).json()[0]["Config"], wanted);
    sandbox.umount("box");
    for nothing in [r#"{"Healthcheck":null,"OnBuild":null}"#, "{}"] {
        let sandbox = Sandbox::new();
        assert_eq!(inspected(&sandbox, config(nothing).as_bytes())["Config"], json!({}), "{nothing}");
        let line = sandbox.run(&["inspect", "-f", "{{json .Config.Healthcheck}} {{json .Config.OnBuild}}", "go:1"]);
        assert_eq!(line.lines(), ["null []"], "{nothing}");
    }
    assert_eq!(inspected(&Sandbox::new(), config("null").as_bytes())["Config"], json!(null));
}

#[test]
fn what_comes_twice_is_merged_and_null_empties() {
    let sandbox = Sandbox::new();
    let ids = diff_ids(&sample());
    let config = format!(
        r#"{{"os":"linux","os":null,"architecture":"amd64","rootfs":{{"diff_ids":["sha256:x"],"diff_ids":{ids}}},
            "config":{{"Env":["A=1"],"Cmd":["/first","x"],"User":"7","Labels":{{"a":"1","b":"1"}},"Entrypoint":["e"]}},
            "Config":{{"cmd":["/second"],"User":null,"Labels":{{"b":"2"}},"Entrypoint":null}}}}"#
    );
    let shown = inspected(&sandbox, config.as_bytes());
    assert_eq!(shown["Os"], json!("linux"));
    let process = &shown["Config"];
    assert_eq!((&process["Env"], &process["Cmd"]), (&json!(["A=1"]), &json!(["/second"])));
    assert_eq!((&process["User"], &process["Labels"]), (&json!("7"), &json!({ "a": "1", "b": "2" })));
    assert!(process["Entrypoint"].as_array().is_none_or(Vec::is_empty));
}

#[test]
fn broken_text_is_replaced() {
    let sandbox = Sandbox::new();
    let ids = diff_ids(&sample());
    let mut config = br#"{"os":"linux","architecture":"amd64","author":"a"#.to_vec();
    config.extend_from_slice(b"\xff");
    config.extend_from_slice(format!(r#"b\ud800c","rootfs":{{"diff_ids":{ids}}}}}"#).as_bytes());
    assert_eq!(inspected(&sandbox, &config)["Author"], json!("a\u{fffd}b\u{fffd}c"));
}

/// What is made of such an image has each field once.
#[test]
fn commit_and_build_write_each_field_once() {
    let sandbox = Sandbox::new();
    let image = single("x");
    let ids = diff_ids(&image);
    let config = format!(
        r#"{{"Os":"linux","architecture":"amd64","rootfS":{{"DIFF_IDS":{ids},"Type":"layers"}},"moby.buildkit":{{"Env":1}},
            "History":[{{"Created_By":"x"}}],"CONFIG":{{"env":["A=1"],"x-other":1,"labels":{{"Env":"1"}}}},
            "config":{{"Env":["B=2"]}}}}"#
    );
    let image = Image { config: config.into_bytes(), names: vec!["odd:1".into()], ..image };
    sandbox.run(&["import", &sandbox.write("archive", &docker_since_25(from_ref(&image)).tar())]).lines();
    sandbox.run(&["run-mount", "--name", "box", "odd:1"]).lines();
    sandbox.umount("box");
    sandbox.run(&["commit", "box", "committed:1", "--change", "USER 5"]).lines();
    let top = sandbox.write("top.tar", &Tar::new().file("y", b"y").finish());
    sandbox.run(&["build", "-t", "built:1", "--from", "odd:1", "--config", "user=5", &top]).lines();
    for name in ["committed:1", "built:1"] {
        let id = sandbox.run(&["inspect", name]).json()[0]["Id"].as_str().expect("text").replace("sha256:", "");
        let config = std::fs::read(sandbox.root().join("images").join(id).join("config")).expect("it is there");
        let text = String::from_utf8(config.clone()).expect("text");
        let config: Value = serde_json::from_slice(&config).expect("JSON");
        assert_eq!(config["config"], json!({ "Env": ["B=2"], "Labels": { "Env": "1" }, "User": "5", "x-other": 1 }));
        let words = config["history"][0]["created_by"].as_str();
        assert_eq!(
            (words, &config["os"], &config["moby.buildkit"]),
            (Some("x"), &json!("linux"), &json!({ "Env": 1 }))
        );
        let fields: Vec<&str> = config.as_object().expect("an object").keys().map(String::as_str).collect();
        for odd in ["CONFIG", "rootfS", "History", "Os", "DIFF_IDS", "Created_By", "\"env\"", "labels"] {
            assert!(!text.contains(odd), "{name}: {odd} is in {text}");
        }
        assert_eq!(fields.len(), 7, "{fields:?}");
    }
}
