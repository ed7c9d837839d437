//! Every form of an archive, in every way that it can come, gives the same image.

use std::path::Path;
use std::slice::from_ref;

use serde_json::{Value, json};

use layerctl::image::Platform;

use super::archives::{PACKS, forms, oci_packed, podman, sample, single};
use super::cli::{Output, Sandbox};
use super::generator::{Image, Members, Tar, docker_before_25, docker_since_25, gzip, oci, sha256};
use super::listing::Listing;

/// Ways for an archive to come.
#[derive(Debug, Clone, Copy)]
enum Way {
    File,
    /// A pipe, which can be read once.
    Pipe,
    /// A file on standard input, in which one can seek.
    Stdin,
}

fn import(sandbox: &Sandbox, way: Way, archive: &[u8], more: &[&str]) -> Output {
    let words = |source| [&["import", source][..], more].concat();
    match way {
        Way::Pipe => sandbox.run_piped(&words("-"), archive),
        Way::File => sandbox.run(&words(&sandbox.write("archive", archive))),
        Way::Stdin => sandbox.run_from(&words("-"), &sandbox.write("archive", archive)),
    }
}

fn id(image: &Image) -> String {
    format!("sha256:{}", image.id())
}

/// The layers' files, as they are in the store, with their indexes and splits.
fn trees(sandbox: &Sandbox, image: &Image) -> Vec<Listing> {
    let tree = |layer: &Vec<u8>| {
        let diff_id = sha256(layer);
        let mut tree = Listing::of(&sandbox.root().join("diff").join(&diff_id));
        // Nothing is said of the layers' roots in their tars, so that they are as old as the import.
        tree.0.remove(Path::new(""));
        // Of a whiteout only its name means anything.
        for (_, line) in tree.0.iter_mut().filter(|(path, _)| path.ends_with(".wh.gone")) {
            assert!(line.contains(" size 0 "), "{line}");
            "a whiteout".clone_into(line);
        }
        for extension in ["index", "split"] {
            let path = sandbox.root().join("layers").join(format!("{diff_id}.{extension}"));
            tree.0.insert(extension.into(), sha256(&std::fs::read(path).expect("the layer has it")));
        }
        tree
    };
    image.layers.iter().map(tree).collect()
}

/// All that an import of `image` must have made, whatever it came as; gives its trees.
#[track_caller]
fn check(sandbox: &Sandbox, image: &Image) -> Vec<Listing> {
    let record = sandbox.root().join("images").join(image.id());
    assert_eq!(std::fs::read(record.join("config")).expect("the config is kept"), image.config);
    let inspected = sandbox.run(&["inspect", &image.id()]).json();
    let diff_ids: Vec<String> = image.layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    assert_eq!(inspected[0]["Id"], id(image));
    assert_eq!(inspected[0]["RepoTags"], json!(image.names));
    assert_eq!(inspected[0]["RootFS"], json!({ "Type": "layers", "Layers": diff_ids }));
    assert_eq!(sandbox.debris(), Vec::<String>::new());
    trees(sandbox, image)
}

/// What [`sample`] must look like, from a store that got it in the simplest way.
fn expected(image: &Image) -> Vec<Listing> {
    let sandbox = Sandbox::new();
    import(&sandbox, Way::File, &docker_since_25(from_ref(image)).tar(), &[]).lines();
    check(&sandbox, image)
}

fn all_forms(way: Way, order: fn(Members) -> Members) {
    let image = sample();
    let expected = expected(&image);
    for (form, members) in forms(from_ref(&image)) {
        let sandbox = Sandbox::new();
        let output = import(&sandbox, way, &order(members).tar(), &[]);
        assert_eq!(output.lines(), [id(&image)], "{form}");
        for (layer, (tree, expected)) in check(&sandbox, &image).iter().zip(&expected).enumerate() {
            tree.assert_same(expected, &format!("{form}: layer {layer}"));
        }
    }
}

#[test]
fn every_form_from_a_file() {
    all_forms(Way::File, |members| members);
}

#[test]
fn every_form_from_a_file_in_the_opposite_order() {
    all_forms(Way::File, Members::reversed);
}

#[test]
fn every_form_through_a_pipe() {
    all_forms(Way::Pipe, |members| members);
}

#[test]
fn every_form_through_a_pipe_in_the_opposite_order() {
    all_forms(Way::Pipe, Members::reversed);
}

#[test]
fn every_form_from_a_file_on_standard_input() {
    all_forms(Way::Stdin, |members| members);
}

#[test]
fn a_layout_in_a_directory() {
    let image = sample();
    let expected = expected(&image);
    for (form, members) in [("oci", oci(from_ref(&image))), ("docker", docker_since_25(from_ref(&image)))] {
        let sandbox = Sandbox::new();
        members.write_to(&sandbox.path("layout"));
        assert_eq!(sandbox.run(&["import", "layout"]).lines(), [id(&image)], "{form}");
        assert!(check(&sandbox, &image) == expected, "{form}");
    }
}

#[test]
fn the_files_of_an_image_are_as_its_layers_have_them() {
    let image = sample();
    let trees = expected(&image);
    let paths = |tree: &Listing| -> Vec<String> { tree.0.keys().map(|path| path.display().to_string()).collect() };
    assert_eq!(paths(&trees[0]), ["etc", "etc/gone", "etc/name", "index", "link", "split"]);
    assert_eq!(paths(&trees[1]), ["etc", "etc/.wh.gone", "etc/name", "index", "split"]);
    assert_eq!(paths(&trees[2]), ["index", "split"]);
    assert!(trees[0].0[Path::new("etc/name")].ends_with(&format!(" size 6 {}", sha256(b"first\n"))));
}

#[test]
fn every_compression_of_layers_and_archives() {
    let image = sample();
    let expected = expected(&image);
    for (name, pack) in PACKS {
        for (way, archive) in [
            (Way::File, oci_packed(&image, pack).tar()),
            (Way::Pipe, podman(from_ref(&image), pack).tar()),
            (Way::File, pack(&oci_packed(&image, pack).reversed().tar())),
        ] {
            let sandbox = Sandbox::new();
            let output = import(&sandbox, way, &archive, &[]);
            assert_eq!(output.stdout, format!("{}\n", id(&image)), "{name}, {way:?}: {output:?}");
            assert!(check(&sandbox, &image) == expected, "{name}, {way:?}");
        }
    }
}

#[test]
fn a_root_file_system_is_an_image_of_one_layer() {
    let tar = Tar::new().dir("bin").file("bin/sh", b"shell").dir("usr").dir("usr/a").dir("usr/a/b/c/d").finish();
    let flat = Tar::new().file("manifest.json", b"{}").file("README", b"flat").finish();
    let empty = Tar::new().finish();
    for (what, tar) in [("deep", tar), ("flat, with a manifest.json of its own", flat), ("empty", empty)] {
        let mut ids = Vec::new();
        for (name, pack) in PACKS {
            for way in [Way::File, Way::Pipe] {
                let sandbox = Sandbox::new();
                let output = import(&sandbox, way, &pack(&tar), &["-t", "root"]);
                let id = output.lines().join(" ");
                assert!(output.is_root_file_system, "{what}, {name}, {way:?}: {output:?}");
                let inspected = sandbox.run(&["inspect", "root"]).json();
                assert_eq!(inspected[0]["RootFS"]["Layers"], json!([format!("sha256:{}", sha256(&tar))]), "{name}");
                assert_eq!(inspected[0]["Id"], id);
                ids.push(id);
            }
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "{what}: {ids:?}");
    }
}

#[test]
fn several_images_of_one_archive_share_their_layers() {
    let one = sample();
    let mut layers = one.layers.clone();
    layers.truncate(1);
    // The same layer twice in one image: as empty ones were, before there was a word for them.
    layers.push(layers[0].clone());
    let two = Image::new("amd64", layers, &["other:x", "other:y"]);
    for way in [Way::File, Way::Pipe] {
        for (form, members) in forms(&[one.clone(), two.clone()]) {
            let sandbox = Sandbox::new();
            let output = import(&sandbox, way, &members.tar(), &[]);
            assert_eq!(output.lines(), [id(&one), id(&two)], "{form}, {way:?}");
            check(&sandbox, &one);
            let layers = std::fs::read_dir(sandbox.root().join("diff")).expect("the store has it").count();
            assert_eq!(layers, 3, "{form}, {way:?}");
            // An index gives an image one name.
            let two = if form == "oci" { Image { names: vec!["other:x".into()], ..two.clone() } } else { two.clone() };
            check(&sandbox, &two);
        }
    }
}

/// An index in an index in `index.json`, with an image for each of these, and what was said of the first.
fn nested(images: &[(&Image, Value)]) -> Members {
    let mut members = Members::default();
    let mut manifests = Vec::new();
    for (image, platform) in images {
        let mut manifest = members.oci_image(image, "application/vnd.oci.image.layer.v1.tar+gzip", gzip);
        manifest["platform"] = platform.clone();
        manifests.push(manifest);
    }
    let about = json!({ "schemaVersion": 2, "layers": [], "config": { "digest": "sha256:0", "size": 0 } });
    let mut about = members.blob("application/vnd.oci.image.manifest.v1+json", about.to_string());
    about["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    about["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    manifests.insert(0, about);
    let mut index = json!({ "manifests": manifests });
    for _ in 0..2 {
        let descriptor = members.blob("application/vnd.oci.image.index.v1+json", index.to_string());
        index = json!({ "manifests": [descriptor] });
    }
    members.file("index.json", index.to_string());
    members
}

#[test]
fn an_index_gives_the_image_for_the_platform() {
    let host = Platform::host();
    let on = |architecture: &str, word: &str| Image::new(architecture, single(word).layers, &[]);
    let (here, v6, v7) = (on(&host.architecture, "here"), on("arm", "v6"), on("arm", "v7"));
    let other = on("s390x", "other");
    let arm = |variant: &str| json!({ "os": "linux", "architecture": "arm", "variant": variant });
    let plain = |architecture: &str| json!({ "os": "linux", "architecture": architecture });
    let archive =
        nested(&[(&other, plain("s390x")), (&v6, arm("v6")), (&v7, arm("v7")), (&here, plain(&host.architecture))]);
    for way in [Way::File, Way::Pipe] {
        for (words, image) in [
            (&[][..], &here),
            (&["--platform", "linux/s390x"], &other),
            (&["--platform", "linux/arm/v7"], &v7),
            (&["--platform", "linux/arm/v6"], &v6),
        ] {
            let sandbox = Sandbox::new();
            // The attestation is passed over.
            let output = import(&sandbox, way, &archive.tar(), &[words, &["--quiet"]].concat());
            assert_eq!(output.lines(), [id(image)], "{way:?}, {words:?}");
            check(&sandbox, image);
            // What was unpacked of the others on the way is gone.
            assert_eq!(std::fs::read_dir(sandbox.root().join("diff")).expect("the store has it").count(), 1);
        }
    }
}

#[test]
fn names_are_those_of_the_archive_or_those_that_are_given() {
    let mut image = sample();
    image.names = vec!["one:1".into(), "host.example:5000/two/three:latest".into()];
    let archive = docker_since_25(from_ref(&image)).tar();
    let sandbox = Sandbox::new();
    let names = || sandbox.run(&["images", "--format", "json"]).json()[0]["RepoTags"].clone();
    import(&sandbox, Way::File, &archive, &[]).lines();
    assert_eq!(names(), json!(["host.example:5000/two/three:latest", "one:1"]));

    // An index says the whole name, or only a tag, which is no name.
    let layout = oci(from_ref(&image));
    let sandbox = Sandbox::new();
    let names = || sandbox.run(&["images", "--format", "json"]).json()[0]["RepoTags"].clone();
    let tag_only = layout.clone().replaced("index.json", "io.containerd.image.name", "something.else");
    import(&sandbox, Way::File, &tag_only.tar(), &[]).lines();
    assert_eq!(names(), json!([]));
    assert!(sandbox.run(&["images"]).lines()[1].starts_with("<none>       <none>"), "{:?}", sandbox.run(&["images"]));
    let by_reference = tag_only.replaced("index.json", r#""1""#, r#""localhost/by/reference:1""#);
    import(&sandbox, Way::Pipe, &by_reference.tar(), &[]).lines();
    assert_eq!(names(), json!(["localhost/by/reference:1"]));
    import(&sandbox, Way::File, &layout.tar(), &[]).lines();
    assert_eq!(names(), json!(["localhost/by/reference:1", "one:1"]));

    // Given names stand in place of those of the archive, beside those that the image has.
    let sandbox = Sandbox::new();
    let names = || sandbox.run(&["images", "--format", "json"]).json()[0]["RepoTags"].clone();
    import(&sandbox, Way::Pipe, &archive, &["-t", "a", "--tag", "b:2"]).lines();
    assert_eq!(names(), json!(["a:latest", "b:2"]));
    import(&sandbox, Way::File, &archive, &["-t", "c:3"]).lines();
    assert_eq!(names(), json!(["a:latest", "b:2", "c:3"]));
}

#[test]
fn a_name_goes_to_the_image_that_came_last() {
    let sandbox = Sandbox::new();
    for image in [single("a"), single("b")] {
        import(&sandbox, Way::File, &docker_before_25(&[image]).tar(), &["-t", "moving"]).lines();
    }
    let images = sandbox.run(&["images", "--format", "json"]).json();
    let names = |image: &Image| {
        let its = images.as_array().expect("a list").iter().find(|entry| entry["Id"] == id(image));
        its.expect("the image is listed")["RepoTags"].clone()
    };
    assert_eq!((names(&single("a")), names(&single("b"))), (json!([]), json!(["moving:latest"])));
}

#[test]
fn ids_are_printed_one_per_line_or_as_json() {
    let images = [single("a"), single("b")];
    let archive = docker_since_25(&images).tar();
    let sandbox = Sandbox::new();
    let text = format!("{}\n{}\n", id(&images[0]), id(&images[1]));
    assert_eq!(import(&sandbox, Way::File, &archive, &[]).stdout, text);
    let output = import(&sandbox, Way::Pipe, &archive, &["--format", "json"]);
    assert_eq!(output.json(), json!([id(&images[0]), id(&images[1])]));
    assert_eq!(import(&sandbox, Way::Pipe, &archive, &["--quiet"]).stdout, text);
}

#[test]
fn a_link_to_a_link_is_followed() {
    let image = single("linked");
    let mut members = docker_before_25(from_ref(&image));
    let layer = members.0.iter().position(|(name, _)| name.ends_with("/layer.tar")).expect("there is a layer");
    let name = std::mem::replace(&mut members.0[layer].0, format!("{}/first.tar", "a".repeat(64)));
    members.0.push((name, super::generator::Member::Link("../blobs/second".into())));
    members.0.push(("blobs/second".into(), super::generator::Member::Link(format!("../{}/first.tar", "a".repeat(64)))));
    for way in [Way::File, Way::Pipe] {
        for members in [members.clone(), members.clone().reversed()] {
            let sandbox = Sandbox::new();
            assert_eq!(import(&sandbox, way, &members.tar(), &[]).lines(), [id(&image)], "{way:?}");
        }
    }
}
