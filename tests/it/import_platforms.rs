//! Which images of an index come in: what is no image, and in an image index what is for another machine, is passed over.

use serde_json::{Value, json};

use super::archives::single;
use super::cli::each_way;
use super::generator::{Image, Members, gzip, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn id(image: &Image) -> String {
    format!("sha256:{}", image.id())
}

/// An image for a platform, and how an index names it.
fn offer(members: &mut Members, platform: &str) -> (Image, Value) {
    let mut words = platform.split('/');
    let [os, architecture] = [words.next(), words.next()].map(|word| word.expect("it has one"));
    let mut described = json!({ "os": os, "architecture": architecture });
    if let Some(variant) = words.next() {
        described["variant"] = json!(variant);
    }
    let mut image = Image::new(architecture, single(&platform.replace('/', "-")).layers, &[]);
    let text = String::from_utf8(image.config).expect("text").replacen("\"linux\"", &json!(os).to_string(), 1);
    image.config = text.into_bytes();
    let mut manifest = members.oci_image(&image, LAYER, gzip);
    manifest["platform"] = described;
    (image, manifest)
}

/// A layout whose index names an image index with these.
fn layout(platforms: &[&str]) -> (Members, Vec<Image>) {
    let mut members = Members::default();
    let (images, manifests): (Vec<Image>, Vec<Value>) =
        platforms.iter().map(|platform| offer(&mut members, platform)).unzip();
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let mut index = members.blob(INDEX, index.to_string());
    index["annotations"] = json!({ "io.containerd.image.name": "many:1" });
    members.oci_index(&[index]);
    (members, images)
}

#[test]
fn the_best_image_of_an_index_comes_in() {
    for (wanted, offered, best) in [
        ("linux/amd64", &["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"][..], "linux/amd64"),
        ("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"], "linux/amd64/v2"),
        ("linux/x86_64", &["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/i386", &["linux/amd64", "linux/386"], "linux/386"),
        ("linux/arm/v7", &["linux/arm/v8", "linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/armhf", &["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/armel", &["linux/arm/v7", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/aarch64", &["linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v9", &["linux/arm64/v8", "linux/amd64"], "linux/arm64/v8"),
    ] {
        let (members, images) = layout(offered);
        let best = &images[offered.iter().position(|platform| *platform == best).expect("it is offered")];
        each_way(&members.tar(), &["--platform", wanted], |sandbox, output| {
            assert_eq!(output.lines(), [id(best)], "{wanted} of {offered:?}");
            assert_eq!(sandbox.run(&["inspect", "many:1"]).json()[0]["Id"], id(best));
        });
    }
}

#[test]
fn what_is_only_for_others_is_refused_with_what_is_there() {
    for (wanted, offered) in [
        ("linux/amd64", &["linux/amd64/v3", "linux/386", "windows/amd64"][..]),
        ("linux/arm64", &["linux/arm/v7", "linux/arm64/v9"]),
        ("linux/arm/v6", &["linux/arm/v7"]),
        ("linux/s390x", &["linux/arm64/v8"]),
    ] {
        let list = offered.join(", ");
        let words = format!("has no image for {wanted}, only for {list}");
        each_way(&layout(offered).0.tar(), &["--platform", wanted], |_, output| {
            output.assert_refused(125, &[&words]);
        });
    }
}

#[test]
fn all_images_of_an_index() {
    let (members, images) = layout(&["linux/s390x", "linux/amd64", "windows/amd64"]);
    let ids: Vec<String> = [&images[1], &images[0], &images[2]].map(id).into();
    each_way(&members.tar(), &["--platform", "all"], |sandbox, output| {
        let mut lines = output.lines();
        let mut ids = ids.clone();
        lines.sort_unstable();
        ids.sort_unstable();
        assert_eq!(lines, ids);
        // The name is that of the one for this machine.
        if cfg!(target_arch = "x86_64") {
            assert_eq!(sandbox.run(&["inspect", "many:1"]).json()[0]["Id"], id(&images[1]));
        }
    });
}

#[test]
fn images_that_the_layout_names_itself_all_come_in() {
    let mut members = Members::default();
    let (images, mut manifests): (Vec<Image>, Vec<Value>) = ["linux/s390x", "windows/amd64", "linux/arm/v7"]
        .map(|platform| offer(&mut members, platform))
        .into_iter()
        .unzip();
    for manifest in &mut manifests {
        manifest["annotations"] = json!({ "io.containerd.image.name": "same:1" });
    }
    members.oci_index(&manifests);
    let ids: Vec<String> = images.iter().map(id).collect();
    each_way(&members.clone().tar(), &["--platform", "linux/arm/v7"], |sandbox, output| {
        assert_eq!(output.lines(), ids);
        assert_eq!(sandbox.run(&["inspect", "same:1"]).json()[0]["Id"], ids[2], "the best one has the name");
    });
    // One of which parts are not there is passed over, unless it is the only one.
    let absent = |image: &Image| format!("blobs/sha256/{}", sha256(&gzip(&image.layers[0])));
    let config = format!("blobs/sha256/{}", images[1].id());
    let fewer = members.without(&absent(&images[0])).without(&config);
    each_way(&fewer.clone().tar(), &[], |_, output| {
        assert_eq!((output.code, output.stdout.as_str()), (0, format!("{}\n", ids[2]).as_str()), "{output:?}");
        let lines: Vec<&str> = output.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        for (member, line) in [&config, &absent(&images[0])].into_iter().zip(lines) {
            assert!(line.contains(member) && line.ends_with("passed over: it is missing"), "{line}");
        }
    });
    each_way(&fewer.without(&absent(&images[2])).tar(), &[], |_, output| {
        output.assert_refused(125, &["blobs/sha256/", "is missing"]);
    });
}

/// As `docker save --platform` writes: the index names all, and the blobs of one are there.
#[test]
fn an_index_of_which_only_one_image_is_there() {
    let (members, images) = layout(&["linux/amd64", "linux/arm64"]);
    let absent = |name: &str| {
        let gone = [images[0].id(), sha256(&gzip(&images[0].layers[0]))];
        gone.iter().any(|digest| name.ends_with(digest))
    };
    let mut fewer = members;
    fewer.0.retain(|(name, _)| !absent(name));
    let archive = fewer.tar();
    each_way(&archive, &["--platform", "linux/arm64"], |_, output| assert_eq!(output.lines(), [id(&images[1])]));
    each_way(&archive, &["--platform", "all", "-q"], |_, output| assert_eq!(output.lines(), [id(&images[1])]));
    each_way(&archive, &["--platform", "linux/amd64"], |_, output| {
        output.assert_refused(125, &[&images[0].id(), "is missing"]);
    });
}

#[test]
fn what_is_no_image_is_passed_over() {
    let mut members = Members::default();
    let mut image = single("x");
    image.names = vec!["x:1".into()];
    let wanted = members.oci_image(&image, LAYER, gzip);
    let empty = "application/vnd.oci.empty.v1+json";
    let config = "application/vnd.oci.image.config.v1+json";
    let mut artifact = |config: &str, layer: &str, more: Value| {
        let config = members.blob(config, "{}");
        let layer = members.blob(layer, "something");
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        for (key, value) in more.as_object().expect("an object") {
            manifest[key] = value.clone();
        }
        members.blob(MANIFEST, manifest.to_string())
    };
    let mut attestation = artifact(config, "application/vnd.in-toto+json", json!({}));
    attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    let mut builders = artifact(config, "application/vnd.in-toto+json", json!({ "a": 1 }));
    builders["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let others = [
        (artifact(empty, "text/plain", json!({})), empty),
        (
            artifact(empty, "text/spdx+json", json!({ "artifactType": "application/spdx+json" })),
            "application/spdx+json",
        ),
        (artifact(config, "application/vnd.dev.cosign.simplesigning.v1+json", json!({})), "simplesigning"),
        (
            artifact(
                "application/vnd.cncf.helm.config.v1+json",
                "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                json!({}),
            ),
            "helm.config",
        ),
        (artifact("application/vnd.oci.empty.v1+json", "x/y", json!({ "mediaType": "" })), empty),
        (attestation, "unknown"),
        (builders, "attestation-manifest"),
        (members.blob("application/vnd.oci.artifact.manifest.v1+json", "{\"blobs\":[]}"), "artifact.manifest"),
        (members.blob("application/x-other", "{}"), "application/x-other"),
    ];
    let mut manifests: Vec<Value> = others.iter().map(|(manifest, _)| manifest.clone()).collect();
    let only = {
        let mut only = members.clone();
        only.oci_index(&manifests);
        only
    };
    manifests.insert(3, wanted.clone());
    let beside = {
        let mut beside = members.clone();
        beside.oci_index(&manifests);
        beside
    };
    let index = members.blob(INDEX, json!({ "schemaVersion": 2, "manifests": manifests }).to_string());
    members.oci_index(&[index]);
    for members in [&beside, &members] {
        each_way(&members.tar(), &["--platform", "linux/amd64", "--report", "report"], |sandbox, output| {
            assert_eq!((output.code, &output.stdout), (0, &format!("{}\n", id(&image))), "{output:?}");
            let report = std::fs::read(sandbox.path("report")).expect("it was written");
            let report: Value = serde_json::from_slice(&report).expect("JSON");
            let told = report["passedOver"].as_array().expect("a list");
            assert_eq!((output.stderr.lines().count(), told.len()), (others.len(), others.len()), "{output:?}");
            for (manifest, word) in &others {
                let member = manifest["digest"].as_str().expect("text").replace("sha256:", "blobs/sha256/");
                let line = output.stderr.lines().find(|line| line.contains(&member) && line.contains(word));
                assert!(line.is_some_and(|line| line.contains(": passed over: it is no image")), "{member} {output:?}");
                assert!(told.iter().any(|told| told["member"] == json!(member)), "{told:?}");
            }
        });
        each_way(&members.tar(), &["--platform", "linux/amd64", "-q"], |_, output| {
            assert_eq!(output.lines(), [id(&image)]);
        });
    }
    each_way(&only.tar(), &[], |_, output| output.assert_refused(125, &["has no image in it", "is no image"]));
}
