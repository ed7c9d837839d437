//! Images and their names: listing, describing, removing.

use std::slice::from_ref;

use serde_json::json;

use super::archives::{sample, single};
use super::cli::Sandbox;
use super::generator::{Image, docker_since_25, sha256};

/// A store with these images.
fn with(images: &[Image]) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.run_piped(&["import", "-"], &docker_since_25(images).tar()).lines();
    sandbox
}

fn layer(image: &Image, number: usize) -> String {
    sha256(&image.layers[number])
}

/// What the store holds of a layer.
fn has_layer(sandbox: &Sandbox, diff_id: &str) -> bool {
    let root = sandbox.root();
    let parts =
        ["json", "index", "split"].map(|extension| root.join("layers").join(format!("{diff_id}.{extension}")).exists());
    let diff = root.join("diff").join(diff_id).exists();
    assert!(parts.iter().all(|part| *part == diff), "there are all parts of a layer, or none: {diff} {parts:?}");
    diff
}

/// Two images that have their first layer in common.
fn sharing() -> [Image; 2] {
    let one = Image::new("amd64", [single("base").layers, single("one").layers].concat(), &["one:1"]);
    let two = Image::new("amd64", [single("base").layers, single("two").layers].concat(), &["two:2"]);
    [one, two]
}

#[test]
fn an_empty_store_lists_nothing() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run(&["images"]).lines(), ["REPOSITORY   TAG   IMAGE ID   CREATED   SIZE   IMPORTED"]);
    assert_eq!(sandbox.run(&["--format", "json", "images"]).json(), json!([]));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = sandbox.root().metadata().expect("the store was made").permissions().mode();
    assert_eq!(mode & 0o7777, 0o700, "nobody else sees what suid programs are in layers");
}

#[test]
fn images_are_listed_by_name() {
    let mut many = sample();
    many.names.push("another:x".into());
    let sandbox = with(&[single("b"), many.clone()]);
    let output = sandbox.run(&["images"]);
    let words: Vec<Vec<&str>> = output.lines().iter().map(|line| line.split_whitespace().collect()).collect();
    let short = |image: &Image| image.id()[..12].to_owned();
    assert_eq!(words[0], ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE", "IMPORTED"]);
    assert_eq!(words[1][..3], ["another", "x", &short(&many)]);
    assert_eq!(words[2][..3], ["b", "latest", &short(&single("b"))]);
    assert_eq!(words[3][..3], ["sample", "1", &short(&many)]);
    assert_eq!((words[3].contains(&"14B"), words.len()), (true, 4), "first, x, second: {words:?}");
    let json = sandbox.run(&["images", "--format", "json"]).json();
    let listed = json.as_array().expect("a list").iter().find(|entry| entry["Size"] == 14).expect("it is listed");
    assert_eq!(listed["Id"], format!("sha256:{}", many.id()));
    assert_eq!(listed["RepoTags"], json!(["another:x", "sample:1"]));
}

#[test]
fn an_image_and_its_layers_are_described() {
    let image = sample();
    let sandbox = with(from_ref(&image));
    let (id, short) = (image.id(), &image.id()[..12]);
    let by_id = sandbox.run(&["inspect", &format!("sha256:{id}")]).json();
    for name in ["sample:1", &id, short] {
        assert_eq!(sandbox.run(&["inspect", name]).json(), by_id, "{name}");
    }
    assert_eq!(by_id[0]["Config"]["Cmd"], json!(["/bin/sh"]));
    assert_eq!((&by_id[0]["Architecture"], &by_id[0]["Os"]), (&json!("amd64"), &json!("linux")));
    assert_eq!(by_id[0]["Created"], "2001-09-09T01:46:40Z");
    let chain = sha256(format!("sha256:{} sha256:{}", layer(&image, 0), layer(&image, 1)).as_bytes());
    let chain = sha256(format!("sha256:{chain} sha256:{}", layer(&image, 2)).as_bytes());
    assert_eq!(by_id[0]["ChainID"], format!("sha256:{chain}"));
    let dirs: Vec<String> =
        [2, 1, 0].map(|number| sandbox.root().join("diff").join(layer(&image, number)).display().to_string()).into();
    assert_eq!(by_id[0]["GraphDriver"]["Data"]["LowerDir"], dirs.join(":"));

    let both = sandbox.run(&["inspect", &layer(&image, 0), "sample:1"]).json();
    assert_eq!(both[0]["Id"], format!("sha256:{}", layer(&image, 0)));
    assert_eq!(both[0]["TarSize"], image.layers[0].len());
    assert_eq!((&both[0]["Entries"], &both[0]["Size"]), (&json!(4), &json!(7)));
    assert_eq!(both[0]["Images"], json!([format!("sha256:{id}")]));
    assert_eq!(both[1], by_id[0]);
}

#[test]
fn a_shared_layer_goes_with_the_last_image() {
    let images = sharing();
    let sandbox = with(&images);
    let [base, one, two] = [layer(&images[0], 0), layer(&images[0], 1), layer(&images[1], 1)];
    let output = sandbox.run(&["rmi", "one:1"]);
    let deleted = |id: &str| format!("Deleted: sha256:{id}");
    assert_eq!(output.lines(), ["Untagged: one:1".to_owned(), deleted(&images[0].id()), deleted(&one)]);
    assert_eq!([&base, &one, &two].map(|layer| has_layer(&sandbox, layer)), [true, false, true]);
    assert_eq!(sandbox.run(&["rmi", "two:2"]).lines().len(), 4);
    assert_eq!([&base, &one, &two].map(|layer| has_layer(&sandbox, layer)), [false; 3]);
    assert_eq!(sandbox.debris(), Vec::<String>::new());
    for dir in ["diff", "layers", "images/names"] {
        assert_eq!(std::fs::read_dir(sandbox.root().join(dir)).expect("it is there").count(), 0, "{dir}");
    }
    // And all of it can come again.
    sandbox.run_piped(&["import", "-"], &docker_since_25(&images).tar()).lines();
    assert_eq!([&base, &one, &two].map(|layer| has_layer(&sandbox, layer)), [true; 3]);
}

#[test]
fn an_image_goes_with_its_last_name() {
    let mut image = sample();
    image.names = vec!["a:1".into(), "b:2".into()];
    let sandbox = with(from_ref(&image));
    let before = sandbox.store();
    let words = ["a:1", "b:2"];
    sandbox.run(&["rmi", &image.id()]).assert_refused(125, &[&image.id(), "in use", words[0], words[1]]);
    sandbox.store().assert_same(&before, "named by its id, an image with two names stays");
    assert_eq!(sandbox.run(&["rmi", "a:1"]).lines(), ["Untagged: a:1"]);
    assert_eq!(sandbox.run(&["inspect", "a:1"]).code, 1);
    sandbox.run(&["inspect", "b:2"]).lines();
    // The last name need not be said.
    assert_eq!(sandbox.run(&["rmi", &image.id()[..20]]).lines()[0], "Untagged: b:2");
    assert!(!has_layer(&sandbox, &layer(&image, 0)));
}

#[test]
fn an_image_without_a_name_can_be_removed() {
    let mut image = sample();
    image.names.clear();
    let sandbox = with(from_ref(&image));
    assert_eq!(sandbox.run(&["rmi", &image.id()]).lines().len(), 4);
    assert!(!has_layer(&sandbox, &layer(&image, 0)));
}

#[test]
fn localhost_may_be_left_out() {
    let mut image = sample();
    image.names = vec!["localhost/built:latest".into()];
    let sandbox = with(&[image]);
    for name in ["built", "built:latest", "localhost/built"] {
        sandbox.run(&["inspect", name]).lines();
    }
    assert_eq!(sandbox.run(&["rmi", "built"]).lines()[0], "Untagged: localhost/built:latest");
}

#[test]
fn the_usual_registry_may_be_left_out() {
    let (mut app, mut base, mut mine) = (sample(), single("base"), single("mine"));
    app.names = vec!["docker.io/me/app:2".into()];
    base.names = vec!["docker.io/library/base:latest".into(), "docker.io/library/mine:latest".into()];
    mine.names = vec!["localhost/mine:latest".into()];
    let sandbox = with(&[app.clone(), base.clone(), mine.clone()]);
    for (name, image) in [
        ("me/app:2", &app),
        ("docker.io/me/app:2", &app),
        ("base", &base),
        ("library/base:latest", &base),
        ("docker.io/library/base", &base),
        // What was made here is nearer than what came from there.
        ("mine", &mine),
    ] {
        let id = format!("sha256:{}", image.id());
        assert_eq!(sandbox.run(&["inspect", name]).json()[0]["Id"], id, "{name}");
    }
    assert_eq!(sandbox.run(&["exists", "app"]).code, 1);
    assert_eq!(sandbox.run(&["untag", "base"]).code, 0);
    assert_eq!(sandbox.run(&["images", "base"]).lines().len(), 1, "only the head");
}

#[test]
fn unknown_and_ambiguous_names() {
    // Of 40 ids, and their layers', several begin with the same digit.
    let images: Vec<Image> = (0..40).map(|n| single(&format!("x{n}"))).collect();
    let sandbox = with(&images);
    let before = sandbox.store();
    let ids: Vec<String> = images.iter().map(Image::id).collect();
    let layers: Vec<String> = images.iter().map(|image| layer(image, 0)).collect();
    let count = |all: &[String], prefix: &str| all.iter().filter(|id| id.starts_with(prefix)).count();
    let several = |digit: &&str| count(&ids, digit) > 1 && count(&layers, digit) > 1;
    let ambiguous = ids.iter().map(|id| &id[..1]).find(several).expect("there are only 16 digits");
    for (name, code, words) in [
        ("none", 1, ["no such", "none"]),
        (&*"0".repeat(64), 1, ["no such", "0000"]),
        ("sha256:", 1, ["no such", "sha256:"]),
        ("", 1, ["no such", ""]),
        ("../../etc", 1, ["no such", "../../etc"]),
        (ambiguous, 2, [&*format!("{ambiguous} is ambiguous"), "s start with it"]),
    ] {
        sandbox.run(&["rmi", name]).assert_refused(code, &words);
        // As Docker's, it shows what of the names it found: none.
        let mut output = sandbox.run(&["inspect", name]);
        assert_eq!(std::mem::take(&mut output.stdout), "[]\n", "{name}");
        output.assert_refused(code, &words);
    }
    sandbox.store().assert_same(&before, "nothing was removed");
    // The shortest beginning that only one has.
    let length = (1..64).find(|length| count(&ids, &ids[0][..*length]) == 1).expect("ids differ");
    sandbox.run(&["rmi", &ids[0][..length - 1]]).assert_refused(2, &["is ambiguous"]);
    assert!(sandbox.run(&["rmi", &ids[0][..length.max(4)]]).stdout.contains(&ids[0]));
    assert_eq!(sandbox.run(&["images"]).lines().len(), 40, "a head, and all but one");
}

#[test]
fn one_name_that_fails_does_not_keep_the_others() {
    let sandbox = with(&[single("a"), single("b")]);
    let output = sandbox.run(&["rmi", "a", "none", "b"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, "error: no such image: none\n"));
    assert_eq!(output.stdout.lines().filter(|line| line.starts_with("Untagged")).count(), 2, "{output:?}");
    assert_eq!(sandbox.run(&["images"]).lines().len(), 1);
}

#[test]
fn an_image_stays_while_a_container_is_made_from_it() {
    let image = single("a");
    let sandbox = with(from_ref(&image));
    sandbox.run(&["run-mount", "--name", "user", "a"]).lines();
    let words = ["image a is in use", "container user"];
    sandbox.run(&["rmi", "a"]).assert_refused(125, &words);
    sandbox.umount("user");
    sandbox.run(&["rmi", "a"]).assert_refused(125, &words);
    assert!(has_layer(&sandbox, &layer(&image, 0)));
    sandbox.run(&["rm", "user"]).lines();
    sandbox.run(&["rmi", "a"]).lines();
    assert!(!has_layer(&sandbox, &layer(&image, 0)));
}

#[test]
fn a_container_keeps_the_layers_of_an_image_that_lost_its_name() {
    let sandbox = with(&[single("a")]);
    sandbox.run(&["run-mount", "--name", "user", "a"]).lines();
    sandbox.umount("user");
    // Another image gets the name; the old one is still there, by its id.
    sandbox.run_piped(&["import", "-", "-t", "a"], &docker_since_25(&[single("b")]).tar()).lines();
    sandbox.run(&["rmi", &single("a").id()]).assert_refused(125, &["in use", "container user"]);
    sandbox.run(&["rmi", "a"]).lines();
    let output = sandbox.run(&["run-mount", "--name", "user"]);
    let line = output.lines()[0].to_owned();
    let mountpoint = line.split(' ').nth(1).expect("the mountpoint is printed");
    assert_eq!(std::fs::read(format!("{mountpoint}/a")).expect("the file is there"), b"a");
    sandbox.run(&["rm", "-f", "user"]).lines();
}
