//! Groups 14 to 16 of [`hostile`](super::hostile): what an archive says of itself, and what is done with content later.

use std::fs;

use serde_json::json;

use super::archives::{podman, single};
use super::generator::{Member, Members, gzip, oci, sha256};
use super::hostile::World;
use super::hostile_tar::Raw;

#[test]
fn descriptors_that_lie() {
    let world = World::new();
    let image = single("x");
    let layout = || oci(std::slice::from_ref(&image));
    let refuse =
        |what: &str, members: &Members, words: &[&str]| world.refuses_archive(what, &members.tar(), &[], words);
    for (what, old, new, word) in [
        ("a negative size", "\"size\":", "\"size\":-", "cannot be understood"),
        ("a size of 20 digits", "\"size\":", "\"size\":99999999999999999999", "cannot be understood"),
        ("sha512", "\"digest\":\"sha256:", "\"digest\":\"sha512:", "is not a sha512 digest"),
        ("md5", "\"digest\":\"sha256:", "\"digest\":\"md5:", "no other algorithm is known"),
        ("no algorithm", "\"digest\":\"sha256:", "\"digest\":\"", "is not a sha256 digest"),
        ("a path", "\"digest\":\"sha256:", "\"digest\":\"sha256:/../../../", "is not a sha256 digest"),
    ] {
        refuse(what, &layout().replaced("index.json", old, new), &["index.json", word]);
    }
    let named = |media_type: &str, document: serde_json::Value| {
        let mut members = layout();
        let descriptor = members.blob(media_type, document.to_string());
        members.with("index.json", |index| *index = json!({ "manifests": [descriptor] }).to_string().into_bytes())
    };
    let (manifest, index) = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json");
    // CVE-2021-41190: for one tool a manifest, for another an index.
    let config = json!({ "digest": format!("sha256:{}", image.id()), "size": image.config.len() });
    let both = json!({ "mediaType": manifest, "config": config, "layers": [], "manifests": [] });
    refuse("an index and a manifest", &named(manifest, both), &["blobs/sha256/", "an index and a manifest in one"]);
    let confused = json!({ "mediaType": index, "config": config, "layers": [] });
    refuse("a manifest that says it is an index", &named(manifest, confused), &["blobs/sha256/", "is no index"]);
    let confused = json!({ "config": config, "layers": [] });
    refuse("a manifest that is named as an index", &named(index, confused), &["blobs/sha256/", "is no index"]);
    let confused = json!({ "mediaType": index, "manifests": [] });
    refuse("an index that is named as a manifest", &named(manifest, confused), &["blobs/sha256/", "is an index"]);
    let both = layout().with("index.json", |index| {
        let mut value: serde_json::Value = serde_json::from_slice(index).expect("JSON");
        value["config"] = json!({ "digest": "sha256:x", "size": 1 });
        *index = value.to_string().into_bytes();
    });
    refuse("index.json as both", &both, &["index.json", "an index and a manifest in one"]);
}

#[test]
fn manifests_that_name_files_of_the_machine() {
    let world = World::new();
    let image = single("x");
    let docker = || podman(std::slice::from_ref(&image), <[u8]>::to_vec);
    let (config, layer) = (format!("{}.json", image.id()), format!("{}.tar", sha256(&image.layers[0])));
    let (victim, above) = (world.outside("victim"), "../../../../../../../../etc/passwd".to_owned());
    let dir = world.outside("dir");
    for target in [&victim, &above, &dir, &world.outside("fifo"), &"/dev/zero".to_owned()] {
        let last = target.rsplit('/').next().expect("it has parts");
        for old in [&config, &layer] {
            let members = docker().replaced("manifest.json", old, target);
            world.refuses_archive(&format!("{target} for {old}"), &members.tar(), &[], &[last, "is missing"]);
            let mut linked = docker().without(old);
            linked.0.push((old.clone(), Member::Link(target.clone())));
            world.refuses_archive(&format!("a link to {target} for {old}"), &linked.tar(), &[], &[old, "is missing"]);
        }
    }
    let with = |text: &str| docker().with("manifest.json", |content| *content = text.as_bytes().to_vec()).tar();
    world.refuses_archive("no item", &with("[]"), &[], &["has no image in it"]);
    world.refuses_archive("null", &with("[null]"), &[], &["manifest.json", "is no manifest"]);
    let many = format!("[{}]", vec!["{\"Config\":\"x\",\"Layers\":[]}"; 100_000].join(","));
    world.refuses_archive("many items", &with(&many), &[], &["has more than 10000 images and names"]);
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    world.refuses_archive("nested without end", &with(&nested), &[], &["manifest.json", "is no manifest"]);
    for tag in ["<none>:<none>", "../../x", "UPPER", "a:b:c", "x@sha256:0", ""] {
        let members = docker().replaced("manifest.json", "x:latest", tag);
        world.refuses_archive(&format!("the tag {tag:?}"), &members.tar(), &[], &["manifest.json", "image name"]);
    }
}

/// A layout in a directory, of which parts are links, fifos and devices.
#[test]
fn manifests_in_a_directory_stay_in_it() {
    let world = World::new();
    let image = single("x");
    let blob = format!("blobs/sha256/{}", sha256(&gzip(&image.layers[0])));
    let config = format!("blobs/sha256/{}", image.id());
    let layout = world.sandbox.root().join("layout");
    let text = layout.to_str().expect("text").to_owned();
    let fresh = || {
        let _ = fs::remove_dir_all(&layout);
        oci(std::slice::from_ref(&image)).write_to(&layout);
    };
    for name in [&blob, &config, "index.json"] {
        for (what, target, why) in [
            ("a link out", world.outside("victim"), "leads out of the layout"),
            ("a link above", format!("{}{}", "../".repeat(30), world.outside("victim")), "leads out of the layout"),
            ("a link to itself", name.rsplit('/').next().expect("a name").to_owned(), "leads nowhere"),
            ("a directory", String::new(), "is no regular file"),
            ("a fifo", "fifo".to_owned(), "is no regular file"),
        ] {
            // Whether there is an index at all is asked before.
            if name == "index.json" && what == "a link to itself" {
                continue;
            }
            fresh();
            let path = layout.join(name);
            fs::rename(&path, layout.join("kept")).expect("it is there");
            match what {
                "a directory" => fs::create_dir(&path).expect("it can be made"),
                "a fifo" => {
                    let mode = rustix::fs::Mode::RWXU;
                    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("made");
                }
                _ => std::os::unix::fs::symlink(&target, &path).expect("it can be made"),
            }
            let output = world.guarded(what, || world.sandbox.run(&["import", &text]));
            output.assert_refused(125, &[&text, name, why]);
        }
    }
    // A link that stays inside is what some build tools write.
    fresh();
    fs::rename(layout.join(&blob), layout.join("kept")).expect("it is there");
    std::os::unix::fs::symlink("../../kept", layout.join(&blob)).expect("it can be made");
    let output = world.guarded("a link inside", || world.sandbox.run(&["import", &text]));
    assert_eq!(output.lines(), [format!("sha256:{}", image.id())]);
}

/// Files of an image that programs like to read are only content: nothing in them, or behind them, is opened.
#[test]
fn what_an_image_has_is_never_opened_outside_of_it() {
    let world = World::new();
    let (dir, victim) = (world.outside("dir"), world.outside("victim"));
    let layer = Raw::new()
        .link("etc", &dir)
        .link("dev", &dir)
        .link("proc", &dir)
        .link("passwd", &victim)
        .link("fifo", &world.outside("fifo"))
        .end();
    let tree = [
        format!("l etc -> {dir}"),
        format!("l dev -> {dir}"),
        format!("l proc -> {dir}"),
        format!("l passwd -> {victim}"),
        format!("l fifo -> {}", world.outside("fifo")),
    ];
    world.takes("links to the machine", &[layer], &tree.iter().map(String::as_str).collect::<Vec<_>>());
    // Later layers, commands and mounts do not follow them either.
    let run = |words: &[&str]| world.guarded(&words.join(" "), || world.sandbox.run(words));
    for words in [
        &["run-mount", "--name", "box", "taken0:1"][..],
        &["inspect", "box"],
        &["umount", "box"],
        &["commit", "box"],
        &["rm", "box"],
        &["df", "-v"],
        &["verify"],
    ] {
        assert_eq!(run(words).code, 0, "{words:?}");
    }
    let output = run(&["cp", "taken0:1:/passwd", "-"]);
    assert_ne!(output.stdout, "intact");
    let output = world.guarded("a user", || world.sandbox.run(&["run-mount", "--rm", "taken0:1", "--", "/etc/victim"]));
    // It cannot even start: its own /proc is a link.
    assert_eq!((output.code, output.stdout.as_str()), (125, ""), "{output:?}");
}
