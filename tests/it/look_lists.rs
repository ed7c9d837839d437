//! Lists and their `--format`, `--filter`, `--sort`, `-q`; `history`.

use serde_json::{Value, json};

use super::archives::single;
use super::cli::Sandbox;
use super::generator::{Image, Tar, docker_since_25, sha256};

/// An image of two layers and five steps, of which one has a long command.
pub(crate) fn storied() -> Image {
    let layers = vec![
        Tar::new().dir("etc").file("etc/name", b"first\n").finish(),
        Tar::new().file("etc/name", b"the second\n").finish(),
    ];
    let mut image = Image::new("amd64", layers, &["storied:1", "again/storied:2"]);
    let mut config: Value = serde_json::from_slice(&image.config).expect("a config");
    config["created"] = json!("2001-09-09T03:46:40.5+02:00");
    config["config"] = json!({ "Env": ["A=1"], "Labels": { "stage": "two", "com.example/x": "y" } });
    config["history"] = json!([
        { "created": "2001-09-08T00:00:00Z", "created_by": format!("ADD\tfile:{} in /", "0".repeat(50)) },
        { "created": "2001-09-08T00:00:01Z", "created_by": "ENV A=1", "empty_layer": true },
        { "created": "2001-09-09T01:46:40Z", "created_by": "RUN \u{1b}[31mmake\n", "comment": "buildkit" },
        { "created": null, "created_by": "CMD [\"sh\"]", "empty_layer": true, "comment": null },
    ]);
    image.config = config.to_string().into_bytes();
    image
}

fn store() -> Sandbox {
    let sandbox = Sandbox::new();
    let mut bare = single("bare");
    bare.names.clear();
    sandbox.run_piped(&["import", "-"], &docker_since_25(&[storied(), single("other"), bare]).tar()).lines();
    sandbox
}

fn short(image: &Image) -> String {
    image.id()[..12].to_owned()
}

#[test]
fn history_is_told_from_the_last_step_down() {
    let sandbox = store();
    let image = storied();
    let output = sandbox.run(&["history", "storied:1"]);
    let lines = output.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    let cells: Vec<Vec<&str>> = lines.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]);
    assert_eq!(cells[1], [&*short(&image), "N/A", "CMD", "[\"sh\"]", "0B"]);
    assert_eq!((cells[2][0], *cells[2].last().unwrap()), ("<missing>", "buildkit"));
    assert!(lines[2].contains("RUN \\u{1b}[31mmake\\n") && lines[2].contains("11B"), "{lines:?}");
    assert!(lines[3].contains("ENV A=1") && lines[3].trim_end().ends_with("0B"), "{lines:?}");
    // As wide as Docker shows it.
    let cut = format!("ADD file:{}…", "0".repeat(35));
    assert!(lines[4].contains(&format!("{cut}   6B")) && lines[4].contains("years ago"), "{lines:?}");
    let whole = sandbox.run(&["history", "--no-trunc", "storied:1"]);
    assert!(whole.stdout.contains(&format!("sha256:{}", image.id())) && whole.stdout.contains(&"0".repeat(50)));

    let json = sandbox.run(&["history", "--format", "json", "storied:1"]).json();
    assert_eq!(json.as_array().map(Vec::len), Some(4));
    assert_eq!(json[0]["Id"], format!("sha256:{}", image.id()));
    assert_eq!(json[0]["Tags"], json!(["again/storied:2", "storied:1"]));
    assert_eq!(
        (&json[0]["Created"], &json[0]["EmptyLayer"], &json[0]["Layer"]),
        (&json!(null), &json!(true), &json!(null))
    );
    assert_eq!((&json[1]["Id"], &json[1]["Tags"]), (&json!("<missing>"), &json!(null)));
    assert_eq!((&json[1]["Created"], &json[1]["Size"]), (&json!(1_000_000_000), &json!(11)));
    assert_eq!(json[1]["CreatedBy"], "RUN \u{1b}[31mmake\n");
    assert_eq!(json[3]["Layer"], format!("sha256:{}", sha256(&image.layers[0])));

    assert_eq!(
        sandbox.run(&["history", "-q", "storied:1"]).lines(),
        [&*short(&image), "<missing>", "<missing>", "<missing>"]
    );
    let by = sandbox.run(&["history", "--format", "{{.ID}} {{.CreatedBy}} {{.Comment}}", "other"]);
    assert_eq!(by.lines(), [format!("{} layer 1 ", short(&single("other")))]);
    sandbox.run(&["history", "none"]).assert_refused(1, &["no such image: none"]);
}

#[test]
fn ids_alone() {
    let sandbox = store();
    let all = [storied(), single("other"), single("bare")].map(|image| short(&image));
    let output = sandbox.run(&["images", "-q"]);
    let mut ids = output.lines();
    ids.sort_unstable();
    let mut wanted: Vec<&str> = all.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    assert_eq!(ids, wanted, "each once, also with two names");
    let whole = sandbox.run(&["images", "-q", "--no-trunc", "--filter", "reference=other"]);
    assert_eq!(whole.lines(), [format!("sha256:{}", single("other").id())]);
    let layers = sandbox.run(&["layers", "-q", "--filter", "image=other"]);
    assert_eq!(layers.lines(), [&sha256(&single("other").layers[0])[..12]]);
    assert_eq!(sandbox.run(&["ps", "-q"]).lines(), [""; 0]);
}

#[test]
fn images_are_filtered_and_sorted() {
    let sandbox = store();
    let by = |words: &[&str]| -> Vec<String> {
        let words = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], words].concat();
        sandbox.run(&words).lines().iter().map(|line| (*line).to_owned()).collect()
    };
    let all = ["<none>:<none>", "again/storied:2", "other:latest", "storied:1"];
    assert_eq!(by(&[]), all);
    for (filter, wanted) in [
        (&["reference=storied"][..], &["storied:1"][..]),
        (&["reference=storied:1"], &["storied:1"]),
        (&["reference=*/storied"], &["again/storied:2"]),
        (&["reference=o*", "reference=storied:?"], &["other:latest", "storied:1"]),
        (&["reference=none"], &[]),
        (&["dangling=true"], &["<none>:<none>"]),
        (&["dangling=false"], &["again/storied:2", "other:latest", "storied:1"]),
        (&["label=stage"], &["again/storied:2", "storied:1"]),
        (&["label=stage=two", "label=com.example/x=y"], &["again/storied:2", "storied:1"]),
        (&["label=stage=two", "label=com.example/x=z"], &[]),
        (&["label=stage", "reference=storied"], &["storied:1"]),
        // All were made in the same second.
        (&["before=other"], &[]),
        (&["since=other"], &[]),
        (&[&format!("id={}", &single("other").id()[..9])], &["other:latest"]),
    ] {
        let words: Vec<&str> = filter.iter().flat_map(|filter| ["--filter", filter]).collect();
        assert_eq!(by(&words), wanted, "{filter:?}");
    }
    assert_eq!(by(&["stor*"]), ["storied:1"], "as docker images PATTERN");
    assert_eq!(by(&["-a"]), all);
    assert_eq!(by(&["--sort", "size", "--filter", "dangling=false"])[0], "other:latest");
    assert_eq!(by(&["--sort", "tag"]), ["storied:1", "again/storied:2", "<none>:<none>", "other:latest"]);
    assert_eq!(by(&["--sort", "IMAGE ID"]).len(), 4);
    let json = sandbox.run(&["images", "--format", "json", "--filter", "label=stage"]).json();
    assert_eq!(
        (json.as_array().map(Vec::len), &json[0]["Id"]),
        (Some(1), &json!(format!("sha256:{}", storied().id())))
    );
    for (words, said) in [
        (&["images", "--filter", "colour=red"][..], "colour"),
        (&["images", "--filter", "dangling"], "KEY=VALUE"),
        (&["images", "--filter", "dangling=perhaps"], "perhaps"),
        (&["images", "--filter", "reference=["], "pattern"),
        (&["images", "--sort", "beauty"], "beauty"),
        (&["ps", "--filter", "reference=x"], "reference"),
        (&["ps", "--filter", "status=paused"], "paused"),
        (&["layers", "--filter", "label=x"], "label"),
    ] {
        sandbox.run(words).assert_refused(2, &[said]);
    }
    sandbox.run(&["images", "--filter", "before=none"]).assert_refused(1, &["no such image: none"]);
}

#[test]
fn containers_are_filtered() {
    let sandbox = store();
    for name in ["work", "workshop", "rest"] {
        let image = if name == "rest" { "other" } else { "storied:1" };
        sandbox.run(&["run-mount", "--name", name, image]).lines();
    }
    sandbox.umount("workshop");
    let by = |filters: &[&str]| -> String {
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["-f", filter]).collect();
        let words = [&["ps", "--sort", "name", "--format", "{{.Names}}"], &filters[..]].concat();
        sandbox.run(&words).lines().join(" ")
    };
    assert_eq!(by(&[]), "rest work workshop");
    assert_eq!(by(&["status=running"]), "rest work");
    assert_eq!(by(&["status=exited", "status=created"]), "workshop");
    assert_eq!(by(&["name=work"]), "work workshop");
    assert_eq!(by(&["ancestor=storied:1", "status=running"]), "work");
    let line = sandbox.run(&["ps", "--no-trunc", "-q", "--filter", "name=rest"]);
    let id = line.lines()[0].to_owned();
    assert_eq!(id.len(), 64);
    assert_eq!(by(&[&format!("id={}", &id[..10])]), "rest");
    for name in ["work", "workshop", "rest"] {
        sandbox.run(&["rm", "-f", name]).lines();
    }
}

#[test]
fn templates_make_lines_and_tables() {
    let sandbox = store();
    let (image, id) = (storied(), short(&storied()));
    let run = |words: &[&str]| {
        let output = sandbox.run(words);
        output.lines();
        output.stdout
    };
    let only = ["--filter", "reference=storied"];
    let images = |template: &str| run(&[&["images", "--format", template], &only[..]].concat());
    assert_eq!(images("{{.ID}} {{.Repository}}"), format!("{id} storied\n"));
    assert_eq!(images("{{.ID}}\\t{{.Size}}"), format!("{id}\t17B\n"));
    assert_eq!(images("table {{.ID}}\\t{{.Size}}"), format!("IMAGE ID       SIZE\n{id}   17B\n"));
    assert_eq!(
        images("table {{.Repository}}\\t{{upper .Tag}}\\t{{json .Size}}"),
        "REPOSITORY   TAG   SIZE\nstoried      1     \"17B\"\n"
    );
    assert_eq!(run(&["images", "-n", "--format", "table {{.Tag}}", "other"]), "latest\n");
    assert_eq!(images("{{join .RepoTags \",\"}}"), "again/storied:2,storied:1\n");
    let noheading = run(&[&["images", "--noheading"], &only[..]].concat());
    assert!(noheading.starts_with("storied      1") || noheading.starts_with("storied   1"), "{noheading}");
    assert_eq!(run(&["layers", "--format", "{{.Entries}}", "-f", "image=other"]), "1\n");
    assert_eq!(run(&["df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]).lines().next(), Some("Images 3 0"));

    let inspect = |template: &str| run(&["inspect", "storied:1", "--format", template]);
    assert_eq!(inspect("{{.Id}}"), format!("sha256:{}\n", image.id()));
    assert_eq!(inspect("{{json .Config.Env}}"), "[\"A=1\"]\n");
    assert_eq!(inspect("{{range .RepoTags}}{{println .}}{{end}}"), "again/storied:2\nstoried:1\n\n");
    assert_eq!(
        inspect("{{index .Config.Labels \"stage\"}}|{{index .Config.Labels \"none\"}}|{{.Config.Cmd}}"),
        "two||[]\n"
    );
    assert_eq!(run(&["inspect", "--format", "{{.Size}}", "storied:1", "other"]), "17\n5\n");
    let json = sandbox.run(&["inspect", "--format", "json", "storied:1"]);
    assert_eq!(json.stdout, sandbox.run(&["inspect", "storied:1"]).stdout, "as it always was");
}

#[test]
fn a_bad_template_is_refused_in_one_sentence() {
    let sandbox = store();
    for (words, said) in [
        (&["images", "--format", "{{.Nope}}"][..], "Nope"),
        (&["images", "--format", "{{.ID"], "--format"),
        (&["images", "--format", "{{nope .ID}}"], "nope"),
        (&["images", "--format", "jsom"], "jsom"),
        (&["inspect", "--format", "{{.Config.Nope}}", "other"], "Nope"),
        (&["import", "--format", "{{.}}", "x"], "no template"),
        (&["run-mount", "--format", "{{.Id}}", "other"], "no template"),
    ] {
        sandbox.run(words).assert_refused(2, &[said]);
    }
    // The list of nothing is nothing.
    assert_eq!(Sandbox::new().run(&["images", "--format", "{{.ID}}"]).lines(), [""; 0]);
    assert_eq!(Sandbox::new().run(&["images", "--format", "table {{.ID}}"]).lines(), ["IMAGE ID"]);
}
