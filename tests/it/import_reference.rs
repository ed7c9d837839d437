//! How an archive names its parts and images: configs by any name, blobs by sha256 and sha512, images as registries take it.

use std::slice::from_ref;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use super::archives::{podman, sample, single};
use super::cli::{Sandbox, each_way};
use super::generator::{Image, Members, docker_before_25, gzip, sha256};

#[test]
fn a_config_has_any_file_name() {
    let image = sample();
    let changed = {
        let config = String::from_utf8(image.config.clone()).expect("text").replace("layer 1", "layer 9");
        Image { config: config.into_bytes(), ..image.clone() }
    };
    let name = format!("{}.json", image.id());
    let named = |new: &str| {
        let mut members = podman(from_ref(&image), <[u8]>::to_vec).replaced("manifest.json", &name, new);
        let at = members.0.iter().position(|(known, _)| *known == name).expect("it is there");
        members.0[at].0 = new.to_owned();
        members
    };
    let other = docker_before_25(from_ref(&image)).with(&name, |content| content.clone_from(&changed.config));
    for (members, image, name) in [
        (named("config.json"), &image, "config.json"),
        (named("some/where"), &image, "some/where"),
        (named(&format!("{}.json", "0".repeat(64))), &image, &*format!("{}.json", "0".repeat(64))),
        (other, &changed, &name),
    ] {
        let archive = members.tar();
        each_way(&archive, &["--report", "report"], |sandbox, output| {
            assert_eq!(output.lines(), [format!("sha256:{}", image.id())], "{name}");
            let report = std::fs::read(sandbox.path("report")).expect("it was written");
            let report: Value = serde_json::from_slice(&report).expect("JSON");
            assert_eq!(report["configNames"], json!([name]));
        });
        each_way(&archive, &["--policy", "strict"], |_, output| {
            output.assert_refused(125, &[name, "is not named by its digest", "--policy compat"]);
        });
    }
    // Names that say what the bytes are.
    for name in [name.clone(), image.id(), format!("sha256:{}", image.id())] {
        each_way(&named(&name).tar(), &["--policy", "strict"], |_, output| {
            assert_eq!(output.lines(), [format!("sha256:{}", image.id())], "{name}");
        });
    }
    // In `blobs/` a digest binds.
    let blob = format!("blobs/sha256/{}", "0".repeat(64));
    each_way(&named(&blob).tar(), &[], |_, output| output.assert_refused(125, &[&blob, "has the digest"]));
}

fn sha512(bytes: &[u8]) -> String {
    Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A layout whose blobs are named by their sha512.
fn layout(image: &Image, pack: fn(&[u8]) -> Vec<u8>, algorithm: &str) -> Members {
    let mut members = Members::default();
    let mut blob = |kind: &str, content: Vec<u8>| {
        let (digest, size) = (sha512(&content), content.len());
        members.file(&format!("blobs/sha512/{digest}"), content);
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": kind, "digest": format!("{algorithm}:{digest}"), "size": size })
    };
    let layers: Vec<Value> = image.layers.iter().map(|layer| blob("layer.v1.tar", pack(layer))).collect();
    let config = blob("config.v1+json", image.config.clone());
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let manifest = blob("manifest.v1+json", manifest.to_string().into_bytes());
    members.oci_index(&[manifest]);
    members
}

#[test]
fn blobs_may_be_named_by_their_sha512() {
    let image = sample();
    for pack in [<[u8]>::to_vec as fn(&[u8]) -> Vec<u8>, gzip] {
        let members = layout(&image, pack, "sha512");
        let ids = [format!("sha256:{}", image.id())];
        each_way(&members.tar(), &[], |sandbox, output| {
            assert_eq!(output.lines(), ids);
            assert_eq!(sandbox.run(&["verify"]).lines(), Vec::<&str>::new());
            sandbox.run(&["save", &image.id(), "-o", "saved"]).lines();
        });
        let sandbox = Sandbox::new();
        members.write_to(&sandbox.path("layout"));
        assert_eq!(sandbox.run(&["import", "layout"]).lines(), ids);
        for content in [&image.config, &pack(&image.layers[0])] {
            let name = format!("blobs/sha512/{}", sha512(content));
            let flip = |content: &mut Vec<u8>| *content.last_mut().expect("it has bytes") ^= 1;
            let wrong = members.clone().with(&name, flip).tar();
            each_way(&wrong, &[], |_, output| output.assert_refused(125, &[&name]));
        }
    }
    // The layer is right, and its blob is another one.
    let other = sha512(b"other");
    let plain = layout(&image, <[u8]>::to_vec, "sha512");
    let layer = sha512(&image.layers[0]);
    let name = format!("blobs/sha512/{layer}");
    let mut members = plain.clone();
    let at = members.0.iter().position(|(known, _)| *known == name).expect("it is there");
    members.0[at].0 = format!("blobs/sha512/{other}");
    let manifest = members.0.iter().find_map(|(name, member)| match member {
        super::generator::Member::File(content) if content.starts_with(b"{\"schemaVersion\":2,\"config\"") => {
            Some(name.clone())
        }
        _ => None,
    });
    let members = members.replaced(&manifest.expect("a manifest"), &layer, &other);
    each_way(&members.tar(), &[], |_, output| output.assert_refused(125, &["has the digest"]));
    for algorithm in ["sha384", "md5", "blake3"] {
        let members = layout(&image, <[u8]>::to_vec, algorithm);
        each_way(&members.tar(), &[], |_, output| {
            output.assert_refused(125, &["index.json", algorithm, "no other algorithm is known"]);
        });
    }
}

#[test]
fn names_are_those_that_registries_take() {
    let image = single("x");
    let named = |name: &str| podman(from_ref(&image), <[u8]>::to_vec).replaced("manifest.json", "x:latest", name).tar();
    for name in ["[::1]:5000/case/img:1", "a__b/c--d:1", "host:5000/x:1", "[2001:db8::1]/x:y"] {
        each_way(&named(name), &[], |sandbox, output| {
            output.lines();
            assert_eq!(sandbox.run(&["inspect", name]).json()[0]["RepoTags"], json!([name]));
        });
    }
    let hex = sha256(b"x");
    for name in ["a._b:1", "a.-b:1", "a___b:1", "Case/Img:1", &hex, &format!("{hex}:1"), "[::1]:1", "<none>:<none>"] {
        each_way(&named(name), &[], |_, output| output.assert_refused(125, &["manifest.json", "is not an image name"]));
        // The caller's own name helps.
        each_way(&named(name), &["-t", "mine:1"], |sandbox, output| {
            output.lines();
            assert_eq!(sandbox.run(&["inspect", "mine:1"]).json()[0]["RepoTags"], json!(["mine:1"]), "{name}");
        });
        let sandbox = Sandbox::new();
        let path = sandbox.write("archive", &named("good:1"));
        sandbox.run(&["import", &path, "-t", name]).assert_refused(2, &["is not an image name"]);
    }
}
