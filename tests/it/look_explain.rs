//! `explain`.

use std::fs;

use serde_json::{Value, json};

use super::generator::{Image, Tar, docker_since_25, sha256};
use super::mounts::Mounts;

fn image() -> Image {
    let mut hard = Tar::new().dir("etc").file("etc/name", b"first\n").file("etc/gone", b"x");
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    hard.0.append_link(&mut link, "etc/other", "etc/name").expect("a tar entry");
    let layers = vec![
        hard.dir("usr")
            .dir("usr/lib")
            .file("usr/lib/so", b"1")
            .link("lib", "usr/lib")
            .dir("cache")
            .file("cache/a", b"a")
            .finish(),
        Tar::new().dir("etc").file("etc/name", b"the second\n").file("etc/.wh.gone", b"").finish(),
        Tar::new().dir("cache").file("cache/.wh..wh..opq", b"").file("cache/b", b"b").file("deep/er/x", b"x").finish(),
        Tar::new().file(".wh.deep", b"").link("loop", "loop/x").finish(),
    ];
    let mut image = Image::new("amd64", layers, &["story:1"]);
    let mut config: Value = serde_json::from_slice(&image.config).expect("a config");
    config["history"] = json!([
        { "created_by": "ADD rootfs" },
        { "created_by": "ENV A=1", "empty_layer": true },
        { "created_by": "RUN sed" },
        { "created_by": "RUN clean" },
        { "created_by": "RUN rm -r deep" },
    ]);
    image.config = config.to_string().into_bytes();
    image
}

fn explain(mounts: &Mounts, name: &str, path: &str) -> Value {
    serde_json::from_str(&mounts.run(&["explain", "--format", "json", name, path]).ok()).expect("JSON")
}

/// Each layer with what it does.
fn actions(explanation: &Value) -> Vec<(Option<u64>, String)> {
    let layers = explanation["Layers"].as_array().expect("a list");
    layers.iter().map(|one| (one["Layer"].as_u64(), one["Action"].as_str().expect("a word").to_owned())).collect()
}

fn done(actions: &[(u64, &str)]) -> Vec<(Option<u64>, String)> {
    actions.iter().map(|(layer, word)| (Some(*layer).filter(|layer| *layer > 0), (*word).to_owned())).collect()
}

#[test]
fn each_layer_is_told_with_its_step() {
    let mounts = Mounts::new();
    mounts.import_archive(&docker_since_25(&[image()]).tar());
    let name = explain(&mounts, "story:1", "/etc/name");
    assert_eq!((&name["Present"], &name["Path"], &name["Links"]), (&json!(true), &json!("/etc/name"), &json!([])));
    assert_eq!(actions(&name), done(&[(2, "gives"), (1, "hidden")]));
    let top = &name["Layers"][0];
    assert_eq!((&top["Step"], &top["CreatedBy"]), (&json!(3), &json!("RUN sed")));
    assert_eq!(top["DiffID"], format!("sha256:{}", sha256(&image().layers[1])));
    assert_eq!(top["Entry"]["Digest"], format!("sha256:{}", sha256(b"the second\n")));
    assert_eq!((&top["Entry"]["Type"], &top["Entry"]["Mode"]), (&json!("file"), &json!("0644")));
    assert_eq!(name["Layers"][1]["Entry"]["Names"], json!(["/etc/name", "/etc/other"]));

    for (path, present, told) in [
        ("etc/gone", false, &[(2, "whiteout"), (1, "hidden")][..]),
        ("/cache/a", false, &[(3, "opaque"), (1, "hidden")]),
        ("/cache", true, &[(3, "gives"), (3, "opaque"), (1, "hidden")]),
        ("/cache/b", true, &[(3, "gives")]),
        ("/deep/er/x", false, &[(4, "whiteout"), (3, "hidden")]),
        ("/etc", true, &[(2, "gives"), (1, "merges")]),
        ("/lib", true, &[(1, "gives")]),
        ("/", true, &[(4, "gives"), (3, "merges"), (2, "merges"), (1, "merges")]),
    ] {
        let said = explain(&mounts, "story:1", path);
        assert_eq!((actions(&said), &said["Present"]), (done(told), &json!(present)), "{path}");
    }
    let gone = explain(&mounts, "story:1", "/deep/er/x");
    assert_eq!(
        (&gone["Layers"][0]["At"], &gone["Layers"][0]["CreatedBy"]),
        (&json!("/deep"), &json!("RUN rm -r deep"))
    );
    let linked = explain(&mounts, "story:1", "/etc/../lib/./so");
    assert_eq!((&linked["Path"], &linked["Links"][0]["Path"]), (&json!("/usr/lib/so"), &json!("/lib")));
    assert_eq!((&linked["Links"][0]["Target"], &linked["Links"][0]["Layer"]), (&json!("usr/lib"), &json!(1)));

    let text = mounts.run(&["explain", "story:1", "/etc/gone"]).ok();
    for part in
        ["/etc/gone is removed", "removed by layer 2", "step 3: RUN sed", "whiteout of /etc/gone", "hidden in layer 1"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    mounts.run(&["explain", "story:1", "/etc/never"]).fails(1, &["no such file: story:1:/etc/never"]);
    mounts.run(&["explain", "story:1", "/loop/y"]).fails(125, &["symbolic links", "/loop/y"]);
    mounts.run(&["explain", "none", "/"]).fails(1, &["no such container or image: none"]);
}

#[test]
fn a_containers_own_layer_is_on_top_mounted_or_not() {
    let mounts = Mounts::new();
    mounts.import_archive(&docker_since_25(&[image()]).tar());
    let container = mounts.mount(&["--name", "c", "story:1"]);
    let at = |path: &str| container.mountpoint.join(path);
    fs::write(at("etc/name"), "third\n").unwrap();
    fs::remove_file(at("usr/lib/so")).unwrap();
    fs::write(at("etc/gone"), "back\n").unwrap();
    fs::create_dir(at("own")).unwrap();
    fs::rename(at("cache"), at("own/cache")).unwrap();
    fs::remove_dir_all(at("usr")).unwrap();
    fs::create_dir_all(at("usr/lib")).unwrap();
    fs::write(at("etc/new"), "").unwrap();
    let check = |how: &str| {
        for (path, present, told) in [
            ("/etc/name", true, &[(0, "gives"), (2, "hidden"), (1, "hidden")][..]),
            ("/etc/other", true, &[(1, "gives")]),
            ("/lib/so", false, &[(0, "removes"), (1, "hidden")]),
            ("/etc/gone", true, &[(0, "gives"), (2, "whiteout"), (1, "hidden")]),
            ("/own/cache/b", true, &[(0, "gives")]),
            ("/cache/b", false, &[(0, "removes"), (3, "hidden")]),
            ("/lib", true, &[(1, "gives")]),
            ("/etc", true, &[(0, "gives"), (2, "merges"), (1, "merges")]),
            ("/usr", true, &[(0, "gives"), (0, "opaque"), (1, "hidden")]),
            ("/usr/lib", true, &[(0, "gives"), (0, "opaque"), (1, "hidden")]),
            ("/", true, &[(0, "gives"), (4, "merges"), (3, "merges"), (2, "merges"), (1, "merges")]),
        ] {
            let said = explain(&mounts, "c", path);
            assert_eq!((actions(&said), &said["Present"]), (done(told), &json!(present)), "{how}: {path}");
        }
        mounts.run(&["explain", "c", "/never"]).fails(1, &["no such file: c:/never"]);
    };
    check("mounted");
    mounts.umount("c");
    check("not mounted");
    mounts.run(&["rm", "c"]).ok();
}
