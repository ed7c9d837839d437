//! `save`: what came in goes out, bit for bit and the same each time.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::slice::from_ref;

use serde_json::{Value, json};

use super::archives::{oci_packed, sample, single};
use super::cli::{Output, Sandbox};
use super::generator::{Image, Tar, docker_since_25, gzip, sha256};

/// The members of a tar: a directory has no content.
pub(crate) fn members(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let mut members = BTreeMap::new();
    for entry in archive.entries().expect("it is a tar") {
        let mut entry = entry.expect("an entry can be read");
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let name = entry.path().expect("it has a name").to_str().expect("the name is text").to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("the content can be read");
        assert!(members.insert(name.clone(), content).is_none(), "{name} is there twice");
    }
    members
}

/// The files of a directory, by their paths in it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(at) = left.pop() {
        if at.is_dir() {
            left.extend(fs::read_dir(&at).expect("it can be read").map(|entry| entry.expect("an entry").path()));
        } else {
            let name = at.strip_prefix(dir).expect("it is below").to_str().expect("the name is text").to_owned();
            files.insert(name, fs::read(&at).expect("it can be read"));
        }
    }
    files
}

fn json_of(members: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    let content = members.get(name).unwrap_or_else(|| panic!("there is no {name} among {:?}", members.keys()));
    serde_json::from_slice(content).expect("it is JSON")
}

/// The blob that a descriptor names, which must be what it says.
fn blob<'m>(members: &'m BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'m [u8] {
    let digest = descriptor["digest"].as_str().expect("it has a digest").strip_prefix("sha256:").expect("a sha256");
    let content = &members[&format!("blobs/sha256/{digest}")];
    assert_eq!((sha256(content).as_str(), json!(content.len())), (digest, descriptor["size"].clone()));
    content
}

/// Fails unless an OCI layout has these images, in this order.
#[track_caller]
fn check_oci(members: &BTreeMap<String, Vec<u8>>, images: &[Image], suffix: &str) {
    assert_eq!(json_of(members, "oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
    let index = json_of(members, "index.json");
    assert_eq!(index["schemaVersion"], 2);
    let manifests = index["manifests"].as_array().expect("a list");
    assert_eq!(manifests.len(), images.len());
    for (descriptor, image) in manifests.iter().zip(images) {
        let name = &image.names[0];
        let tag = name.rsplit(':').next().unwrap();
        assert_eq!(
            descriptor["annotations"],
            json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag })
        );
        let manifest: Value = serde_json::from_slice(blob(members, descriptor)).expect("it is JSON");
        assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(blob(members, &manifest["config"]), image.config);
        let layers = manifest["layers"].as_array().expect("a list");
        assert_eq!(layers.len(), image.layers.len());
        for (descriptor, layer) in layers.iter().zip(&image.layers) {
            assert_eq!(descriptor["mediaType"], format!("application/vnd.oci.image.layer.v1.tar{suffix}"));
            let packed = blob(members, descriptor);
            let plain = match suffix {
                "+gzip" => {
                    let mut plain = Vec::new();
                    flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).expect("it is gzip");
                    plain
                }
                "+zstd" => zstd::decode_all(packed).expect("it is zstd"),
                _ => packed.to_vec(),
            };
            assert!(plain == *layer, "a layer is not what it was");
        }
    }
}

/// Fails unless a docker-archive has these images, in this order.
#[track_caller]
fn check_docker(members: &BTreeMap<String, Vec<u8>>, images: &[Image]) {
    let manifest = json_of(members, "manifest.json");
    let items = manifest.as_array().expect("a list");
    assert_eq!(items.len(), images.len());
    let repositories = json_of(members, "repositories");
    for (item, image) in items.iter().zip(images) {
        assert_eq!(item["RepoTags"], json!(image.names));
        assert_eq!(members[item["Config"].as_str().expect("a name")], image.config);
        let layers = item["Layers"].as_array().expect("a list").iter().map(|name| name.as_str().expect("a name"));
        assert!(layers.map(|name| &members[name]).eq(&image.layers), "the layers are not what they were");
        let (repository, tag) = image.names[0].rsplit_once(':').unwrap();
        assert_eq!(repositories[repository][tag], sha256(image.layers.last().unwrap()));
    }
}

fn images() -> Vec<Image> {
    // The second shares its only layer with the first.
    let base = Image::new("arm64", sample().layers[..1].to_vec(), &["localhost/base:2"]);
    vec![sample(), base]
}

pub(crate) fn imported(images: &[Image]) -> Sandbox {
    let sandbox = Sandbox::new();
    let archive = sandbox.write("in.tar", &docker_since_25(images).tar());
    sandbox.run(&["import", &archive]).lines();
    sandbox
}

#[track_caller]
fn saved(sandbox: &Sandbox, words: &[&str]) -> Vec<u8> {
    let output = sandbox.run(&[&["save", "-o", "out.tar"], words].concat());
    assert!(output.lines().is_empty());
    let bytes = fs::read(sandbox.path("out.tar")).expect("the archive is there");
    // And the same on standard output.
    let output = sandbox.command(&[&["save"], words].concat()).output().expect("the program starts");
    assert!(output.status.success());
    assert!(output.stdout == bytes, "another archive the second time");
    fs::remove_file(sandbox.path("out.tar")).expect("it can be removed");
    bytes
}

/// A new store has from an archive what the first one has.
#[track_caller]
fn assert_comes_back(sandbox: &Sandbox, archive: &[u8]) {
    let other = Sandbox::new();
    other.run(&["import", &other.write("archive", archive)]).lines();
    // But for the records, which say when they were made.
    let kept = |sandbox: &Sandbox| {
        let mut files = files(&sandbox.root().join("images"));
        files.extend(self::files(&sandbox.root().join("layers")));
        files.retain(|name, _| {
            !name.ends_with("record.json") && (name.starts_with("names/") || !name.ends_with("json"))
        });
        files
    };
    assert!(kept(&other) == kept(sandbox), "{:?} and not {:?}", kept(&other).keys(), kept(sandbox).keys());
}

#[test]
fn an_archive_is_a_docker_archive_and_an_oci_layout_in_one() {
    let images = images();
    let sandbox = imported(&images);
    let bytes = saved(&sandbox, &["sample:1", "base:2"]);
    let members = members(&bytes);
    check_docker(&members, &images);
    check_oci(&members, &images, "");
    // Its form is Docker's: a layer is named by its diffID, also where it stands.
    let manifest = json_of(&members, "manifest.json");
    let diff_id = sha256(&images[0].layers[0]);
    assert_eq!(manifest[0]["Layers"][0], format!("blobs/sha256/{diff_id}"));
    let source = &manifest[0]["LayerSources"][format!("sha256:{diff_id}")];
    assert_eq!(source["mediaType"], "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(source["size"], images[0].layers[0].len());
    assert_comes_back(&sandbox, &bytes);
}

#[test]
fn either_form_alone() {
    let images = images();
    let sandbox = imported(&images);
    let docker = saved(&sandbox, &["--docker", "sample:1", "localhost/base:2"]);
    check_docker(&members(&docker), &images);
    assert!(members(&docker).keys().all(|name| !name.starts_with("blobs") && name != "index.json"));
    assert_comes_back(&sandbox, &docker);
    let oci = saved(&sandbox, &["--oci", "sample:1"]);
    check_oci(&members(&oci), &images[..1], "");
    assert!(!members(&oci).contains_key("manifest.json"));
    let one = imported(&images[..1]);
    assert_comes_back(&one, &oci);
    sandbox.run(&["save", "--oci", "--docker", "sample:1"]).assert_refused_by_clap();
}

impl Output {
    #[track_caller]
    fn assert_refused_by_clap(&self) {
        assert_eq!((self.code, self.stdout.as_str()), (2, ""), "{self:?}");
    }
}

#[test]
fn compressed_layers() {
    let images = images();
    let sandbox = imported(&images);
    for codec in ["gzip", "zstd"] {
        let bytes = saved(&sandbox, &["--compress", codec, "sample:1", "base:2"]);
        check_oci(&members(&bytes), &images, &format!("+{codec}"));
        assert_comes_back(&sandbox, &bytes);
        // A docker-archive's layers may be compressed too.
        assert_comes_back(&sandbox, &saved(&sandbox, &["--docker", "--compress", codec, "sample:1", "base:2"]));
    }
}

#[test]
fn a_layout_in_a_directory() {
    let images = images();
    let sandbox = imported(&images);
    for (place, compress, suffix) in [("new/", "none", ""), ("there", "gzip", "+gzip")] {
        if place == "there" {
            fs::create_dir(sandbox.path(place)).unwrap();
        }
        let words = ["save", "--compress", compress, "-o", place, "sample:1", "base:2"];
        assert!(sandbox.run(&words).lines().is_empty());
        let first = files(&sandbox.path(place));
        check_oci(&first, &images, suffix);
        let other = Sandbox::new();
        let ids = other.run(&["import", sandbox.path(place).to_str().unwrap()]);
        assert_eq!(ids.lines(), images.iter().map(|image| format!("sha256:{}", image.id())).collect::<Vec<_>>());
        // Not into what is there, and nothing beside it.
        sandbox.run(&words).assert_refused(125, &[place, "not empty"]);
        assert!(files(&sandbox.path(place)) == first);
    }
    sandbox.run(&["save", "--docker", "-o", "other/", "sample:1"]).assert_refused(2, &["other/", "directory"]);
    let names: Vec<_> = fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "in.tar, store, new, there: {names:?}");
}

#[test]
fn only_names_that_were_asked_for_are_in_an_archive() {
    let sandbox = Sandbox::new();
    let mut image = single("named");
    image.names = vec!["named:1".into(), "named:2".into()];
    let archive = sandbox.write("in.tar", &docker_since_25(from_ref(&image)).tar());
    sandbox.run(&["import", &archive]).lines();
    let tags = |words: &[&str]| json_of(&members(&saved(&sandbox, words)), "manifest.json")[0]["RepoTags"].clone();
    assert_eq!(tags(&["named:2"]), json!(["named:2"]));
    assert_eq!(tags(&["named:2", "named:1", "named:2", &image.id()]), json!(["named:2", "named:1"]));
    let members = members(&saved(&sandbox, &[&image.id()[..12]]));
    assert_eq!(json_of(&members, "manifest.json")[0]["RepoTags"], Value::Null);
    assert_eq!(json_of(&members, "index.json")["manifests"][0].get("annotations"), None);
    assert!(!members.contains_key("repositories"));
}

/// A header of a tar and what follows it, padded with `fill`.
fn raw(kind: u8, name: &[u8], size: usize, content: &[u8], fill: u8, change: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    header.set_size(size as u64);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    change(header.as_mut_bytes());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), fill);
    bytes
}

/// A tar in which is all that is seldom in one.
fn odd_layer() -> Vec<u8> {
    let file = |name: &str, content: &[u8]| raw(b'0', name.as_bytes(), content.len(), content, 0, |_| {});
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(120));
    let global = b"30 comment=said of everything\n";
    let record = |text: &str| {
        let mut length = text.len() + 2;
        while length.to_string().len() + text.len() + 2 != length {
            length = length.to_string().len() + text.len() + 2;
        }
        format!("{length} {text}\n")
    };
    let octal = |value: usize| format!("{value:011o}\0").into_bytes();
    let sparse = |map: &[(usize, usize)], size: usize| {
        let map: Vec<u8> = map.iter().flat_map(|(at, length)| [octal(*at), octal(*length)].concat()).collect();
        move |header: &mut [u8; 512]| {
            header[386..386 + map.len()].copy_from_slice(&map);
            header[483..495].copy_from_slice(&octal(size));
        }
    };
    let pax_map = [&b"1\n512\n512\n"[..], &[0; 502]].concat();
    let pax = |name: &str| {
        let name = record(&format!("GNU.sparse.name={name}"));
        let rest = [record("GNU.sparse.major=1"), record("GNU.sparse.minor=0"), record("GNU.sparse.realsize=2048")];
        format!("{name}{}", rest.concat()).into_bytes()
    };
    let pax = pax("new-sparse");
    [
        raw(b'g', b"pax_global_header", global.len(), global, 0, |_| {}),
        file("twice", b"the first\n"),
        file("twice", b"the second one\n"),
        file("link-target", b"x"),
        raw(b'1', b"link", 0, b"", 0, |header| header[157..168].copy_from_slice(b"link-target")),
        file("link-target", b"another file by now"),
        // A long name of GNU tar, with more zeros at its end than there must be.
        raw(b'L', b"././@LongLink", long.len() + 3, &[long.as_bytes(), &[0; 3]].concat(), 0, |_| {}),
        file("cut", b"long\n"),
        // Padding that is not zero, numbers that are not octal, a sum that is written as nobody does.
        raw(b'0', b"odd", 5, b"odd\n\n", 0xAA, |header| {
            header[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 9]);
            header[257..265].copy_from_slice(b"ustar\0ab");
            header[500..512].fill(b'z');
        }),
        // Sparse as GNU tar made it first, and as it does in PAX now.
        raw(b'S', b"old-sparse", 1024, &[[1; 512], [2; 512]].concat(), 0, sparse(&[(0, 512), (4096, 512)], 4608)),
        raw(b'S', b"all-hole", 0, b"", 0, sparse(&[(9999, 0)], 9999)),
        raw(b'x', b"pax", pax.len(), &pax, 0, |_| {}),
        raw(b'0', b"GNUSparseFile/new", 1024, &[&pax_map[..], &[3; 512]].concat(), 0, |_| {}),
        raw(b'7', b"contiguous", 3, b"abc", 0, |_| {}),
        vec![0; 1024],
        // After the end, and no whole block.
        b"what others left".repeat(100),
    ]
    .concat()
}

#[test]
fn every_odd_tar_comes_back_bit_for_bit() {
    let layers = vec![odd_layer(), Tar::new().finish(), vec![0; 512], odd_layer()];
    for pack in [<[u8]>::to_vec, gzip] {
        let image = Image::new("amd64", layers.clone(), &["odd:1"]);
        let sandbox = Sandbox::new();
        let archive = sandbox.write("in.tar", &oci_packed(&image, pack).tar());
        sandbox.run(&["import", &archive]).lines();
        check_docker(&members(&saved(&sandbox, &["odd:1"])), from_ref(&image));
        check_oci(&members(&saved(&sandbox, &["--oci", "--compress", "zstd", "odd:1"])), from_ref(&image), "+zstd");
    }
}
