//! Group 12 of [`hostile`](super::hostile): where tars and compressed streams end, and what follows.

use super::archives::{PACKS, podman};
use super::generator::{Image, gzip, sha256};
use super::hostile::World;
use super::hostile_tar::Raw;

#[test]
fn ends_that_are_missing_or_in_the_middle() {
    let world = World::new();
    let tar = Raw::new().file("a", &[b'a'; 700]);
    let whole = tar.clone().end();
    world.refuses("cut in the data", &whole[..900], "a: ", "is cut short");
    // One block of zeros, and then more entries: tools disagree on whether they are read.
    let lone = [&tar.0[..], &[0; 512], &Raw::new().file("b", b"b").end()].concat();
    world.refuses("a lone block of zeros", &lone, "", "lone block of zeros");
    let mut wrong = Raw::new().file("a", b"a").file("b", b"b").end();
    wrong[1024 + 5] ^= 1;
    world.refuses("a wrong checksum", &wrong, "", "wrong checksum");
    let shown = format!("f a {}", "a".repeat(700));
    world.takes("no end", std::slice::from_ref(&tar.0), &[&shown]);
    world.takes("cut in the padding", &[whole[..1300].to_vec()], &[&shown]);
    world.takes("half an end", &[[&tar.0[..], &[0; 512]].concat()], &[&shown]);
    world.takes("nothing but an end", &[vec![0; 1024]], &[]);
    // What follows the end is no entry for Docker, and is kept.
    for (what, tail) in [
        ("one byte", b"x".to_vec()),
        ("zeros", vec![0; 100_000]),
        ("garbage", vec![7; 100_001]),
        ("another tar", Raw::new().link("a", &world.outside("victim")).file("b", b"b").end()),
    ] {
        world.takes(&format!("{what} after the end"), &[[&whole[..], &tail].concat()], &[&shown]);
    }
}

/// A layer compressed in parts, as the only one of an archive that comes in a file or through a pipe.
#[test]
fn ends_of_compressed_streams() {
    let world = World::new();
    let layer = Raw::new().file("a", &[b'a'; 70_000]).end();
    let (first, second) = layer.split_at(40_001);
    let image = Image::new("amd64", vec![layer.clone()], &["packed:1"]);
    let name = format!("{}.tar", sha256(&layer));
    let archive = |blob: Vec<u8>| {
        podman(std::slice::from_ref(&image), <[u8]>::to_vec).with(&name, |content| *content = blob).tar()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("memory takes all");
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    let mut taken = vec![
        ("gzip members and zeros".to_owned(), [gzip(first), gzip(second), vec![0; 700]].concat()),
        ("an empty gzip member".to_owned(), [gzip(b""), gzip(&layer), gzip(b"")].concat()),
        ("zstd frames".to_owned(), [zstd(first), skipped.clone(), zstd(second)].concat()),
        ("a skipped frame first".to_owned(), [skipped, zstd(&layer)].concat()),
    ];
    for (word, pack) in &PACKS[1..] {
        taken.push((format!("two streams of {word}"), [pack(first), pack(second)].concat()));
    }
    for (what, blob) in taken {
        let output = world.import(&what, &archive(blob), &[]);
        assert_eq!(output.lines(), [format!("sha256:{}", image.id())], "{what}");
        world.sandbox.run(&["rmi", "packed:1"]).lines();
    }
    for (word, pack) in &PACKS[1..] {
        let packed = pack(&layer);
        let cut = packed[..packed.len() - 9].to_vec();
        world.refuses_archive(&format!("{word} cut"), &archive(cut), &[], &[&name, "is cut short"]);
        let after = [packed.clone(), b"and more, which is no member".to_vec()].concat();
        world.refuses_archive(&format!("text after {word}"), &archive(after), &[], &[&name, "is damaged"]);
        let mut broken = packed;
        let middle = broken.len() / 2;
        broken[middle..middle + 20].fill(0xa5);
        world.refuses_archive(&format!("{word} broken"), &archive(broken), &[], &[&name]);
    }
    // Compressed twice it is no layer; nothing is unpacked until it is one.
    world.refuses_archive("gzip in gzip", &archive(gzip(&gzip(&layer))), &[], &[&name]);
}
