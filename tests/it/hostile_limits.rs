//! Group 13 of [`hostile`](super::hostile): what asks for too much, and what asks for just as much as it may.

use std::io::Write as _;

use flate2::write::GzEncoder;

use super::archives::{podman, single};
use super::generator::{Image, docker_since_25};
use super::hostile::World;
use super::hostile_tar::{Raw, pax};

/// That a layer is taken with this limit, and refused with one that is less by one.
#[track_caller]
fn just(world: &World, limit: &str, value: u64, layer: &[u8], entry: &str, why: &str) {
    let image = Image::new("amd64", vec![layer.to_vec()], &["just:1"]);
    let archive = docker_since_25(std::slice::from_ref(&image)).tar();
    let (allowed, less) = (format!("{limit}={value}"), format!("{limit}={}", value - 1));
    let hint = format!("(`--limit {limit}=` allows more)");
    world.refuses_with(&less, layer, &["--limit", &less], entry, why);
    world.refuses_with(&less, layer, &["--limit", &less], entry, &hint);
    assert_eq!(world.import(&allowed, &archive, &["--limit", &allowed]).lines().len(), 1, "{allowed}");
    world.sandbox.run(&["rmi", "just:1"]).lines();
    world.import(&allowed, layer, &["--limit", &allowed, "-t", "just"]).lines();
    world.sandbox.run(&["rmi", "just"]).lines();
}

#[test]
fn each_limit_is_met_and_passed() {
    let world = World::new();
    let four = Raw::new().dir("a").file("a/b", b"x").file(".wh.c", b"").file("d", b"").end();
    just(&world, "entries", 4, &four, "d: ", "has more than 3 entries");
    // Directories that no entry tells of count too: a path of some kilobytes has thousands of them.
    let deep = Raw::new().file("a/b/c/d", b"x").file("a/b/e/f", b"x").end();
    just(&world, "entries", 6, &deep, "a/b/e/f: ", "has more than 5 entries, with the directories that have none");
    let deep = Raw::new().file("a/b/c/d", b"x").end();
    just(&world, "depth", 4, &deep, "a/b/c/d: ", "is more than 3 directories deep");
    just(&world, "path", 7, &deep, "a/b/c/d: ", "has a path of more than 6 bytes");
    // With the two blocks at its end.
    let file = Raw::new().file("before", b"").file("f", &[b'x'; 1000]).end();
    just(&world, "layer", 3072, &file, "f: ", "unpacks to more than 3071 bytes");
    let large = Raw::new().file("before", b"").file("f", &[b'x'; 5000]).file("after", b"").end();
    let less = ["--limit", "layer=4k"];
    world.refuses_with("a file that is too large", &large, &less, "f: ", "unpacks to more than 4k bytes");
    // What follows the end counts, too.
    let tail = [Raw::new().file("f", b"").end(), vec![0; 100_000]].concat();
    just(&world, "layer", 101_536, &tail, "f: ", "unpacks to more than 101535 bytes");
    let attributes = Raw::new().pax(&[("SCHILY.xattr.user.x", &[b'v'; 94])]).file("f", b"").end();
    just(&world, "xattrs", 100, &attributes, "f: ", "has more than 99 bytes of extended attributes");
    // Of all entries together: `before`, `f`, `user.x` and its value, `l` and its target.
    let attributes = Raw::new().file("before", b"").pax(&[("SCHILY.xattr.user.x", &[b'v'; 94])]).file("f", b"");
    let attributes = attributes.link("l", "target").end();
    just(&world, "index", 114, &attributes, "l: ", "whose paths, links and attributes are more than 113 bytes");
    let body = pax(&[("path", &[b'n'; 150])]);
    let named = Raw::new().extended(b'x', &body).file("f", b"").end();
    just(&world, "headers", body.len() as u64, &named, "././@Extended: ", "bytes of extended headers");
    let long = Raw::new().extended(b'L', &[b'n'; 150]).file("f", b"").end();
    just(&world, "headers", 150, &long, "././@Extended: ", "bytes of extended headers");
    let global = Raw::new().extended(b'g', &pax(&[("comment", &[b'n'; 130])])).file("f", b"").end();
    just(&world, "headers", 143, &global, "././@Extended: ", "bytes of extended headers");
    let sparse = [("GNU.sparse.map", &b"0,1,10,1,20,1"[..]), ("GNU.sparse.size", b"30")];
    let sparse = Raw::new().pax(&sparse).file("s", b"abc").end();
    just(&world, "extents", 3, &sparse, "s: ", "has more than 2 regions in its sparse map");
    // Holes count as what they are: 27 bytes.
    just(&world, "layer", 3072 + 27, &sparse, "s: ", "unpacks to more than");
}

#[test]
fn the_layers_of_an_archive_have_one_limit_together() {
    let world = World::new();
    let layers: Vec<Vec<u8>> =
        (b'a'..b'e').map(|name| Raw::new().file(&char::from(name).to_string(), &[name; 1000]).end()).collect();
    let image = Image::new("amd64", layers, &["four:1"]);
    let archive = docker_since_25(std::slice::from_ref(&image)).tar();
    let words = ["blobs/sha256/", "with the layers before it", "`--limit total=` allows more"];
    world.refuses_archive("in all", &archive, &["--limit", "total=10239"], &words);
    world.import("in all", &archive, &["--limit", "total=10k"]).lines();
    // What the store has is not unpacked.
    world.import("again", &archive, &["--limit", "total=1"]).lines();
}

#[test]
fn documents_have_limits() {
    let world = World::new();
    let image = single("x");
    let docker = podman(std::slice::from_ref(&image), <[u8]>::to_vec);
    let config = format!("{}.json", image.id());
    let manifest = docker.clone().content("manifest.json").len();
    let largest = manifest.max(image.config.len());
    let name = if manifest > image.config.len() { "manifest.json" } else { &config };
    let less = format!("document={}", largest - 1);
    let words = [name, "is too large for a document", "`--limit document=` allows more"];
    world.refuses_archive("a large document", &docker.tar(), &["--limit", &less], &words);
    let exactly = format!("document={largest}");
    world.import("a document", &docker.tar(), &["--limit", &exactly]).lines();
    let all = manifest + image.config.len();
    let words = ["has too many documents", "`--limit documents=` allows more"];
    let less = format!("documents={}", all - 1);
    let path = world.sandbox.write("layer.archive", &docker.tar());
    world.sandbox.run(&["import", &path, "--limit", &less]).assert_refused(125, &words);
    world.import("all documents", &docker.tar(), &["--limit", &format!("documents={all}")]).lines();
    let long = docker.with("manifest.json", |content| content.resize(5 << 20, b' ')).tar();
    world.refuses_archive("by default", &long, &[], &["manifest.json", "more than 4m bytes"]);
    world.import("if wanted", &long, &["--limit", "document=20m"]).lines();
}

/// A tar of one file of so many megabytes of zeros, compressed.
fn zeros(megabytes: u64, mut write: impl FnMut(&[u8])) {
    let mut header = tar::Header::new_ustar();
    header.set_path("dev/zero").expect("it is short");
    header.set_mode(0o644);
    header.set_size(megabytes << 20);
    header.set_cksum();
    write(header.as_bytes());
    (0..megabytes).for_each(|_| write(&[0; 1 << 20]));
    write(&[0; 1024]);
}

fn gzip_of_zeros(megabytes: u64) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    zeros(megabytes, |bytes| encoder.write_all(bytes).expect("memory takes all"));
    encoder.finish().expect("memory takes all")
}

#[test]
fn what_is_far_larger_than_it_came_is_refused() {
    let world = World::new();
    let bomb = gzip_of_zeros(400);
    assert!(bomb.len() < 4 << 20, "{}", bomb.len());
    let words = ["dev/zero: ", "is more than 100 times as large as it came compressed", "`--limit ratio=` allows more"];
    world.refuses_archive("a root file system", &bomb, &[], &words);
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("it starts");
    zeros(400, |bytes| zstd.write_all(bytes).expect("memory takes all"));
    world.refuses_archive("in zstd", &zstd.finish().expect("memory takes all"), &[], &words);
    // As a layer, in a plain archive and in a compressed one.
    let image = single("x");
    let layer = format!("{}.tar", super::generator::sha256(&image.layers[0]));
    let archive = podman(std::slice::from_ref(&image), <[u8]>::to_vec).with(&layer, |content| *content = bomb.clone());
    world.refuses_archive("a layer", &archive.tar(), &[], &[&[&*layer], &words[..]].concat());
    // A plain layer of a compressed archive.
    let mut plain = Vec::new();
    zeros(300, |bytes| plain.extend_from_slice(bytes));
    let archive = podman(std::slice::from_ref(&image), <[u8]>::to_vec).with(&layer, |content| *content = plain).tar();
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&archive).expect("memory takes all");
    let packed = encoder.finish().expect("memory takes all");
    world.refuses_archive("an archive", &packed, &[], &[&[&*layer], &words[..]].concat());
    // Who wants it gets it, and some zeros are no bomb. They are a hole on disk.
    world.import("wanted", &bomb, &["--limit", "ratio=5000", "-t", "zeros"]).lines();
    world.sandbox.run(&["rmi", "zeros"]).lines();
    world.import("few", &gzip_of_zeros(200), &[]).lines();
}

#[test]
fn sparse_files_without_end_are_refused() {
    let world = World::new();
    let records = |size: &'static str| [("GNU.sparse.map", &b"0,1"[..]), ("GNU.sparse.size", size.as_bytes())];
    for size in ["9223372036854775807", "1000000000000"] {
        let layer = Raw::new().pax(&records(size)).file("lastlog", b"x").end();
        world.refuses(size, &layer, "lastlog: ", "unpacks to more than 64g bytes (`--limit layer=` allows more)");
    }
    // Many files that are large together.
    let many = (0..70)
        .fold(Raw::new(), |tar, number: u32| tar.pax(&records("1073741824")).file(&format!("f{number:02}"), b"x"));
    world.refuses("together", &many.end(), "f63: ", "unpacks to more than 64g bytes");
    let layer = Raw::new().pax(&records("1000000000000")).file("lastlog", b"x").end();
    world.import("wanted", &layer, &["--limit", "layer=2t,total=2t"]).lines();
}

#[test]
fn holes_of_many_layers_have_one_limit_together() {
    let world = World::new();
    // Each layer is a hole of a megabyte, which is a tar of nothing: as all are the same, one is unpacked, but of an
    // archive that has no diffIDs each is read to find out.
    let id = |number: usize| format!("{number:064x}");
    let sparse = [("GNU.sparse.map", &b"0,1"[..]), ("GNU.sparse.size", b"1048576")];
    let repositories = serde_json::json!({ "holes": { "1": id(8) } }).to_string();
    let archive = (1..=8).fold(Raw::new().file("repositories", repositories.as_bytes()), |tar, number| {
        let parent = if number > 1 { id(number - 1) } else { String::new() };
        let json = serde_json::json!({ "id": id(number), "parent": parent, "os": "linux", "architecture": "amd64" });
        let tar = tar.file(&format!("{}/json", id(number)), json.to_string().as_bytes());
        tar.pax(&sparse).file(&format!("{}/layer.tar", id(number)), &[0])
    });
    let archive = archive.end();
    assert!(archive.len() < 64 << 10, "{}", archive.len());
    let words = ["/layer.tar: ", "with the layers before it", "`--limit total=` allows more"];
    world.refuses_archive("holes", &archive, &["--limit", "total=4m"], &words);
    world.import("wanted", &archive, &["--limit", "total=32m"]).lines();
}

#[test]
fn limits_that_are_none() {
    let world = World::new();
    let path = world.sandbox.write("layer.archive", &Raw::new().file("f", b"x").end());
    for bad in ["layer", "layer=", "layer=0", "layer=-1", "layer=1x", "entries=1m", "nothing=1", "ratio=0"] {
        let output = world.sandbox.run(&["import", &path, "--limit", bad]);
        output.assert_refused(2, &[bad, "is no limit"]);
    }
}

#[test]
fn the_names_and_links_of_an_archive_end() {
    let world = World::new();
    let layer = Raw::new().file("f", b"x").end();
    let archive = docker_since_25(&[Image::new("amd64", vec![layer], &["a:1"])]).tar();
    // What links lead to is kept as long as the archive is read, and each may be of megabytes.
    let target = [b'/', b't'].repeat(1 << 19);
    let link = |tar: Raw, number: usize| tar.extended(b'K', &target).link(&format!("{number}.json"), "t");
    let links = |count: usize| [&(0..count).fold(Raw::new(), link).0[..], &archive].concat();
    let words = ["layer.archive: has more names and links than an archive of images needs"];
    world.import("many links", &links(66), &[]).assert_refused(125, &words);
    world.import("some links", &links(3), &[]).lines();
}
