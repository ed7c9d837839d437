//! What cannot be imported is refused with one sentence, and the store stays as it was.

use std::io::Write as _;
use std::process::Stdio;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use serde_json::json;

use super::archives::{PACKS, forms, oci_packed, podman, sample, single};
use super::cli::{Output, Sandbox};
use super::generator::{Image, Member, Members, Tar, docker_before_25, docker_since_25, gzip, oci, sha256};
use super::hostile_tar::Raw;
use super::listing::Listing;

/// A store with an image in it, to which nothing may happen.
struct Untouched {
    sandbox: Sandbox,
    before: Listing,
}

impl Untouched {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.run_piped(&["import", "-"], &docker_since_25(&[single("other")]).tar()).lines();
        let before = sandbox.store();
        Self { sandbox, before }
    }

    #[track_caller]
    fn check(&self, output: &Output, code: i32, words: &[&str], what: &str) {
        println!("{what}: {}", output.stderr.trim_end());
        output.assert_refused(code, words);
        self.sandbox.store().assert_same(&self.before, what);
        assert_eq!(self.sandbox.debris(), Vec::<String>::new(), "{what}");
    }

    /// Bytes that are refused, from a file and through a pipe.
    #[track_caller]
    fn refuses(&self, what: &str, archive: &[u8], words: &[&str]) {
        self.refuses_for(what, archive, &[], words);
    }

    #[track_caller]
    fn refuses_for(&self, what: &str, archive: &[u8], more: &[&str], words: &[&str]) {
        self.file_is_refused(what, archive, more, words);
        let output = self.sandbox.run_piped(&[&["import", "-"], more].concat(), archive);
        self.check(&output, 125, &[&["error: -: "], words].concat(), &format!("{what}, through a pipe"));
    }

    #[track_caller]
    fn file_is_refused(&self, what: &str, archive: &[u8], more: &[&str], words: &[&str]) {
        let path = self.sandbox.write("bad.archive", archive);
        let name = format!("error: {path}: ");
        let output = self.sandbox.run(&[&["import", &path], more].concat());
        self.check(&output, 125, &[&[name.as_str()], words].concat(), &format!("{what}, from a file"));
    }
}

#[test]
fn what_is_no_archive() {
    let store = Untouched::new();
    let noise: Vec<u8> =
        (0..200_u32).flat_map(|n| sha256(&n.to_le_bytes()).into_bytes()).map(|byte| byte ^ 0xa5).collect();
    store.refuses("empty", b"", &["is empty"]);
    store.refuses("text", &b"This is a letter to somebody.\n".repeat(1000), &["is neither an image archive nor a tar"]);
    store.refuses("a word", b"x", &["is neither an image archive nor a tar"]);
    store.refuses("noise", &noise, &["is neither an image archive nor a tar"]);
    for (name, pack) in &PACKS[1..] {
        store.refuses(&format!("text in {name}"), &pack(b"text"), &["is neither an image archive nor a tar"]);
        let [first, .., _, _] = &pack(b"text")[..] else { panic!("it is longer") };
        store.refuses(&format!("the first byte of {name}"), &[*first], &["is neither an image archive nor a tar"]);
    }
    let manifest_only = Tar::new().file("repositories", b"{}").finish();
    store.refuses("no document", &manifest_only, &["has neither a manifest.json nor an index.json"]);
}

#[test]
fn files_that_are_not_there_or_no_archives() {
    let store = Untouched::new();
    let sandbox = &store.sandbox;
    store.check(&sandbox.run(&["import", "no/such.tar"]), 1, &["no such file: no/such.tar"], "no file");
    std::fs::create_dir(sandbox.path("dir")).expect("a directory can be made");
    store.check(&sandbox.run(&["import", "dir"]), 125, &["dir: ", "no OCI layout"], "an empty directory");
    store.check(&sandbox.run(&["import", "-"]), 125, &["-: is empty"], "nothing on standard input");
    store.check(&sandbox.run(&["import", "dir/../x", "-t", "NO"]), 2, &["\"NO\" is not an image name"], "a bad name");
    let platform = sandbox.run(&["import", "x", "--platform", "linux"]);
    store.check(&platform, 2, &["\"linux\" is no platform"], "a bad platform");
}

#[test]
fn wrong_words() {
    let sandbox = Sandbox::new();
    for words in [&["import"][..], &["import", "a", "b"], &["no-such-command"], &["images", "--format", "x"], &["rmi"]]
    {
        let output = sandbox.run(words);
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{words:?}");
        assert!(output.stderr.starts_with("error: "), "{output:?}");
    }
    assert!(!sandbox.root().exists(), "no store is made for them");
}

#[test]
fn one_name_for_several_images_is_wrong_usage() {
    let store = Untouched::new();
    let archive = docker_since_25(&[single("a"), single("b")]).tar();
    let words = ["has several images"];
    let path = store.sandbox.write("two.tar", &archive);
    store.check(&store.sandbox.run(&["import", &path, "-t", "x"]), 2, &[&path, words[0]], "from a file");
    store.check(&store.sandbox.run_piped(&["import", "-", "-t", "x"], &archive), 2, &words, "through a pipe");
}

#[test]
fn an_archive_cut_short_anywhere() {
    let store = Untouched::new();
    for (form, members) in forms(&[sample()]) {
        let whole = members.tar();
        // In the first header, after it, in the middle of the archive and on a boundary of blocks, in the last
        // member's header and before its content; the end is two blocks of zeros, which some writers leave out.
        let middle = whole.len() / 2;
        let last = whole.len() - 1024;
        for cut in [100, 512, 700, middle + 100, middle / 512 * 512, last - 600, last - 512] {
            let cut_archive = &whole[..cut];
            store.refuses(&format!("{form} cut at {cut}"), cut_archive, &[]);
        }
        for cut in [30, middle, whole.len() - 7] {
            let packed = gzip(&whole);
            store.refuses(&format!("{form} in gzip cut at {cut}"), &packed[..cut], &["is cut short"]);
        }
    }
}

#[test]
fn a_root_file_system_cut_short() {
    let store = Untouched::new();
    let whole = Tar::new().dir("etc").file("etc/first", &[b'x'; 3000]).file("etc/second", &[b'y'; 3000]).finish();
    // In a header, where the tar's reader says it in its own words; and in the files' content.
    for cut in [800, 5300] {
        store.refuses(&format!("cut at {cut}"), &whole[..cut], &[]);
    }
    for (cut, entry) in [(1100, "etc/first"), (6000, "etc/second")] {
        store.refuses(&format!("cut at {cut}"), &whole[..cut], &[entry, "is cut short"]);
    }
    for (name, pack) in &PACKS[1..] {
        let packed = pack(&whole);
        store.refuses(&format!("{name} cut"), &packed[..packed.len() - 5], &["is cut short"]);
    }
}

#[test]
fn layers_that_are_not_what_they_should_be() {
    let store = Untouched::new();
    let image = sample();
    let other = Tar::new().file("other", b"other").finish();
    // Layers named by their diffIDs only in the config.
    for (form, members) in
        [("docker before 25", docker_before_25(from_ref(&image))), ("podman", podman(from_ref(&image), gzip))]
    {
        let layer =
            members.0.iter().map(|(name, _)| name).find(|name| name.ends_with(".tar")).expect("a layer").clone();
        let wrong = members.clone().with(&layer, |content| content.clone_from(&other));
        let (is, should) = (sha256(&other), sha256(&image.layers[0]));
        store.refuses(&format!("{form}, another layer"), &wrong.tar(), &[&layer, "diffID", &is, &should]);
        store.refuses(&format!("{form}, no layer"), &members.clone().without(&layer).tar(), &[&layer, "is missing"]);
        let text = members.with(&layer, |content| *content = b"no tar".to_vec());
        store.refuses(&format!("{form}, text for a layer"), &text.tar(), &[&layer]);
    }
    // Layers named by what they are.
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes));
    for (form, members, layer) in [
        ("docker since 25", docker_since_25(from_ref(&image)), blob(&image.layers[0])),
        ("oci", oci(from_ref(&image)), blob(&gzip(&image.layers[0]))),
    ] {
        let wrong = members.clone().with(&layer, |content| content.clone_from(&other));
        store.refuses(&format!("{form}, another layer"), &wrong.tar(), &[&layer]);
        store.refuses(&format!("{form}, no layer"), &members.clone().without(&layer).tar(), &[&layer, "is missing"]);
        // The tar is the same, and only the blob is another.
        let longer = members.with(&layer, |content| content.resize(content.len() + 512, 0));
        store.refuses(&format!("{form}, a layer with zeros after it"), &longer.tar(), &[&layer]);
    }
}

#[test]
fn digests_and_sizes_that_are_wrong() {
    let store = Untouched::new();
    let image = sample();
    // The blob is what it is said to be, and its tar is not what the config says.
    let mut confused = image.clone();
    confused.layers.swap(0, 1);
    let first = format!("blobs/sha256/{}", sha256(&confused.layers[0]));
    store.refuses("layers in the wrong order", &docker_since_25(&[confused.clone()]).tar(), &[&first, "diffID"]);
    let first = format!("blobs/sha256/{}", sha256(&gzip(&confused.layers[0])));
    store.refuses("oci, layers in the wrong order", &oci(&[confused]).tar(), &[&first, "diffID"]);

    let members = oci_packed(&image, gzip);
    let manifest = format!("blobs/sha256/{}", {
        let index: serde_json::Value = serde_json::from_slice(members.clone().content("index.json")).expect("JSON");
        index["manifests"][0]["digest"].as_str().expect("a digest").trim_start_matches("sha256:").to_owned()
    });
    let config = format!("blobs/sha256/{}", image.id());
    let layer = format!("blobs/sha256/{}", sha256(&gzip(&image.layers[0])));
    store.refuses(
        "a config that was changed",
        &members.clone().replaced(&config, "layer 1", "layer 9").tar(),
        &[&config, "has the digest", &image.id()],
    );
    store.refuses(
        "a manifest that was changed",
        &members.clone().replaced(&manifest, "\"schemaVersion\":2", "\"schemaVersion\":3").tar(),
        &[&manifest, "has the digest"],
    );
    store.refuses("no manifest", &members.clone().without(&manifest).tar(), &[&manifest, "is missing"]);
    store.refuses("no config", &members.clone().without(&config).tar(), &[&config, "is missing"]);

    // Sizes: of the manifest in the index, of the layer in a manifest which has its own right digest.
    let size = members.clone().content(&manifest).len();
    let wrong = members.clone().replaced("index.json", &format!("\"size\":{size}"), &format!("\"size\":{}", size + 1));
    store.refuses("a wrong size of the manifest", &wrong.tar(), &[&manifest, "bytes and not"]);
    let size = gzip(&image.layers[0]).len();
    let text = String::from_utf8(members.clone().content(&manifest).clone()).expect("JSON");
    let text = text.replacen(&format!("\"size\":{size}"), "\"size\":1", 1);
    let mut wrong = members;
    let descriptor = wrong.blob("application/vnd.oci.image.manifest.v1+json", text);
    let wrong =
        wrong.with("index.json", |index| *index = json!({ "manifests": [descriptor] }).to_string().into_bytes());
    let said = format!("has {size} bytes and not 1");
    store.refuses("a wrong size of a layer", &wrong.tar(), &[&layer, &said]);

    let docker = docker_since_25(from_ref(&image));
    let changed = docker.replaced(&config, "layer 1", "layer 9");
    store.refuses("docker, a config that was changed", &changed.tar(), &[&config, "has the digest"]);
    let old = docker_before_25(from_ref(&image));
    let config = format!("{}.json", image.id());
    store.refuses("docker before 25, no config", &old.without(&config).tar(), &[&config, "is missing"]);
}

#[test]
fn documents_that_cannot_be_understood() {
    let store = Untouched::new();
    let image = sample();
    let docker = docker_before_25(from_ref(&image));
    let layout = oci(from_ref(&image));
    let with =
        |members: &Members, name: &str, text: &str| members.clone().with(name, |c| *c = text.as_bytes().to_vec()).tar();
    let manifest = "manifest.json";
    store.refuses(
        "no manifest",
        &docker.clone().without(manifest).without("repositories").tar(),
        &["has neither a manifest.json nor an index.json"],
    );
    store.refuses("half a manifest", &with(&docker, manifest, "[{\"Config\":"), &[manifest, "is no manifest"]);
    store.refuses("another manifest", &with(&docker, manifest, "[{\"a\":1}]"), &[manifest, "is no manifest"]);
    store.refuses("no image", &with(&docker, manifest, "[]"), &["has no image in it"]);
    let named = docker.clone().replaced(manifest, "sample:1", "Sample::");
    store.refuses("a name that is none", &named.tar(), &[manifest, "Sample::", "is not an image name"]);
    let fewer = docker.clone().replaced(manifest, "\"Layers\":[", "\"Layers\":[\"more.tar\",");
    store.refuses("more layers than in the config", &fewer.tar(), &["names 3 layers, and the manifest names 4"]);

    store.refuses("no index", &layout.clone().without("index.json").tar(), &["has neither"]);
    store.refuses(
        "half an index",
        &with(&layout, "index.json", "{\"manifests\":["),
        &["index.json", "cannot be understood"],
    );
    store.refuses("no index of images", &with(&layout, "index.json", "{}"), &["index.json", "is no image index"]);
    store.refuses("an empty index", &with(&layout, "index.json", "{\"manifests\":[]}"), &["has no image in it"]);
    let digest = layout.clone().replaced("index.json", "sha256:", "sha512:");
    store.refuses("a digest that is none", &digest.tar(), &["index.json", "sha512:", "is not a sha512 digest"]);
    let path = layout.replaced("index.json", "\"digest\":\"sha256:", "\"digest\":\"sha256:../../");
    store.refuses("a digest that is a path", &path.tar(), &["index.json", "is not a sha256 digest"]);

    let mut config = Image::new("amd64", vec![], &[]);
    for text in ["", "[]", "{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "\u{1b}[31m"] {
        config.config = text.as_bytes().to_vec();
        let id = config.id();
        store.refuses(
            &format!("the config {text:?}"),
            &docker_since_25(&[config.clone()]).tar(),
            &[&id, "is no image config"],
        );
        store.refuses(
            &format!("oci, the config {text:?}"),
            &oci(&[config.clone()]).tar(),
            &[&id, "is no image config"],
        );
    }

    // An index that is in itself deeper than any tool goes.
    let mut deep = Members::default();
    let mut index = json!({ "manifests": [] });
    for _ in 0..12 {
        let descriptor = deep.blob("application/vnd.oci.image.index.v1+json", index.to_string());
        index = json!({ "manifests": [descriptor] });
    }
    deep.file("index.json", index.to_string());
    store.refuses("indexes without end", &deep.tar(), &["too deep"]);
}

#[test]
fn a_platform_that_is_not_offered() {
    let store = Untouched::new();
    let mut members = Members::default();
    let manifests = ["arm64", "riscv64"].map(|architecture| {
        let image = Image::new(architecture, single(architecture).layers, &[]);
        let mut manifest = members.oci_image(&image, "application/vnd.oci.image.layer.v1.tar+gzip", gzip);
        manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
        if architecture == "arm64" {
            manifest["platform"]["variant"] = json!("v8");
        }
        manifest
    });
    let index = members.blob("application/vnd.oci.image.index.v1+json", json!({ "manifests": manifests }).to_string());
    members.oci_index(&[index]);
    let words = ["blobs/sha256/", "has no image for linux/s390x", "linux/arm64/v8, linux/riscv64"];
    store.refuses_for("not offered", &members.tar(), &["--platform", "linux/s390x"], &words);
    let variant = ["has no image for windows/arm64"];
    store.refuses_for("another system", &members.tar(), &["--platform", "windows/arm64"], &variant);
}

#[test]
fn a_layout_in_a_directory_that_is_wrong() {
    let store = Untouched::new();
    let image = sample();
    let layer = format!("blobs/sha256/{}", sha256(&gzip(&image.layers[0])));
    for (name, members, word) in [
        ("missing", oci(from_ref(&image)).without(&layer), "is missing"),
        ("cut", oci(from_ref(&image)).with(&layer, |content| content.truncate(100)), "is cut short"),
        ("else", oci(from_ref(&image)).with(&layer, |content| *content = gzip(&single("x").layers[0])), "not"),
    ] {
        members.write_to(&store.sandbox.path(name));
        store.check(&store.sandbox.run(&["import", name]), 125, &[&format!("error: {name}: {layer}: "), word], name);
    }
}

#[test]
fn layers_that_reach_out() {
    let store = Untouched::new();
    let hostile = [
        ("through a link", Tar::new().link("up", "../tmp").file("up/escaped", b"x").finish(), "up/escaped"),
        ("through a link to /", Tar::new().link("top", "/tmp").file("top/escaped", b"x").finish(), "top/escaped"),
    ];
    for (what, layer, entry) in hostile {
        let image = Image::new("amd64", vec![layer.clone()], &[]);
        let member = format!("{}.tar", sha256(&layer));
        store.refuses(what, &podman(from_ref(&image), <[u8]>::to_vec).tar(), &[&member, entry]);
        store.refuses(&format!("{what}, oci"), &oci(&[image]).tar(), &[&sha256(&gzip(&layer)), entry]);
        store.refuses(&format!("{what}, a root file system"), &layer, &[entry]);
    }
    let names = |dir| -> Vec<_> {
        let entries = std::fs::read_dir(dir).expect("it can be read");
        entries.map(|entry| entry.expect("it can be read").file_name()).collect()
    };
    assert!(names(store.sandbox.path("")).iter().all(|name| name != "escaped"));
    assert!(names(store.sandbox.root()).iter().all(|name| name != "escaped"));
}

#[test]
fn members_that_reach_out() {
    let store = Untouched::new();
    let image = single("x");
    let secret = store.sandbox.write("secret", b"{}");
    // Names of members, and links among them, are never paths of this machine.
    let docker = podman(from_ref(&image), <[u8]>::to_vec);
    let config = format!("{}.json", image.id());
    let outside = docker.clone().replaced("manifest.json", &config, &secret);
    store.refuses("a config outside", &outside.tar(), &["secret", "is missing"]);
    let layer = format!("{}.tar", sha256(&image.layers[0]));
    let linked = |target: &str| {
        let mut members = docker.clone().without(&layer);
        members.0.insert(0, (layer.clone(), Member::Link(target.to_owned())));
        members.tar()
    };
    for target in ["/etc/passwd", "../../../etc/passwd", &layer, ""] {
        if !target.is_empty() {
            store.refuses(&format!("a layer that is a link to {target}"), &linked(target), &[&layer, "is missing"]);
        }
    }
}

#[test]
fn a_writer_that_waits_keeps_nobody_from_being_told() {
    let store = Untouched::new();
    // More than is read at once stands after what is wrong, and then nothing comes, not even the end.
    let tar = Raw::new().file("a", b"a").file("a/b", b"b").file("c", &[b'c'; 600_000]).end();
    for words in [["import", "-"], ["build", "-"]] {
        let mut command = store.sandbox.command(&words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(&tar[..500_000]).ok();
        let patience = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = child.try_wait().unwrap().is_some();
        drop(pipe);
        let output: Output = child.wait_with_output().unwrap().into();
        assert!(ended, "{words:?} waits for more");
        store.check(&output, 125, &["error: -: a/b: "], words[0]);
    }
}
